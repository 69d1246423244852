import { readFile } from 'node:fs/promises'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { type BearerFile, isToken } from './credentials.ts'
import type { Token } from './token-cache.ts'

/** The file is looked at again now and then, for somebody else keeps it up to date; what it held serves meanwhile. */
export function tokenInFile({ token }: Pick<BearerFile, 'token'>): Token {
  return { value: token, renewInMs: defaults.tokens.rereadMs, expiresInMs: Infinity }
}

/** Rejects with `upstream_unauthorized` and the reason, which holds no secret. */
export async function readBearerFile({ file }: Pick<BearerFile, 'file'>): Promise<Token> {
  try {
    const token = (await readFile(file, 'utf8')).trim()
    if (!isToken(token)) throw new Error('it holds no token, or more than one')
    return tokenInFile({ token })
  } catch (error) {
    throw new KnownError('upstream_unauthorized', `no token from bearer_file: ${errorMessage(error)}`)
  }
}

import { spawnSync } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, resolve } from 'node:path'

/** What a look-up through PATH came to. `EACCES` means that a file is there but must not be run. */
export type ExecutableLookup =
  { readonly kind: 'found'; readonly path: string } | { readonly kind: 'missing'; readonly code: 'ENOENT' | 'EACCES' }

/** The PATH that execvp(3) falls back to. */
const pathWithoutPath = '/bin:/usr/bin'

function look(path: string): ExecutableLookup {
  try {
    if (!statSync(path).isFile()) return { kind: 'missing', code: 'EACCES' }
    accessSync(path, constants.X_OK)
    return { kind: 'found', path }
  } catch (error) {
    const denied = error instanceof Error && 'code' in error && error.code === 'EACCES'
    return { kind: 'missing', code: denied ? 'EACCES' : 'ENOENT' }
  }
}

/**
 * Finds a command as execvp(3) would: a name with a slash is a path seen from `cwd`, any other is searched in `path`,
 * going on past files that must not be run.
 */
export function findExecutable(
  name: string,
  where: { path?: string | undefined; cwd?: string | undefined },
): ExecutableLookup {
  const cwd = where.cwd ?? process.cwd()
  if (name.includes('/')) return look(resolve(cwd, name))
  let missing: ExecutableLookup = { kind: 'missing', code: 'ENOENT' }
  if (name === '') return missing
  for (const folder of (where.path ?? pathWithoutPath).split(delimiter)) {
    const found = look(resolve(cwd, folder, name))
    if (found.kind === 'found') return found
    if (found.code === 'EACCES') missing = found
  }
  return missing
}

/**
 * The `setpriv` (util-linux) that can tie a child's life to ours, if this machine has one. It is tried out, because
 * busybox has a `setpriv` that does not know `--pdeathsig`. Blocks for some milliseconds: call it once.
 */
export function findSetpriv(path: string | undefined = process.env['PATH']): string | undefined {
  if (process.platform !== 'linux') return undefined
  const found = findExecutable('setpriv', { path })
  if (found.kind === 'missing') return undefined
  const trial = spawnSync(found.path, ['--pdeathsig', 'KILL', '--', 'true'], { stdio: 'ignore' })
  return trial.status === 0 ? found.path : undefined
}

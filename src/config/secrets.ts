import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { errorMessage } from '../errors.ts'
import { type Credentials, type PrivateKey, type SigningAlgorithm, isToken } from '../upstreams/credentials.ts'
import type { TlsSettings } from '../upstreams/upstream.ts'
import type { AlertSecrets, AuthConfig } from './config.ts'
import type { Problem } from './problem.ts'
import { besideFile } from './resolve.ts'
import type { AlertsEntry, FileConfig, UpstreamEntry } from './schema.ts'
import { type Path, placeOf, type Tree } from './tree.ts'

export type ReadFile = (path: string) => string

/** What the files hold that a configuration names. */
export interface Secrets {
  readonly auth: AuthConfig
  readonly adminAuth: AuthConfig
  readonly alerts: AlertSecrets
  /** By the name of the upstream. */
  readonly upstreams: ReadonlyMap<string, UpstreamSecrets>
  readonly problems: readonly Problem[]
  readonly files: readonly string[]
}

export interface UpstreamSecrets {
  readonly credentials?: Credentials | undefined
  readonly tls?: TlsSettings | undefined
}

/** Reads every file that a configuration names, once, and checks what it holds. */
export function readSecrets(file: FileConfig, tree: Tree, readFile: ReadFile): Secrets {
  const reader = new SecretReader(tree, readFile)
  const auth = authOf(reader.read(['auth', 'bearer_file'], file.auth?.bearer_file, token))
  const adminAuth = authOf(reader.read(['admin_auth', 'bearer_file'], file.admin_auth?.bearer_file, token))
  const alerts = alertSecrets(reader, file.alerts ?? {})
  const upstreams = new Map(
    Object.entries(file.mcpServers ?? {}).map(([name, entry]) => [name, upstreamSecrets(reader, name, entry)]),
  )
  return { auth, adminAuth, alerts, upstreams, problems: reader.problems, files: reader.files }
}

function alertSecrets(reader: SecretReader, alerts: AlertsEntry): AlertSecrets {
  const of = (key: keyof AlertSecrets) =>
    authOf(reader.read(['alerts', key, 'bearer_file'], alerts[key]?.bearer_file, token))
  return { alertmanager: of('alertmanager'), webhook: of('webhook'), receive: of('receive') }
}

function authOf(bearerToken: string | undefined): AuthConfig {
  return bearerToken === undefined ? {} : { bearerToken }
}

function upstreamSecrets(reader: SecretReader, name: string, { auth, tls }: UpstreamEntry): UpstreamSecrets {
  const path = ['mcpServers', name]
  const credentials = auth && credentialsOf(reader, [...path, 'auth'], auth)
  if (!tls) return { credentials }
  const ca = reader.read([...path, 'tls', 'ca_file'], tls.ca_file, certificates)
  const cert = reader.read([...path, 'tls', 'cert_file'], tls.cert_file, certificates)
  const key = reader.read([...path, 'tls', 'key_file'], tls.key_file, (text) => privateKey(text, cert))
  return { credentials, tls: { ca, cert, key, servername: tls.servername } }
}

function credentialsOf(
  reader: SecretReader,
  path: Path,
  { bearer_file, oauth }: NonNullable<UpstreamEntry['auth']>,
): Credentials | undefined {
  const bearer = reader.find([...path, 'bearer_file'], bearer_file, token)
  if (bearer) return { kind: 'bearer_file', file: bearer.file, token: bearer.taken }
  if (!oauth) return undefined
  const at = [...path, 'oauth']
  const secret = reader.read([...at, 'client_secret_file'], oauth.client_secret_file, clientSecret)
  const signer = reader.find([...at, 'private_key_file'], oauth.private_key_file, signingKey)?.taken
  const proof = signer ?? (secret === undefined ? undefined : ({ kind: 'secret', secret } as const))
  // What is missing is a problem that is told elsewhere.
  if (!proof || oauth.client_id === undefined || oauth.issuer === undefined) return undefined
  const { client_id: clientId, issuer, scope } = oauth
  return { kind: 'client_credentials', clientId, issuer, proof, ...(scope !== undefined && { scope }) }
}

/** Gives what is wrong with a text, or what to take from it. */
type Check<T = string> = (text: string) => { readonly fault: string } | { readonly taken: T }

class SecretReader {
  readonly problems: Problem[] = []
  readonly files: string[] = []
  readonly #tree: Tree
  readonly #readFile: ReadFile

  constructor(tree: Tree, readFile: ReadFile) {
    this.#tree = tree
    this.#readFile = readFile
  }

  read(path: Path, name: string | undefined, check: Check): string | undefined {
    return this.find(path, name, check)?.taken
  }

  /** What was taken, and the file that it stood in. */
  find<T>(path: Path, name: string | undefined, check: Check<T>): { file: string; taken: T } | undefined {
    if (name === undefined) return undefined
    const place = placeOf(this.#tree, path)
    const found = besideFile(place.file, name)
    this.files.push(found)
    const read = tryRead(found, this.#readFile)
    const checked = read.kind === 'read' ? check(read.text) : { fault: `the file ${read.reason}` }
    if ('taken' in checked) return { file: found, taken: checked.taken }
    this.problems.push({ place, path, message: checked.fault })
    return undefined
  }
}

/** A token goes into a header as one word (RFC 6750 §2.1). */
function token(text: string): ReturnType<Check> {
  const taken = text.trim()
  if (taken === '') return { fault: 'the file is empty; it should hold the token' }
  if (isToken(taken)) return { taken }
  return { fault: 'the file holds more than one token of visible ASCII characters' }
}

function clientSecret(text: string): ReturnType<Check> {
  const taken = text.trim()
  if (taken === '') return { fault: 'the file is empty; it should hold the secret' }
  return isToken(taken) ? { taken } : { fault: 'the file holds more than one word of visible ASCII characters' }
}

/** By the curve of the key (RFC 7518 §3.4), as OpenSSL calls it. */
const curveAlgorithms: Readonly<Record<string, SigningAlgorithm>> = {
  prime256v1: 'ES256',
  secp384r1: 'ES384',
  secp521r1: 'ES512',
}

function signingKey(text: string): ReturnType<Check<PrivateKey>> {
  const key = attempt(() => createPrivateKey(text))
  if (!key) return { fault: 'the file holds no private key in PEM form, or one with a passphrase' }
  const curve = key.asymmetricKeyDetails?.namedCurve ?? ''
  const algorithm = key.asymmetricKeyType === 'rsa' ? 'RS256' : curveAlgorithms[curve]
  if (!algorithm) return { fault: 'the file holds a key that is neither RSA nor on the curve P-256, P-384 or P-521' }
  return { taken: { kind: 'private_key', pem: key.export({ type: 'pkcs8', format: 'pem' }).toString(), algorithm } }
}

function certificates(text: string): ReturnType<Check> {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g)
  const areSound = blocks?.every((block) => attempt(() => new X509Certificate(block)) !== undefined)
  return areSound === true ? { taken: text } : { fault: 'the file holds no certificate in PEM form, or a damaged one' }
}

function privateKey(text: string, cert: string | undefined): ReturnType<Check> {
  const key: KeyObject | undefined = attempt(() => createPrivateKey(text))
  if (!key) return { fault: 'the file holds no private key in PEM form, or one with a passphrase' }
  if (cert === undefined || new X509Certificate(cert).checkPrivateKey(key)) return { taken: text }
  return { fault: 'the file holds another key than that of cert_file' }
}

/** Undefined stands for whatever OpenSSL has to say, which nobody understands. */
function attempt<T>(run: () => T): T | undefined {
  try {
    return run()
  } catch {
    return undefined
  }
}

/** A file's text, or why there is none. */
export function tryRead(
  file: string,
  readFile: ReadFile,
): { kind: 'read'; text: string } | { kind: 'failed'; reason: string } {
  try {
    return { kind: 'read', text: readFile(file) }
  } catch (error) {
    return { kind: 'failed', reason: `cannot be read: ${readReason(error)}` }
  }
}

/** The system's words without the path behind them: what was taken for a path may be a token. */
function readReason(error: unknown): string {
  return errorMessage(error)
    .replace(/^[A-Z]+: /, '')
    .replace(/, .*$/s, '')
}

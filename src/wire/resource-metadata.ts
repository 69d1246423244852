import { splice } from './envelope.ts'
import { type Member, Scanner, unescaped } from './scanner.ts'

/** The path under which an origin tells how its resources are protected (RFC 9728 §3). */
export const resourceMetadataPath = '/.well-known/oauth-protected-resource'

/** The same for an authorization server (RFC 8414 §3). */
export const serverMetadataPath = '/.well-known/oauth-authorization-server'

const member = (key: string): Member => ({ key, bytes: Buffer.from(key), members: [], slot: 0 })
const inMetadata = { ...member(''), members: [member('resource')], slot: 1 }
const inServerMetadata = { ...member(''), members: [member('issuer')], slot: 1 }

/** Where the metadata of a resource is, unless its server says otherwise: the most specific place first (RFC 9728 §3.1). */
export function metadataPaths({ pathname }: URL): readonly string[] {
  const path = pathname.replace(/\/$/, '')
  return path === '' ? [resourceMetadataPath] : [resourceMetadataPath + path, resourceMetadataPath]
}

/**
 * Protected resource metadata in which `resource` names the address that the client uses, when what stands there is the
 * server's own, or a part of its site that includes it. Anything else would be refused by a client of the server itself
 * (RFC 9728 §3.3), so it stays for the client to refuse. No other byte changes.
 */
export function withResource(metadata: Buffer, { from, to }: { readonly from: URL; readonly to: URL }): Buffer {
  const token = stringIn(metadata, inMetadata)
  if (!token || !covers(token.text, from)) return metadata
  return splice(metadata, [{ range: token.range, text: JSON.stringify(to.href) }])
}

/** Who an authorization server's metadata says that it is. */
export function issuerOf(metadata: Buffer): string | undefined {
  return stringIn(metadata, inServerMetadata)?.text
}

function stringIn(text: Buffer, root: Member) {
  const scanner = new Scanner(root)
  scanner.push(text)
  const scanned = scanner.end()
  const token = scanned?.kind === 'object' ? scanned.found[0] : undefined
  if (token?.kind !== 'string' || !token.isWhole) return undefined
  const meant = unescaped(token.text)
  return meant === undefined ? undefined : { text: meant, range: { start: token.start, end: token.end } }
}

function covers(resource: string, url: URL): boolean {
  if (!URL.canParse(resource)) return false
  const { origin, pathname } = new URL(resource)
  const below = (path: string) => (path.endsWith('/') ? path : `${path}/`)
  return origin === url.origin && below(url.pathname).startsWith(below(pathname))
}

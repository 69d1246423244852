import { type Member, Scanner } from './scanner.ts'

const openBrace = 0x7b

function member(slot: number, key: string, members: readonly Member[] = []): Member {
  return { key, bytes: Buffer.from(key), members, slot }
}

const version = member(0, 'io.modelcontextprotocol/protocolVersion')
const capabilities = member(1, 'io.modelcontextprotocol/clientCapabilities')
const root = member(4, '', [member(3, 'params', [member(2, '_meta', [version, capabilities])])])

/**
 * Whether a request says in its `_meta` what each request of 2026-07-28 has to say: the revision and the capabilities of
 * its client (MCP 2026-07-28, Lifecycle; `clientInfo` may be absent).
 */
export function isWholeClaim(request: Buffer): boolean {
  const scanner = new Scanner(root)
  scanner.push(request)
  const scanned = scanner.end()
  if (scanned?.kind !== 'object') return false
  const declared = scanned.found[capabilities.slot]
  const isObject = declared?.kind === 'container' && request[declared.start] === openBrace
  return isObject && scanned.found[version.slot]?.kind === 'string'
}

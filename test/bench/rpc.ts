/** The messages of the benchmark's clients, and the headers that go with them. */

export const legacyHeaders = ['MCP-Protocol-Version: 2025-11-25']
export const modernHeaders = ['MCP-Protocol-Version: 2026-07-28', 'Mcp-Method: tools/call', 'Mcp-Name: echo']

/** A tool call whose answer is to have that many bytes. */
export function legacyCall(id: number, bytes: number, tool = 'echo'): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: tool, arguments: { bytes } } })
}

/** The same as 2026-07-28 has it. */
export function modernCall(id: number, bytes: number): string {
  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1.0.0' },
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  const params = { name: 'echo', arguments: { bytes }, _meta: meta }
  return JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params })
}

export const initialize = JSON.stringify({
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1.0.0' } },
})
export const initialized = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })

/** Opens a session of a legacy revision; gives the headers that its requests need. */
export async function openSession(url: string): Promise<readonly string[]> {
  const base = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
  const opened = await fetch(url, { method: 'POST', headers: base, body: initialize })
  const text = await opened.text()
  if (!opened.ok) throw new Error(`${url} answered initialize with ${opened.status}: ${text.slice(0, 200)}`)
  const session = opened.headers.get('mcp-session-id')
  const extra = session === null ? [] : [['mcp-session-id', session] as const]
  const headers = { ...base, 'mcp-protocol-version': '2025-11-25', ...Object.fromEntries(extra) }
  await (await fetch(url, { method: 'POST', headers, body: initialized })).text()
  return [...legacyHeaders, ...extra.map(([name, value]) => `${name}: ${value}`)]
}

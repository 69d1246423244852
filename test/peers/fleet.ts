/**
 * Many MCP servers in one process, each on a port of its own: in turn a legacy one with sessions and one of 2026-07-28.
 *
 * `SERVERS=1000 node test/peers/fleet.ts` prints `{"msg":"listening","url":…}`. GET there tells of each server its URL
 * and when it was sent a heartbeat, opening exchanges not counted, in milliseconds of one clock.
 */
import { createServer } from 'node:http'
import { listenOn, mcpServer, sendJson } from '../support/mcp-server.ts'

/** What GET answers. */
export type FleetReport = readonly { readonly url: string; readonly beatsMs: readonly number[] }[]

/** What it is asked again and again; that of a modern server is also its opening exchange. */
const legacy = { era: 'legacy', beat: 'POST ping', openings: 0 } as const
const modern = { era: 'modern', beat: 'POST server/discover', openings: 1 } as const

const servers = await Promise.all(
  Array.from({ length: Number(process.env.SERVERS ?? 1) }, async (_, index) => {
    const kind = index % 2 === 0 ? legacy : modern
    return { ...kind, server: await mcpServer({ era: kind.era }) }
  }),
)
const control = createServer((_request, response) => {
  const report: FleetReport = servers.map(({ server: { url, heard }, beat, openings }) => ({
    url,
    beatsMs: heard.flatMap(({ what, atMs }) => (what === beat ? [atMs] : [])).slice(openings),
  }))
  sendJson(response, 200, report)
})
console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${await listenOn(control)}/` }))

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))

/**
 * An MCP server on SDK v2 that passes the official conformance suite in both eras at one endpoint: legacy requests get
 * sessions, a GET stream and resumption; modern ones get a fresh server object each.
 *
 * `PORT=0 node test/peers/everything-v2.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/mcp"}`.
 */
import { createMcpHandler, type McpHttpHandler } from '@modelcontextprotocol/server'
import type { ChangeSwitches } from './everything-modern.ts'
import { legacyEverything, modernEverything, registerExtraPrompt, registerExtraTool } from './everything-server.ts'
import { serveHttp } from './serve-http.ts'

/** Serves every modern request with a new server object; what the lists hold outlives the request. */
function modernHandler(): McpHttpHandler {
  let extraTool = false
  let extraPrompt = false
  const changes: ChangeSwitches = {
    toggleTool: () => {
      extraTool = !extraTool
      handler.notify.toolsChanged()
    },
    togglePrompt: () => {
      extraPrompt = !extraPrompt
      handler.notify.promptsChanged()
    },
  }
  const handler = createMcpHandler(
    () => {
      const server = modernEverything(changes)
      if (extraTool) registerExtraTool(server)
      if (extraPrompt) registerExtraPrompt(server)
      return server
    },
    { legacy: 'reject' },
  )
  return handler
}

serveHttp({ legacy: legacyEverything, modern: modernHandler() })

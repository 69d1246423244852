/** The server object of the conformance fixture, whatever transport it is then connected to. */
import { McpServer } from '@modelcontextprotocol/server'
import { registerCatalog, textResult } from './everything-catalog.ts'
import { registerLegacy } from './everything-legacy.ts'
import { registerModern, stateCodec, type ChangeSwitches } from './everything-modern.ts'

/** Serves one legacy session. */
export function legacyEverything(): McpServer {
  const server = bareServer()
  registerCatalog(server)
  registerLegacy(server)
  return server
}

/** Serves modern requests: one on HTTP, all of a connection on stdio. */
export function modernEverything(changes: ChangeSwitches): McpServer {
  const server = bareServer()
  registerCatalog(server)
  registerModern(server, changes)
  return server
}

/** The tool that comes and goes; the result takes it away again. */
export function registerExtraTool(server: McpServer): { remove(): void } {
  return server.registerTool('test_extra', { description: 'Comes and goes.' }, () => textResult('here'))
}

/** The prompt that comes and goes; the result takes it away again. */
export function registerExtraPrompt(server: McpServer): { remove(): void } {
  return server.registerPrompt('test_extra', { description: 'Comes and goes.' }, () => ({ messages: [] }))
}

function bareServer(): McpServer {
  const listChanged = true
  return new McpServer(
    { name: 'everything-v2', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged },
        prompts: { listChanged },
        resources: { listChanged, subscribe: true },
        completions: {},
        logging: {},
      },
      requestState: { verify: (state, ctx) => stateCodec.verify(state, ctx) },
    },
  )
}

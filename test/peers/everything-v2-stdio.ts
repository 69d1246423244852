/** The conformance fixture over stdio: both eras, one server object per process. */
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import type { McpServer } from '@modelcontextprotocol/server'
import { legacyEverything, modernEverything, registerExtraPrompt, registerExtraTool } from './everything-server.ts'

interface Registered {
  remove(): void
}

/** A process has one server object, so what the lists hold is changed in place, which tells its subscribers. */
function modernProcess(): McpServer {
  let tool: Registered | undefined
  let prompt: Registered | undefined
  const toggled = (registered: Registered | undefined, register: (server: McpServer) => Registered) => {
    registered?.remove()
    return registered ? undefined : register(server)
  }
  const server = modernEverything({
    toggleTool: () => {
      tool = toggled(tool, registerExtraTool)
    },
    togglePrompt: () => {
      prompt = toggled(prompt, registerExtraPrompt)
    },
  })
  return server
}

serveStdio(({ era }) => (era === 'legacy' ? legacyEverything() : modernProcess()))

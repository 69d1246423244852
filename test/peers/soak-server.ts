/**
 * The server of the soak test, over the transport that the first argument names: `stdio` and `http` in both eras,
 * `stdio-modern` in 2026-07-28 alone, `sse` in the legacy one. Every tool answers with the nonce that it was called
 * with, so that a crossed answer is seen. Further arguments only mark the process, but for `loses` and `crosses`, which
 * say what becomes of every echo.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  createMcpHandler,
  inputRequired,
  inputResponse,
  McpServer,
  type McpRequestContext,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { z } from 'zod'
import { serveHttp } from './serve-http.ts'
import { serveSse } from './serve-sse.ts'

const [transport = 'http', ...marks] = process.argv.slice(2)

const nonce = z.string()
const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

function soakServer(era: McpRequestContext['era']): McpServer {
  const server = new McpServer({ name: 'soak', version: '1.0.0' }, { capabilities: { tools: {}, logging: {} } })
  const echo = { description: 'Answers after a while.', inputSchema: z.object({ nonce, ms: z.number() }) }
  server.registerTool('echo', echo, async ({ nonce, ms }, { mcpReq }) => {
    await sleep(ms, undefined, { signal: mcpReq.signal })
    if (marks.includes('loses')) await new Promise(() => undefined)
    return text(marks.includes('crosses') ? 'of another' : nonce)
  })
  const progress = { description: 'Reports progress.', inputSchema: z.object({ nonce, steps: z.int() }) }
  server.registerTool('progress', progress, async ({ nonce, steps }, { mcpReq: { _meta, notify } }) => {
    const progressToken = _meta?.progressToken
    for (let step = 1; step <= steps; step++) {
      if (progressToken !== undefined) {
        const params = { progressToken, progress: step, total: steps, message: nonce }
        await notify({ method: 'notifications/progress', params })
      }
      await sleep(5)
    }
    return text(nonce)
  })
  const large = { description: 'Answers at length.', inputSchema: z.object({ nonce, bytes: z.int() }) }
  server.registerTool('large', large, ({ nonce, bytes }) => text(`${nonce}${'x'.repeat(bytes)}${nonce}`))
  const ask = { description: 'Asks the client, unrelated to any request of it if `aside`.' }
  const asked = { ...ask, inputSchema: z.object({ nonce, aside: z.boolean().default(false) }) }
  server.registerTool('ask', asked, ({ nonce, aside }, context) =>
    era === 'legacy' ? askLegacy(nonce, aside, context) : askModern(nonce, context),
  )
  server.registerTool(
    'say',
    { description: 'Says it in a log message as well.', inputSchema: echo.inputSchema },
    async ({ nonce }) => {
      await server.server.notification({ method: 'notifications/message', params: { level: 'info', data: nonce } })
      return text(nonce)
    },
  )
  server.registerTool('die', { description: 'Ends the process.' }, () => {
    process.kill(process.pid, 'SIGKILL')
    return text('dead')
  })
  return server
}

/** What the client is asked to repeat. */
const samplingOf = (nonce: string) => ({
  messages: [{ role: 'user' as const, content: { type: 'text' as const, text: nonce } }],
  maxTokens: 100,
})

const repeated = z.object({ content: z.object({ text: z.string() }) })
/** Less than the client waits, so that it can tell an answer that was lost from a question that was. */
const answerTimeoutMs = 100_000

/**
 * A question that names no request goes out on the client's GET stream (MCP 2025-11-25, Transports, "Listening for
 * Messages from the Server"), and this SDK loses it when there is none yet.
 */
async function askLegacy(nonce: string, aside: boolean, { mcpReq }: ServerContext) {
  const options = { timeout: answerTimeoutMs, ...(!aside && { relatedRequestId: mcpReq.id }) }
  return text(repeated.parse(await mcpReq.requestSampling(samplingOf(nonce), options)).content.text)
}

function askModern(nonce: string, { mcpReq }: ServerContext) {
  const answer = inputResponse(mcpReq.inputResponses, 'repeat')
  if (answer.kind === 'sampling') return text(repeated.parse(answer.result).content.text)
  return inputRequired({ inputRequests: { repeat: inputRequired.createMessage(samplingOf(nonce)) } })
}

const legacy = () => soakServer('legacy')
const serving: Readonly<Record<string, () => void>> = {
  stdio: () => void serveStdio(({ era }) => soakServer(era)),
  'stdio-modern': () => void serveStdio(({ era }) => soakServer(era), { legacy: 'reject' }),
  sse: () => serveSse(legacy),
  http: () => serveHttp({ legacy, modern: createMcpHandler(() => soakServer('modern'), { legacy: 'reject' }) }),
}
serving[transport]?.()

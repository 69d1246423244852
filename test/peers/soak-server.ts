/**
 * The server of the soak test, over the transport that the first argument names: `stdio`, `http` (both with both eras)
 * or `sse` (legacy). Every tool answers with the nonce that it was called with, so that a crossed answer is seen. Further
 * arguments only mark the process.
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

const nonce = z.string()
const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

function soakServer(era: McpRequestContext['era']): McpServer {
  const server = new McpServer({ name: 'soak', version: '1.0.0' }, { capabilities: { tools: {} } })
  const echo = { description: 'Answers after a while.', inputSchema: z.object({ nonce, ms: z.number() }) }
  server.registerTool('echo', echo, async ({ nonce, ms }, { mcpReq }) => {
    await sleep(ms, undefined, { signal: mcpReq.signal })
    return text(nonce)
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
  server.registerTool('ask', { description: 'Asks the client.', inputSchema: z.object({ nonce }) }, ({ nonce }, ctx) =>
    era === 'legacy' ? askLegacy(nonce, ctx) : askModern(nonce, ctx),
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

/** Without a proxy too, an SDK v2 server now and then loses what a tool sends before the answer's stream is up. */
const streamIsUpMs = 20

async function askLegacy(nonce: string, { mcpReq }: ServerContext) {
  await sleep(streamIsUpMs)
  return text(repeated.parse(await mcpReq.requestSampling(samplingOf(nonce))).content.text)
}

function askModern(nonce: string, { mcpReq }: ServerContext) {
  const answer = inputResponse(mcpReq.inputResponses, 'repeat')
  if (answer.kind === 'sampling') return text(repeated.parse(answer.result).content.text)
  return inputRequired({ inputRequests: { repeat: inputRequired.createMessage(samplingOf(nonce)) } })
}

const legacy = () => soakServer('legacy')
const serving: Readonly<Record<string, () => void>> = {
  stdio: () => void serveStdio(({ era }) => soakServer(era)),
  sse: () => serveSse(legacy),
  http: () => serveHttp({ legacy, modern: createMcpHandler(() => soakServer('modern'), { legacy: 'reject' }) }),
}
serving[process.argv[2] ?? 'http']?.()

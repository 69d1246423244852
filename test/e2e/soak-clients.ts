/** The clients of the soak test in one shape: official ones of both SDK lines, over every transport and in both eras. */
import {
  Client as ClientV2,
  StreamableHTTPClientTransport as HttpV2,
  SSEClientTransport as SseV2,
} from '@modelcontextprotocol/client'
import { StdioClientTransport as StdioV2 } from '@modelcontextprotocol/client/stdio'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport as SseV1 } from '@modelcontextprotocol/sdk/client/sse.js'
import { StdioClientTransport as StdioV1 } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport as HttpV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CreateMessageRequestSchema, LoggingMessageNotificationSchema } from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'
import { type Place, processAt } from '../support/uniform-client.ts'

/** Which official client, and what it speaks. */
export const dialects = ['v1 legacy', 'v2 legacy', 'v2 modern'] as const
export type Dialect = (typeof dialects)[number]

export interface CallOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  /** Hears the text of every progress notification of this call. */
  readonly onProgress?: (message: string) => void
}

export interface SoakClient {
  /** Calls a tool and returns the text of its answer. */
  call(tool: string, args: Readonly<Record<string, unknown>>, options: CallOptions): Promise<string>
  close(): Promise<void>
  /** Leaves without a word: connections are cut, a process of its own is killed. */
  vanish(): Promise<void>
}

export interface ClientEvents {
  /** The server asked this client to repeat a text. */
  readonly onAsked: (text: string) => void
  /** The server said a text in a log message. */
  readonly onSaid: (text: string) => void
  /** An answer came that nobody waits for. */
  readonly onStray: (what: string) => void
  /** Something else went wrong that no call of this client tells of, such as the POST of an answer. */
  readonly onTrouble?: (what: string) => void
}

const clientInfo = { name: 'mcp-vitals-soak', version: '1.0.0' }
const capabilities = { sampling: {} }
const connectTimeoutMs = 60_000
const toolResult = z.object({ content: z.array(z.object({ text: z.string() })), isError: z.boolean().default(false) })
const sampled = z.object({ messages: z.array(z.object({ content: z.object({ text: z.string() }) })) })
const strayError = /unknown message ID/i

/** Connects the client that this dialect names. */
export function connectSoakClient(place: Place, dialect: Dialect, events: ClientEvents): Promise<SoakClient> {
  return dialect === 'v1 legacy' ? connectV1(place, events) : connectV2(place, dialect, events)
}

/** The text that a tool answered with; fails with it if that is an error. */
export function textOf(result: unknown): string {
  const { content, isError } = toolResult.parse(result)
  const text = content[0]?.text ?? ''
  if (isError) throw new Error(`the tool failed: ${text}`)
  return text
}

function repeat(params: unknown, { onAsked }: ClientEvents) {
  const text = sampled.parse(params).messages[0]?.content.text ?? ''
  onAsked(text)
  return { role: 'assistant' as const, model: 'none', content: { type: 'text' as const, text } }
}

function onError({ onStray, onTrouble }: ClientEvents): (error: Error) => void {
  return ({ message }) => {
    if (strayError.test(message)) onStray(message.slice(0, 200))
    else onTrouble?.(message.slice(0, 200))
  }
}

/** An official client whose opening fails over HTTP+SSE may leave its stream open, and open it again when it ends. */
async function connected(connecting: Promise<void>, transport: { close(): Promise<void> }): Promise<void> {
  try {
    await connecting
  } catch (error) {
    await transport.close()
    throw error
  }
}

/** What a killed process cannot do for itself. */
function killed(pid: number | null | undefined): void {
  if (pid) process.kill(pid, 'SIGKILL')
}

async function connectV1(place: Place, events: ClientEvents): Promise<SoakClient> {
  const client = new ClientV1(clientInfo, { capabilities })
  client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => repeat(params, events))
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => events.onSaid(String(params.data)))
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a client is no EventTarget
  client.onerror = onError(events)
  const transport = transportV1(place)
  await connected(client.connect(transport, { timeout: connectTimeoutMs }), transport)
  return {
    call: async (name, args, { timeoutMs, signal, onProgress }) => {
      const onprogress = ({ message }: { message?: string | undefined }) => onProgress?.(message ?? '')
      const options = { timeout: timeoutMs, ...(signal && { signal }), ...(onProgress && { onprogress }) }
      return textOf(await client.callTool({ name, arguments: args }, undefined, options))
    },
    close: async () => {
      // The server may have forgotten the session, or be gone.
      if (transport instanceof HttpV1) await transport.terminateSession().catch(() => undefined)
      await client.close()
    },
    vanish: async () => {
      if (transport instanceof StdioV1) killed(transport.pid)
      await client.close()
    },
  }
}

function transportV1(place: Place) {
  if (typeof place !== 'string') return new StdioV1(processAt(place))
  return place.endsWith('/sse') ? new SseV1(new URL(place)) : new HttpV1(new URL(place))
}

async function connectV2(place: Place, dialect: Dialect, events: ClientEvents): Promise<SoakClient> {
  const mode = dialect === 'v2 modern' ? ({ pin: '2026-07-28' } as const) : 'legacy'
  const client = new ClientV2(clientInfo, { capabilities, versionNegotiation: { mode } })
  client.setRequestHandler('sampling/createMessage', ({ params }) => repeat(params, events))
  client.setNotificationHandler('notifications/message', ({ params }) => events.onSaid(String(params.data)))
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a client is no EventTarget
  client.onerror = onError(events)
  const transport = transportV2(place)
  await connected(client.connect(transport, { timeout: connectTimeoutMs }), transport)
  return {
    call: async (name, args, { timeoutMs, signal, onProgress }) => {
      const onprogress = ({ message }: { message?: string | undefined }) => onProgress?.(message ?? '')
      const options = { timeout: timeoutMs, ...(signal && { signal }), ...(onProgress && { onprogress }) }
      return textOf(await client.callTool({ name, arguments: args }, options))
    },
    close: async () => {
      // The same.
      if (transport instanceof HttpV2 && dialect === 'v2 legacy')
        await transport.terminateSession().catch(() => undefined)
      await client.close()
    },
    vanish: async () => {
      if (transport instanceof StdioV2) killed(transport.pid)
      await client.close()
    },
  }
}

function transportV2(place: Place) {
  if (typeof place !== 'string') return new StdioV2(processAt(place))
  return place.endsWith('/sse') ? new SseV2(new URL(place)) : new HttpV2(new URL(place))
}

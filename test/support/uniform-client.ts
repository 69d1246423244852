/** One shape for the official clients of both SDK lines, so that the same script runs with either. */
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
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { ClientEra } from '../peers/clients.ts'
import { compileCache } from './program.ts'

type Arguments = Readonly<Record<string, unknown>>

/** Where a client connects: a URL (`/sse` is HTTP+SSE), or a command that speaks stdio. */
export type Place = string | { readonly command: string; readonly args: readonly string[] }

export interface UniformClient {
  /** What the opening exchange told: name, version, capabilities and instructions of the server, and the era. */
  server(): unknown
  listTools(): Promise<unknown>
  /** The result, and how many progress notifications came before it; the SDK itself loses one that comes with it. */
  callTool(name: string, args?: Arguments): Promise<{ readonly result: unknown; readonly progress: number }>
  listResources(): Promise<unknown>
  listResourceTemplates(): Promise<unknown>
  readResource(uri: string): Promise<unknown>
  subscribe(uri: string): Promise<unknown>
  listPrompts(): Promise<unknown>
  getPrompt(name: string, args?: Readonly<Record<string, string>>): Promise<unknown>
  complete(prompt: string, argument: { readonly name: string; readonly value: string }): Promise<unknown>
  setLoggingLevel(level: 'debug' | 'info'): Promise<unknown>
  /** What the server said and asked, in words: log messages, updates, and requests to this client. */
  heard(): readonly string[]
  close(): Promise<void>
}

const clientInfo = { name: 'mcp-vitals-test', version: '1.0.0' }
const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } }

// What this client answers when the server asks something of it.
const sampled = {
  role: 'assistant' as const,
  model: 'none',
  content: { type: 'text' as const, text: 'a sampled answer' },
}
const elicited = { action: 'accept' as const, content: { name: 'Ada', check: true } }
const roots = { roots: [{ uri: 'file:///srv/data', name: 'data' }] }

/** Connects an SDK v1 client. */
export async function uniformV1(place: Place): Promise<UniformClient> {
  const client = new ClientV1(clientInfo, { capabilities })
  const heard: string[] = []
  client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => {
    heard.push(`sampling ${JSON.stringify(params.messages)}`)
    return sampled
  })
  client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
    heard.push(`elicitation ${params.message}`)
    return elicited
  })
  client.setRequestHandler(ListRootsRequestSchema, () => roots)
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    heard.push(`log ${params.level} ${String(params.data)}`)
  })
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
    heard.push(`updated ${params.uri}`)
  })
  const transport = transportV1(place)
  await client.connect(transport)
  const countProgress = progressCounter(transport)
  return {
    server: () => [client.getServerVersion(), client.getServerCapabilities(), client.getInstructions(), 'legacy'],
    listTools: () => client.listTools(),
    callTool: async (name, args = {}) => {
      const progress = countProgress()
      const result = await client.callTool({ name, arguments: args }, undefined, { onprogress: () => undefined })
      return { result, progress: progress() }
    },
    listResources: () => client.listResources(),
    listResourceTemplates: () => client.listResourceTemplates(),
    readResource: (uri) => client.readResource({ uri }),
    subscribe: (uri) => client.subscribeResource({ uri }),
    listPrompts: () => client.listPrompts(),
    getPrompt: (name, args = {}) => client.getPrompt({ name, arguments: args }),
    complete: (name, argument) => client.complete({ ref: { type: 'ref/prompt', name }, argument }),
    setLoggingLevel: (level) => client.setLoggingLevel(level),
    heard: () => heard,
    close: () => client.close(),
  }
}

interface Receiver<Rest extends unknown[]> {
  onmessage?: ((message: never, ...rest: Rest) => void) | undefined
}

/** Counts the progress notifications that reach a transport; the result gives how many came since it was asked for. */
function progressCounter<Rest extends unknown[]>(transport: Receiver<Rest>): () => () => number {
  const { onmessage } = transport
  let count = 0
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a transport is no EventTarget
  transport.onmessage = (message: { readonly method?: string }, ...rest) => {
    if (message.method === 'notifications/progress') count += 1
    onmessage?.(message as never, ...rest)
  }
  return () => {
    const before = count
    return () => count - before
  }
}

/** How the SDKs' clients start such a server: they hand it only part of our environment. */
export function processAt({ command, args }: Exclude<Place, string>) {
  return { command, args: [...args], env: compileCache, stderr: 'ignore' as const }
}

function transportV1(place: Place) {
  if (typeof place !== 'string') return new StdioV1(processAt(place))
  return place.endsWith('/sse') ? new SseV1(new URL(place)) : new HttpV1(new URL(place))
}

/** Connects an SDK v2 client that speaks this era. */
export async function uniformV2(place: Place, era: ClientEra): Promise<UniformClient> {
  const mode = era === 'modern' ? { pin: '2026-07-28' } : era
  const client = new ClientV2(clientInfo, { capabilities, versionNegotiation: { mode } })
  const heard: string[] = []
  client.setRequestHandler('sampling/createMessage', ({ params }) => {
    heard.push(`sampling ${JSON.stringify(params.messages)}`)
    return sampled
  })
  client.setRequestHandler('elicitation/create', ({ params }) => {
    heard.push(`elicitation ${params.message}`)
    return elicited
  })
  client.setRequestHandler('roots/list', () => roots)
  client.setNotificationHandler('notifications/message', ({ params }) => {
    heard.push(`log ${params.level} ${String(params.data)}`)
  })
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => {
    heard.push(`updated ${params.uri}`)
  })
  const transport = transportV2(place)
  await client.connect(transport)
  const countProgress = progressCounter(transport)
  return {
    server: () => [
      client.getServerVersion(),
      client.getServerCapabilities(),
      client.getInstructions(),
      client.getProtocolEra(),
    ],
    listTools: () => client.listTools(),
    callTool: async (name, args = {}) => {
      const progress = countProgress()
      const result = await client.callTool({ name, arguments: args }, { onprogress: () => undefined })
      return { result, progress: progress() }
    },
    listResources: () => client.listResources(),
    listResourceTemplates: () => client.listResourceTemplates(),
    readResource: (uri) => client.readResource({ uri }),
    subscribe: (uri) => client.subscribeResource({ uri }),
    listPrompts: () => client.listPrompts(),
    getPrompt: (name, args = {}) => client.getPrompt({ name, arguments: args }),
    complete: (name, argument) => client.complete({ ref: { type: 'ref/prompt', name }, argument }),
    setLoggingLevel: (level) => client.setLoggingLevel(level),
    heard: () => heard,
    close: () => client.close(),
  }
}

function transportV2(place: Place) {
  if (typeof place !== 'string') return new StdioV2(processAt(place))
  return place.endsWith('/sse') ? new SseV2(new URL(place)) : new HttpV2(new URL(place))
}

import { PassThrough } from 'node:stream'
import type { ExitReason, ServerProcess } from '../../src/upstreams/process.ts'
import { LineReader } from '../../src/wire/lines.ts'
import type { Message } from './mcp-server.ts'

/** A server process that is none: what it hears and says is the test's. */
export interface FakeProcess extends ServerProcess {
  /** Every line that it was sent, as a message. */
  readonly heard: readonly Message[]
  /** The methods of the requests and notifications among them. */
  readonly methods: () => readonly string[]
  /** Writes these lines to stdout. */
  say(...messages: readonly (object | string)[]): void
  end(exit: ExitReason): void
  wasStopped(): boolean
}

/** What a server answers to a message: its messages, or `undefined` for silence. */
export type Script = (message: Message, process: FakeProcess) => readonly object[] | undefined

export interface FakeProcessOptions {
  readonly pid?: number
  readonly script?: Script
  /** Does not end when told to stop, but only when the test says so. */
  readonly isStubborn?: boolean
}

export function fakeProcess({ pid = 1, script = legacyScript(), isStubborn = false }: FakeProcessOptions): FakeProcess {
  const { promise: exited, resolve } = Promise.withResolvers<ExitReason>()
  const [stdin, stdout] = [new PassThrough(), new PassThrough()]
  const heard: Message[] = []
  let exit: ExitReason | undefined
  let wasStopped = false
  const say: FakeProcess['say'] = (...messages) => {
    for (const one of messages) stdout.write(`${typeof one === 'string' ? one : JSON.stringify(one)}\n`)
  }
  const end = (reason: ExitReason) => {
    if (exit) return
    exit = reason
    stdout.end()
    stdin.destroy()
    resolve(reason)
  }
  const process: FakeProcess = {
    pid,
    startedAtMs: 0,
    startedAtWallMs: 0,
    stdin,
    stdout,
    stderrTail: () => '',
    lastStderrMs: () => 0,
    exited,
    exit: () => exit,
    stop: () => {
      wasStopped = true
      if (!isStubborn) end({ kind: 'signal', signal: 'SIGTERM' })
      return exited
    },
    kill: () => {},
    heard,
    methods: () => heard.flatMap(({ method }) => method ?? []),
    say,
    end,
    wasStopped: () => wasStopped,
  }
  const lines = new LineReader({
    maxBytes: 1024 * 1024,
    onLine: (line) => {
      const message = JSON.parse(line.toString()) as Message
      heard.push(message)
      say(...(script(message, process) ?? []))
    },
    onTooLong: () => {},
  })
  stdin.on('data', (chunk: Buffer) => lines.push(chunk))
  return process
}

/** A command that cannot be started. */
export function unstartable(): ServerProcess {
  const exit: ExitReason = { kind: 'spawn_failed', code: 'ENOENT', message: "there is no 'x' in PATH" }
  return { ...fakeProcess({}), pid: undefined, exited: Promise.resolve(exit), exit: () => exit }
}

interface ServerOptions {
  readonly tools?: readonly string[]
  /** Answers that replace the proper ones, by method; undefined for silence. */
  readonly instead?: Readonly<Record<string, Script>>
}

/** A legacy server with these tools that answers −32601 to what it does not know. */
export function legacyScript({ tools = ['read'], instead = {} }: ServerOptions = {}): Script {
  return (message, process) => {
    const { id, method = '' } = message
    const own = instead[method]
    if (own) return own(message, process)
    if (id === undefined || method === '') return []
    const results: Readonly<Record<string, object>> = {
      initialize: {
        protocolVersion: '2025-11-25',
        capabilities: tools.length > 0 ? { tools: {} } : {},
        serverInfo: { name: 'fake', version: '1' },
      },
      ping: {},
      'tools/list': { tools: tools.map((name) => ({ name, inputSchema: {} })) },
    }
    const result = results[method]
    if (result) return [{ jsonrpc: '2.0', id, result }]
    return [{ jsonrpc: '2.0', id, error: { code: -32_601, message: 'method not found' } }]
  }
}

/** A server of the modern era alone. */
export function modernScript({ tools = ['read'], instead = {} }: ServerOptions = {}): Script {
  const result =
    (value: object): Script =>
    ({ id }) => [{ jsonrpc: '2.0', id, result: value }]
  const error =
    (code: number): Script =>
    ({ id }) => [{ jsonrpc: '2.0', id, error: { code, message: 'no' } }]
  const capabilities = tools.length > 0 ? { tools: {} } : {}
  return legacyScript({
    tools,
    instead: {
      'server/discover': result({ resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities }),
      initialize: error(-32_022),
      ping: error(-32_601),
      ...instead,
    },
  })
}

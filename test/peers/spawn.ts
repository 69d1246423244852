import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { StringDecoder } from 'node:string_decoder'

/** The top of the repository; every peer runs there, so that its relative paths hold. */
export const repoRoot = fileURLToPath(new URL('../..', import.meta.url))

/** A process that said it is ready, and how to end it. */
export interface RunningProcess<Ready> {
  readonly pid: number
  /** What `ready` made of the process's output. */
  readonly ready: Ready
  /** The end of everything it wrote, stdout and stderr together. */
  readonly output: () => string
  /** How it ended, once it has: `code 0`, `SIGKILL`. */
  readonly exited: Promise<string>
  /** Resolves once it has exited: SIGTERM first, SIGKILL after a grace. Calling it again is harmless. */
  readonly stop: () => Promise<void>
}

export interface SpawnOptions<Ready> {
  /** Arguments of our own node executable. */
  readonly args: readonly string[]
  /** Added to our environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Where it runs; the top of the repository unless given. */
  readonly cwd?: string
  /** Called with every whole line of output until it returns something. */
  readonly ready: (line: string) => Ready | undefined
  /** Called with every whole line of output. */
  readonly onLine?: (line: string) => void
  readonly startDeadlineMs?: number
  readonly termGraceMs?: number
}

const outputKept = 64 * 1024

/** For programs that start others: Ctrl-C and SIGTERM end this one in a way that ends them too. */
export function endWithSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
}

/** Starts a node process and waits until one of its lines says that it is ready; fails with its output otherwise. */
export async function startProcess<Ready>(options: SpawnOptions<Ready>): Promise<RunningProcess<Ready>> {
  const {
    args,
    env = {},
    cwd = repoRoot,
    ready,
    onLine: hear,
    startDeadlineMs = 50_000,
    termGraceMs = 20_000,
  } = options
  const child = spawn(process.execPath, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // Whoever ends without waiting for it leaves nothing behind.
  const end = () => void child.kill('SIGTERM')
  process.once('exit', end)
  child.once('exit', () => process.off('exit', end))
  let output = ''
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`))
    child.once('error', (error) => resolve(error.message))
  })
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
    child.kill('SIGTERM')
    const kill = setTimeout(() => child.kill('SIGKILL'), termGraceMs)
    await exited
    clearTimeout(kill)
  }
  const started = new Promise<Ready>((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`node ${args.join(' ')}: ${why}; its output:\n${output}`))
    const deadline = setTimeout(() => fail(`not ready after ${startDeadlineMs} ms`), startDeadlineMs)
    const onLine = (line: string) => {
      hear?.(line)
      const value = ready(line)
      if (value === undefined) return
      clearTimeout(deadline)
      resolve(value)
    }
    const keep = (text: string) => {
      output = (output + text).slice(-outputKept)
    }
    for (const stream of [child.stdout, child.stderr]) eachLine(stream, { keep, onLine })
    child.once('close', () => {
      clearTimeout(deadline)
      void exited.then((how) => fail(`exited (${how}) before it was ready`))
    })
  })
  try {
    const value = await started
    return { pid: child.pid ?? 0, ready: value, output: () => output, exited, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

interface LineSink {
  keep(text: string): void
  onLine(line: string): void
}

function eachLine(stream: NodeJS.ReadableStream, sink: LineSink): void {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  stream.on('data', (chunk: Buffer) => {
    const text = decoder.write(chunk)
    sink.keep(text)
    const lines = (rest + text).split('\n')
    rest = (lines.pop() ?? '').slice(-outputKept)
    for (const line of lines) sink.onLine(line)
  })
}

/** Reads a line as the JSON object it may be; logs of other shapes read as undefined. */
export function jsonLine(line: string): Readonly<Record<string, unknown>> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined // Half a line or a log that merely starts with a brace.
  }
}

/** The `url` of a peer's `{"msg":"listening","url":…}` line. */
export function listeningUrl(line: string): string | undefined {
  const entry = jsonLine(line)
  return entry?.msg === 'listening' && typeof entry.url === 'string' ? entry.url : undefined
}

/** Starts one of our own peers, a TypeScript file that announces its URL. */
export function startPeer(file: string, env: Readonly<Record<string, string>> = {}): Promise<RunningProcess<string>> {
  return startProcess({ args: [file], env: { PORT: '0', ...env }, ready: listeningUrl, termGraceMs: 2000 })
}

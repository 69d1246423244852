import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { statSync } from 'node:fs'
import { Readable, Writable } from 'node:stream'
import { sleep, type Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { errorMessage } from '../errors.ts'
import type { Redact } from '../redaction.ts'
import { findExecutable } from './executable.ts'
import { groupRuns, signalGroup } from './process-tree.ts'
import type { Origin, Strays } from './strays.ts'
import { Tail } from './tail.ts'
import type { Command } from './upstream.ts'
import type { Watchdog } from './watchdog.ts'

/** How a process ended, or that it never began. */
export type ExitReason =
  | { readonly kind: 'exit'; readonly code: number }
  | { readonly kind: 'signal'; readonly signal: string }
  | { readonly kind: 'spawn_failed'; readonly code: string; readonly message: string }

/** A process that has ended. */
export interface EndedProcess {
  /** Its stderr may still come in for a moment. */
  readonly process: ServerProcess
  readonly exit: ExitReason
  /** Why we ended it, if we did. */
  readonly why?: string | undefined
  readonly atWallMs: number
}

/** How long each step of the stop sequence waits. */
export interface StopGraces {
  readonly stdinGraceMs?: number
  readonly termGraceMs?: number
}

/** One server process: the leader of a process group that lives and dies with it. */
export interface ServerProcess {
  /** Undefined when it could not be started. It is the id of the group, too. */
  readonly pid: number | undefined
  readonly startedAtMs: number
  readonly startedAtWallMs: number
  /** Errors of writing (EPIPE) are swallowed: `exited` tells that the process has gone. */
  readonly stdin: Writable
  /** Nothing is read before a consumer attaches. It may end late: a grandchild can hold it open. */
  readonly stdout: Readable
  /** The end of its stderr, at most `stderrTailBytes`, without the secrets that we know of. */
  stderrTail(): string
  /** Monotonic time of what it wrote there last, or of its start. */
  lastStderrMs(): number
  /**
   * Never rejects. Settles when the leader exits, without waiting for its pipes to close; its last words have been read
   * by then.
   */
  readonly exited: Promise<ExitReason>
  /** How it ended, if it has. */
  exit(): ExitReason | undefined
  /**
   * End stdin, wait, SIGTERM to the group, wait, SIGKILL to the group (MCP 2025-11-25, Lifecycle, "Shutdown"). Resolves
   * when the leader has exited, the group is empty or was killed, and so is what had left it. A second call joins the
   * first. It runs by itself when the leader exits, so that no grandchild stays behind.
   */
  stop(graces?: StopGraces): Promise<ExitReason>
  /** Signals the whole group. */
  kill(signal: NodeJS.Signals): void
}

export interface StartOptions {
  /** For a server that does not read its stdin, whose end then means nothing to it: 0. */
  readonly stdinGraceMs?: number
  readonly stderrTailBytes: number
  onStderr?(chunk: Buffer): void
  /** The process writes to our own stderr, and nothing of that is read. */
  readonly inheritStderr?: boolean
}

/** Starts a command. It never throws: what cannot be started has already exited with `spawn_failed`. */
export type StartProcess = (command: Command, options: StartOptions) => ServerProcess

export interface ProcessStarterOptions {
  readonly clock: Clock
  /** From `findSetpriv()`; then the kernel kills a direct child the moment we die. */
  readonly setprivPath?: string | undefined
  /** Kills whole groups when we die. */
  readonly watchdog?: Pick<Watchdog, 'watch' | 'forget'> | undefined
  /** Ends what left its group; without it that stays, and the environment is the command's and ours alone. */
  readonly strays?: Pick<Strays, 'origin'> | undefined
  /** Hides secrets in what processes write to stderr. */
  readonly redact?: Redact
}

/** How long members of a killed group may take to vanish, and with them their ports and locks. */
const killedGraceMs = 1000
const firstGroupLookMs = 10

/** An exit in words, to follow the name of the server. */
export function describeExit(exit: ExitReason): string {
  switch (exit.kind) {
    case 'exit':
      return `exited with code ${exit.code}${shellMeaning(exit.code)}`
    case 'signal':
      return `was killed by ${exit.signal}`
    case 'spawn_failed':
      return `could not be started: ${exit.code} (${exit.message})`
  }
}

/** What shells, npx and setpriv mean by these two codes (POSIX XCU §2.8.2). */
function shellMeaning(code: number): string {
  if (code === 126) return ' (its command cannot be executed)'
  return code === 127 ? ' (its command or interpreter was not found)' : ''
}

/** Builds the function that starts server processes: no shell, a group of their own, our environment plus theirs. */
export function processStarter(starter: ProcessStarterOptions): StartProcess {
  const { clock, setprivPath, watchdog, strays, redact } = starter
  return (command, options) => {
    const origin = strays?.origin(command.env)
    const env = { ...process.env, ...origin?.env, ...command.env }
    const refusal = whyNotStartable(command, env['PATH'])
    if (refusal) return neverStarted(clock, Promise.resolve(refusal))
    const [file, args] = setprivPath
      ? [setprivPath, ['--pdeathsig', 'KILL', '--', command.command, ...command.args]]
      : [command.command, command.args]
    try {
      const spawning = {
        env,
        cwd: command.cwd,
        detached: process.platform !== 'win32', // There it would open a console window instead of a group.
        windowsHide: true,
      }
      const child =
        options.inheritStderr === true
          ? spawn(file, args, { ...spawning, stdio: ['pipe', 'pipe', 'inherit'] })
          : spawn(file, args, { ...spawning, stdio: ['pipe', 'pipe', 'pipe'] })
      if (child.pid === undefined) return neverStarted(clock, spawnError(child))
      return new ChildGroup({ child, pid: child.pid, clock, watchdog, origin, redact, options })
    } catch (error) {
      return neverStarted(clock, Promise.resolve(spawnFailure(error)))
    }
  }
}

/**
 * Why a command cannot run, found before it is tried: behind setpriv it would look like an exit with code 127, and a
 * missing working directory like a missing command. Windows adds extensions to names, so there we let it try.
 */
function whyNotStartable(command: Command, path: string | undefined): ExitReason | undefined {
  const { command: name, cwd } = command
  if (process.platform === 'win32') return undefined
  if (cwd !== undefined && !statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) {
    return { kind: 'spawn_failed', code: 'ENOENT', message: `there is no working directory '${cwd}'` }
  }
  const found = findExecutable(name, { path, cwd })
  if (found.kind === 'found') return undefined
  const message =
    found.code === 'EACCES'
      ? `'${name}' is not an executable file`
      : `there is no '${name}'${name.includes('/') ? '' : ' in PATH'}`
  return { kind: 'spawn_failed', code: found.code, message }
}

function spawnFailure(error: unknown): ExitReason {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  return { kind: 'spawn_failed', code, message: errorMessage(error) }
}

function spawnError(child: { once(event: 'error', listener: (error: Error) => void): unknown }): Promise<ExitReason> {
  return new Promise((resolve) => child.once('error', (error) => resolve(spawnFailure(error))))
}

/** Stands for a process that could not be started: it swallows all input and has no output. */
function neverStarted(clock: Clock, exited: Promise<ExitReason>): ServerProcess {
  let exit: ExitReason | undefined
  void exited.then((reason) => (exit = reason))
  return {
    pid: undefined,
    startedAtMs: clock.now(),
    startedAtWallMs: clock.wallTime(),
    stdin: new Writable({ write: (_chunk, _encoding, done) => done() }),
    stdout: Readable.from([]),
    stderrTail: () => '',
    lastStderrMs: () => clock.now(),
    exited,
    exit: () => exit,
    stop: () => exited,
    kill: () => {},
  }
}

/** Waits for a promise, but no longer than `limitMs`. */
async function waitAtMost(clock: Clock, limitMs: number, promise: Promise<unknown>): Promise<void> {
  const settled = new AbortController()
  void promise.finally(() => settled.abort())
  await sleep(clock, limitMs, settled.signal)
}

/**
 * Runs something once the event loop has looked at all its handles again: what a process wrote before it exited has
 * then been read. (The first callback comes before that look, the second after it.)
 */
function afterOnePoll(run: () => void): void {
  setImmediate(() => setImmediate(run))
}

interface ChildGroupOptions {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable | null>
  readonly pid: number
  readonly clock: Clock
  readonly watchdog: ProcessStarterOptions['watchdog']
  readonly origin: Origin | undefined
  readonly redact: Redact | undefined
  readonly options: StartOptions
}

class ChildGroup implements ServerProcess {
  readonly pid: number
  readonly startedAtMs: number
  readonly startedAtWallMs: number
  readonly stdin: Writable
  readonly stdout: Readable
  readonly exited: Promise<ExitReason>
  readonly #clock: Clock
  readonly #watchdog: ProcessStarterOptions['watchdog']
  readonly #origin: Origin | undefined
  readonly #stderr: Tail
  readonly #redact: Redact | undefined
  readonly #stdinGraceMs: number
  #lastStderrMs: number
  #exit: ExitReason | undefined
  #stopping: Promise<ExitReason> | undefined
  /** From then on the id may belong to another group. */
  #groupGone = false

  constructor({ child, pid, clock, watchdog, origin, redact, options }: ChildGroupOptions) {
    this.pid = pid
    this.#clock = clock
    this.#watchdog = watchdog
    this.#origin = origin
    this.startedAtMs = clock.now()
    this.startedAtWallMs = clock.wallTime()
    this.#lastStderrMs = clock.now()
    this.stdin = child.stdin
    this.stdout = child.stdout
    this.#stderr = new Tail(options.stderrTailBytes)
    this.#redact = redact
    this.#stdinGraceMs = options.stdinGraceMs ?? defaults.supervision.stdinGraceMs
    watchdog?.watch(pid)
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr.append(chunk)
      this.#lastStderrMs = clock.now()
      options.onStderr?.(chunk)
    })
    // A broken pipe means that the process has gone or closed its end; its exit is the event that counts.
    for (const pipe of [child.stdin, child.stdout, child.stderr, child]) pipe?.on('error', () => {})
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        afterOnePoll(() => {
          this.#exit = signal ? { kind: 'signal', signal } : { kind: 'exit', code: code ?? 0 }
          resolve(this.#exit)
          void this.stop()
        })
      })
    })
  }

  exit(): ExitReason | undefined {
    return this.#exit
  }

  stderrTail(): string {
    const text = this.#stderr.text()
    return this.#redact ? this.#redact(text) : text
  }

  lastStderrMs(): number {
    return this.#lastStderrMs
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.#groupGone) signalGroup(this.pid, signal)
  }

  stop(graces: StopGraces = {}): Promise<ExitReason> {
    this.#stopping ??= this.#runStop({ ...defaults.supervision, stdinGraceMs: this.#stdinGraceMs, ...graces })
    return this.#stopping
  }

  async #runStop(graces: Required<StopGraces>): Promise<ExitReason> {
    if (!this.#exit) {
      this.stdin.end()
      await waitAtMost(this.#clock, graces.stdinGraceMs, this.exited)
    }
    await this.#end('SIGTERM', graces.termGraceMs)
    await this.#end('SIGKILL', killedGraceMs)
    const exit = await this.exited
    this.#groupGone = true
    this.#watchdog?.forget(this.pid)
    await this.#origin?.end()
    return exit
  }

  /** Sends a signal if anyone is left to hear it, then waits until nobody is. */
  async #end(signal: NodeJS.Signals, graceMs: number): Promise<void> {
    if (this.#isGone()) return
    const deadlineMs = this.#clock.now() + graceMs
    this.kill(signal)
    await waitAtMost(this.#clock, graceMs, this.exited)
    // Nobody tells us of a grandchild's end, so we look, more and more rarely: each look may scan /proc.
    for (let pauseMs = firstGroupLookMs; !this.#isGone(); pauseMs *= 2) {
      const leftMs = deadlineMs - this.#clock.now()
      if (leftMs <= 0) return
      await sleep(this.#clock, Math.min(pauseMs, leftMs))
    }
  }

  #isGone(): boolean {
    return this.#exit !== undefined && !groupRuns(this.pid)
  }
}

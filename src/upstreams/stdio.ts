import type { Clock, Timer } from '../clock.ts'
import { KnownError, RetryLater } from '../errors.ts'
import { type Envelope, batchEntries } from '../wire/envelope.ts'
import { Peer } from './peer.ts'
import { type EndedProcess, type ExitReason, type ServerProcess, type StopGraces, describeExit } from './process.ts'
import { type SpareEvents, SparePool, startedUp } from './spare.ts'
import { StdioChannel } from './stdio-channel.ts'
import type { StartLane } from './start-gate.ts'
import { type Absence, Supervisor, restartRefusal } from './supervisor.ts'
import type { RestartPolicy, RestartReason, StdioTarget } from './upstream.ts'

/** What a line carries besides our own heartbeats. */
export interface LineListener {
  onMessage(message: Buffer, envelope: Envelope): void
  onClose(error: KnownError): void
}

/**
 * One running server process and the messages to and from it. Answers to our own requests never reach the listener;
 * `opened` says that the client's opening exchange is over, before which nothing of ours may go in.
 */
export interface Line {
  readonly role: 'resident' | 'session'
  /** The hashed key of the client session that owns it; none for the resident process. */
  readonly session: string | undefined
  readonly process: ServerProcess
  readonly channel: StdioChannel
  readonly peer: Peer
  opened: boolean
  /** What the server answered to our own `initialize`, if we asked: a result or an error. */
  initializeAnswer: Buffer | undefined
  /** The revisions that the server named in answer to our own `server/discover`, if we asked. */
  supportedVersions: readonly string[] | undefined
  /** Monotonic time of the first message from the server; undefined before. */
  firstHeardMs: number | undefined
  /** The same of the last, ours included; before the first, of the start. */
  lastHeardMs: number
  /** How many lines it wrote that are no JSON-RPC, and monotonic time of the last that was dropped. */
  noise: number
  lastNoiseMs: number
  /** Why we are ending the process, if we are: also in words, where there are more to say. */
  ended: { readonly reason: RestartReason; readonly why: string | undefined } | undefined
  /** It is about to be ended, and takes no new requests. */
  isLeaving: boolean
  /** The client session's end of the line. */
  listener: LineListener | undefined
}

export interface StdioUpstreamEvents extends SpareEvents {
  /** A resident process runs and waits for its handshake. */
  onResidentStarted(line: Line): void
  /** A client's session has a process of its own. */
  onSessionStarted(line: Line): void
  /** A process ended that we did not end; `others` still run. */
  onCrash(line: Line, exit: ExitReason, others: number): void
  /** A process could not be started, and no other runs. */
  onStartFailed(why: string): void
  /** A resident process was not ready in time, and is being ended. */
  onGivenUp(why: string): void
  onRestart(reason: RestartReason): void
  /** The resident process is gone, no other runs, and the next one is yet to be started. */
  onResidentGone(why: string): void
  onCrashLoop(why: string, retryInMs: number): void
  /** Nothing runs, and nothing is wrong. */
  onIdle(why: string): void
  /** The resident process ended and is not to be started again. */
  onLeftDown(why: string): void
  onDropped(reason: 'noise' | 'message_too_long'): void
  /** What the resident process says that answers no request of ours. */
  onResidentMessage(line: Line, message: Buffer, envelope: Envelope): void
  onResidentClosed(line: Line, error: KnownError): void
}

export interface StdioUpstreamOptions {
  readonly target: StdioTarget
  readonly clock: Clock
  readonly random: () => number
  readonly startProcess: (role: Line['role']) => ServerProcess
  readonly starts: StartLane
  readonly startDeadlineMs: number
  readonly maxLineBytes: number
  readonly policy: () => RestartPolicy
  /** Whether a signal has stopped the process of this id. */
  readonly isStopped: (pid: number) => boolean
  readonly events: StdioUpstreamEvents
}

/** A resident process that modern requests used stays this long after the last of them, while sessions exist. */
const residentLingerMs = 60_000

const residentText = 'the resident process'
const unwantedText = 'no session is open, and resident is never'

/**
 * The processes of one stdio server: one per legacy client session, and a resident one of the sidecar's own, for
 * heartbeats and modern requests. Under `when_idle` the resident leaves before a session's process starts, since some
 * servers hold a lock, a port or a profile; and where no other session is open, nothing starts beside what still leaves.
 */
export class StdioUpstream {
  readonly #options: StdioUpstreamOptions
  readonly #supervisor: Supervisor
  readonly #spares: SparePool
  readonly #starts: StartLane
  readonly #sessions = new Set<Line>()
  /** Those of sessions that are over, until their group has gone: a shutdown waits for them too. */
  readonly #closing = new Set<Line>()
  #opening = 0
  #resident: Line | undefined
  #lastSessionEnded: EndedProcess | undefined
  #residentUsers = 0
  /** Monotonic time at which the last of them was done. */
  #residentUsedMs = 0
  #linger: Timer | undefined
  #waiters: { resolve: (line: Line) => void; reject: (error: KnownError) => void }[] = []
  #running = false

  constructor(options: StdioUpstreamOptions) {
    this.#options = options
    const { target, clock, random, startProcess, starts, startDeadlineMs, policy, isStopped, events } = options
    this.#starts = {
      acquire: async (signal) => {
        await this.#lastHasLeft()
        return starts.acquire(signal)
      },
    }
    this.#spares = new SparePool({
      clock,
      random,
      start: () => startProcess('session'),
      starts,
      count: target.spareProcesses ?? 0,
      isStopped,
      events,
    })
    this.#supervisor = new Supervisor({
      clock,
      random,
      start: () => startProcess('resident'),
      starts: this.#starts,
      startDeadlineMs,
      policy,
      events: {
        onStarted: (process, restart) => {
          if (restart) events.onRestart(restart)
          this.#resident = this.#line(process, 'resident', undefined)
          events.onResidentStarted(this.#resident)
        },
        onExited: (exit, _process, isCrash) => {
          const line = this.#resident
          this.#resident = undefined
          if (line && isCrash) events.onCrash(line, exit, this.#sessions.size)
          else if (exit.kind === 'spawn_failed') events.onStartFailed(`the process ${describeExit(exit)}`)
        },
        onGivenUp: (_process, why) => {
          const line = this.#resident
          this.#resident = undefined
          line?.peer.fail(new KnownError('upstream_timeout', why))
          events.onGivenUp(why)
        },
        onWaiting: (_delayMs, why) => {
          this.#refuseWaiters(why)
          if (this.#sessions.size === 0) events.onResidentGone(why)
        },
        onCrashLoop: (why, retryInMs) => {
          this.#refuseWaiters(why)
          events.onCrashLoop(why, retryInMs)
        },
        onRest: (why, isFailure) => {
          const reason = `${residentText} ${why}`
          this.#refuseWaiters(reason)
          if (isFailure) events.onLeftDown(reason)
          else events.onIdle(reason)
        },
      },
    })
  }

  start(): void {
    this.#running = true
    this.#wakeResident()
    this.#spares.start()
  }

  /** The handshake with the resident process succeeded: it may serve. */
  residentReady(line: Line): void {
    if (line !== this.#resident) return
    line.opened = true
    this.#supervisor.ready()
    for (const { resolve } of this.#waiters.splice(0)) resolve(line)
  }

  /** Whether the resident process serves the sessions too. */
  isShared(): boolean {
    return this.#options.target.process === 'shared'
  }

  /** Every process that serves a session right now. */
  sessionLines(): readonly Line[] {
    return [...this.#sessions]
  }

  hasSessions(): boolean {
    return this.#sessions.size > 0
  }

  /** Every process that waits for a session. */
  spareProcesses(): readonly ServerProcess[] {
    return this.#spares.all()
  }

  residentLine(): Line | undefined {
    return this.#resident
  }

  /** The last process, the resident one or a session's, that ended without making way for another or for nobody. */
  lastEnded(): EndedProcess | undefined {
    const resident = this.#supervisor.lastEnded()
    const session = this.#lastSessionEnded
    return (session?.atWallMs ?? -Infinity) > (resident?.atWallMs ?? -Infinity) ? session : resident
  }

  /** Why no process runs and none is being started, where that is so. */
  absence(): Absence | undefined {
    if (this.#others() + this.#opening > 0) return undefined
    const isUnwanted = this.#options.target.resident === 'never' && this.#residentUsers === 0
    return this.#supervisor.absence(residentText) ?? (isUnwanted ? { kind: 'idle', reason: unwantedText } : undefined)
  }

  /** How long until the resident process is started again, if it will be by itself, or until a client may have it tried. */
  nextStartInMs(): number | undefined {
    return this.#supervisor.nextStartInMs() ?? this.#givenUp()?.leftMs
  }

  /** The crash loop of a server that only clients start, while none of them is served. */
  #givenUp(): ReturnType<Supervisor['heldBack']> {
    const isIdle = this.#options.target.resident === 'never' && this.#isAlone()
    return isIdle && this.#supervisor.hasGivenUp() ? this.#supervisor.heldBack() : undefined
  }

  /** Ends the resident process; the next one starts by the restart law. */
  restartResident(reason: RestartReason, why?: string): void {
    const line = this.#resident
    if (!line) return
    this.#resident = undefined
    line.ended = { reason, why }
    line.peer.fail(stoppedByUs())
    void this.#supervisor.restart(reason, why)
  }

  /**
   * Ends every process that serves somebody, for the next ones to be started as always: the sessions of those that had
   * one of their own end. Gives why that would help nobody.
   */
  restart(reason: RestartReason, why?: string): string | undefined {
    const isResident = this.#resident !== undefined || this.#sessions.size === 0
    const state = isResident ? this.#supervisor.state() : 'ready'
    const refusal = restartRefusal(state, this.#options.policy())
    if (refusal !== undefined) return refusal
    for (const line of this.#sessions) this.endSession(line, reason, why)
    this.restartResident(reason, why)
    return undefined
  }

  /** Another policy holds: what it let rest is started again. */
  wakeResident(): void {
    this.#supervisor.wake()
  }

  /** See `Supervisor.tryAgain`; spare processes wait no more for their next start either. */
  tryAgain(reason: 'manual' | 'config'): Promise<void> {
    this.#spares.tryAgain()
    return this.#supervisor.tryAgain(reason)
  }

  /** Ends the process of a session that goes on: its requests fail, and its client has to open another. */
  endSession(line: Line, reason: RestartReason, why?: string): void {
    if (line.ended) return
    line.ended = { reason, why }
    // What hangs does not notice the end of its stdin.
    void endLine(line, reason === 'hung' ? { stdinGraceMs: 0 } : {})
  }

  /** What runs goes on running, but nothing is started any more: we are about to stop. */
  startNoMore(): void {
    this.#supervisor.startNoMore()
    void this.#spares.stop()
  }

  /**
   * A process of its own for one client session: a spare one, or a new one. Rejects with `upstream_exited` when it
   * cannot be started, with `upstream_restarting` while all starts fail and the next one has its time, with
   * `shutting_down` after `stop()`, and with `cancelled` when `signal` aborts before its start. That a process crashed
   * which had worked is no reason to refuse one, nor that one start failed: what its client said may be why.
   */
  async openSession(session: string, listener: LineListener, signal?: AbortSignal): Promise<Line> {
    const { target } = this.#options
    const refusal = this.#supervisor.isFailing() ? this.#heldBack() : undefined
    if (refusal) throw refusal
    this.#opening += 1
    try {
      const isLeaving = target.resident === 'when_idle' && this.#residentUsers === 0
      const left = isLeaving ? this.#sendResidentAway() : undefined
      // Who wants spare processes says that several may run side by side.
      if (!target.spareProcesses) await left
      if (!this.#running) throw shuttingDown()
      const spare = this.#spares.take()
      return spare ? this.#serve(spare, session, listener) : await this.#startSession(session, listener, signal)
    } finally {
      this.#opening -= 1
      this.#wakeResident()
    }
  }

  /** The start counts as one until the server has said its first word. */
  async #startSession(session: string, listener: LineListener, signal: AbortSignal | undefined): Promise<Line> {
    const { startProcess, clock } = this.#options
    const release = await this.#starts.acquire(signal)
    if (signal?.aborted || !this.#running) {
      release()
      throw this.#running ? new KnownError('cancelled', 'the session ended before its process started') : shuttingDown()
    }
    const process = startProcess('session')
    if (process.pid === undefined) {
      release()
      const exit = await process.exited
      const why = `the process ${describeExit(exit)}`
      if (this.#others() === 0) {
        this.#options.events.onStartFailed(why)
        this.#supervisor.failedBeside(exit)
      }
      throw new KnownError('upstream_exited', why)
    }
    const firstWord = new AbortController()
    void startedUp(process, clock, firstWord.signal).then(release)
    const line = this.#serve(process, session, listener)
    process.stdout.once('data', () => firstWord.abort())
    return line
  }

  #serve(process: ServerProcess, session: string, listener: LineListener): Line {
    const line = this.#line(process, 'session', session)
    line.listener = listener
    this.#sessions.add(line)
    void process.exited.then((exit) => this.#sessionExited(line, exit))
    this.#options.events.onSessionStarted(line)
    return line
  }

  /** Ends a session's process by the stop sequence; its exit then is no crash. */
  async closeSession(line: Line): Promise<void> {
    this.#sessions.delete(line)
    this.#noteWork(line)
    await this.#close(line, endLine(line))
    this.#wakeResident()
  }

  async #close(line: Line, gone: Promise<unknown>): Promise<void> {
    this.#closing.add(line)
    await gone
    this.#closing.delete(line)
  }

  /** Resolves at once unless some process is being stopped which may hold what the only one of its kind needs. */
  async #lastHasLeft(): Promise<void> {
    const { resident, spareProcesses } = this.#options.target
    // Who wants spare processes says that several may run side by side.
    const isAlone = !this.#resident && [...this.#sessions].every(({ ended }) => ended)
    if (resident !== 'when_idle' || spareProcesses || !isAlone) return
    await Promise.all([...this.#sessions, ...this.#closing].map(({ process }) => process.stop()))
  }

  /**
   * Borrows the resident process for a modern request, at once if it may serve; give it back with `releaseResident`.
   * Starts it when it does not run, and waits for its handshake.
   */
  borrowResident(): Line | Promise<Line> {
    this.#residentUsers += 1
    const line = this.#resident
    if (line?.isLeaving) return Promise.reject(beingReplaced())
    if (line?.opened) return line
    if (!this.#running) return Promise.reject(shuttingDown())
    const refusal = this.#heldBack()
    if (refusal) return Promise.reject(refusal)
    const state = this.#supervisor.state()
    if (state === 'waiting') {
      return Promise.reject(restarting('the server process is being ended, and started again after that', 1))
    }
    if (this.#supervisor.isLeftDown()) {
      const why = 'the server process is not running, and is not started again (restart: never)'
      return Promise.reject(new KnownError('upstream_exited', why))
    }
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#supervisor.start()
      this.#supervisor.wake()
    })
  }

  releaseResident(): void {
    this.#residentUsers -= 1
    if (!this.#running || this.#residentUsers > 0 || this.#options.target.resident === 'always') return
    this.#residentUsedMs = this.#options.clock.now()
    this.#linger ??= this.#lingerFor(residentLingerMs)
  }

  /** One timer, however many requests come and go: when it is due, it looks when the last of them was over. */
  #lingerFor(delayMs: number): Timer {
    const { clock } = this.#options
    return clock.after(delayMs, () => {
      this.#linger = undefined
      if (this.#residentUsers > 0) return
      const leftMs = this.#residentUsedMs + residentLingerMs - clock.now()
      if (leftMs > 0) this.#linger = this.#lingerFor(leftMs)
      else void this.#lingered()
    })
  }

  async #lingered(): Promise<void> {
    const isWanted = this.#options.target.resident === 'when_idle' && this.#isAlone()
    if (isWanted) return
    await this.#sendResidentAway()
    this.#wakeResident()
  }

  async stop(): Promise<void> {
    this.#running = false
    this.#linger?.cancel()
    this.#linger = undefined
    this.#refuseWaiters('mcp-vitals is shutting down')
    const lines = [...this.#sessions, ...this.#closing]
    this.#sessions.clear()
    await Promise.all([this.#sendResidentAway(), this.#spares.stop(), ...lines.map((line) => endLine(line))])
  }

  #line(process: ServerProcess, role: Line['role'], session: string | undefined): Line {
    const { clock, maxLineBytes, events } = this.#options
    const channel = new StdioChannel({
      process,
      clock,
      maxLineBytes,
      events: {
        onMessage: (message, envelope) => this.#hear(line, message, envelope),
        onClose: (how) => {
          const error = goneError(line, how)
          line.peer.fail(error)
          if (role === 'resident') events.onResidentClosed(line, error)
          line.listener?.onClose(error)
        },
        onDropped: (reason) => {
          if (reason === 'noise') line.noise += 1
          line.lastNoiseMs = clock.now()
          events.onDropped(reason)
        },
      },
    })
    const startedMs = clock.now()
    const line: Line = {
      role,
      session,
      process,
      channel,
      peer: new Peer(channel, clock),
      opened: false,
      initializeAnswer: undefined,
      supportedVersions: undefined,
      firstHeardMs: undefined,
      lastHeardMs: startedMs,
      noise: 0,
      lastNoiseMs: startedMs,
      ended: undefined,
      isLeaving: false,
      listener: undefined,
    }
    return line
  }

  #hear(line: Line, message: Buffer, envelope: Envelope): void {
    line.lastHeardMs = this.#options.clock.now()
    if (line.firstHeardMs === undefined && line.role === 'session') this.#supervisor.startedBeside()
    line.firstHeardMs ??= line.lastHeardMs
    if (envelope.kind === 'batch' && line.role === 'resident') return this.#hearBatch(line, message, envelope)
    if (line.peer.takeAnswer(message, envelope)) return
    if (line.role === 'resident') this.#options.events.onResidentMessage(line, message, envelope)
    else line.listener?.onMessage(message, envelope)
  }

  /** The messages of one array may be for several clients (MCP 2025-03-26, Basic, "Batching"). */
  #hearBatch(line: Line, batch: Buffer, read: Envelope): void {
    for (const { message, envelope } of batchEntries(batch, read) ?? []) {
      if (envelope) this.#hear(line, message, envelope)
    }
  }

  #sessionExited(line: Line, exit: ExitReason): void {
    if (!this.#sessions.delete(line)) return
    void this.#close(line, line.process.stop())
    const { target, events, clock } = this.#options
    this.#lastSessionEnded = { process: line.process, exit, why: line.ended?.why, atWallMs: clock.wallTime() }
    const others = this.#others()
    if (!line.ended) events.onCrash(line, exit, others)
    this.#noteWork(line)
    if (others === 0) {
      // Nobody restarts a session; when it was the last, the resident process takes its place.
      const reason = line.ended?.reason ?? (exit.kind === 'signal' ? 'signal' : 'exit')
      if (!line.ended && line.firstHeardMs === undefined) this.#supervisor.failedBeside(exit)
      else if (target.resident !== 'never' && !this.#supervisor.isLeftDown()) events.onRestart(reason)
    }
    this.#wakeResident()
  }

  #noteWork({ firstHeardMs }: Line): void {
    if (firstHeardMs !== undefined) this.#supervisor.workedBeside(this.#options.clock.now() - firstHeardMs)
  }

  /** Why no resident process is started now: the last one ended, and the next one has its time. */
  #heldBack(): KnownError | undefined {
    const held = this.#supervisor.heldBack()
    if (!held) return undefined
    const seconds = Math.ceil(held.leftMs / 1000)
    return restarting(`the server process ${held.why}; the next start comes in ${seconds} s`, seconds)
  }

  #others(): number {
    return this.#sessions.size + (this.#resident ? 1 : 0)
  }

  #isAlone(): boolean {
    return this.#sessions.size + this.#opening === 0
  }

  /** Also right after it was sent away: its supervisor starts the next one when the last has gone. */
  #wakeResident(): void {
    if (!this.#running || this.#resident) return
    const { resident } = this.#options.target
    if (resident === 'always' || (resident === 'when_idle' && this.#isAlone())) this.#supervisor.start()
    else if (this.#isAlone() && this.#residentUsers === 0) {
      const { events } = this.#options
      const givenUp = this.#givenUp()
      if (givenUp) events.onCrashLoop(givenUp.why, givenUp.leftMs)
      else events.onIdle(unwantedText)
    }
  }

  async #sendResidentAway(): Promise<void> {
    const line = this.#resident
    this.#resident = undefined
    line?.peer.fail(stoppedByUs())
    await this.#supervisor.stop()
  }

  #refuseWaiters(why: string): void {
    for (const { reject } of this.#waiters.splice(0)) reject(new KnownError('upstream_exited', why))
  }
}

/** What whoever waits on a line is told once its process has ended: whose doing that was. One that hung is to blame itself. */
function goneError({ process, ended }: Line, how: string): KnownError {
  if (!ended || ended.reason === 'hung') return new KnownError('upstream_exited', how)
  return new KnownError('shutting_down', `we ended process ${process.pid ?? '?'}: ${ended.why ?? ended.reason}`)
}

/** A heartbeat under way says nothing about a process that we end. */
async function endLine({ peer, process }: Line, graces: StopGraces = {}): Promise<void> {
  peer.fail(stoppedByUs())
  await process.stop(graces)
}

/** The server gets nothing new from a line on which this is said. */
export function beingReplaced(): KnownError {
  return new KnownError('shutting_down', 'the server process is being replaced, because it uses too much memory')
}

function restarting(why: string, seconds: number): KnownError {
  return new RetryLater('upstream_restarting', why, seconds)
}

function shuttingDown(): KnownError {
  return new KnownError('shutting_down', 'mcp-vitals is shutting down')
}

function stoppedByUs(): KnownError {
  return new KnownError('cancelled', 'the process was stopped by mcp-vitals')
}

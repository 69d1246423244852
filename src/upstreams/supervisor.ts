import { once } from 'node:events'
import { sleep, type Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { EndedProcess, ExitReason, ServerProcess } from './process.ts'
import {
  afterFirstWord,
  afterGone,
  afterReady,
  afterStopped,
  delayOf,
  freshRestartState,
  isExpected,
  isFailing,
  restartReason,
  type Gone,
  type RestartDecision,
} from './restart.ts'
import type { StartLane } from './start-gate.ts'
import type { RestartPolicy, RestartReason } from './upstream.ts'

/** It is `waiting` for its next start from the moment that the process ended, or that we began to end it. */
export type SupervisorState = 'stopped' | 'starting' | 'ready' | 'waiting' | 'crash_loop' | 'resting' | 'left_down'

/** Why a process cannot be restarted because somebody else thinks that it should; undefined where it can. */
export function restartRefusal(state: SupervisorState, policy: RestartPolicy): string | undefined {
  if (policy === 'never') return 'nothing would start it again (restart: never)'
  switch (state) {
    case 'ready':
      return undefined
    case 'starting':
      return 'its process is being started already'
    case 'waiting':
    case 'crash_loop':
      return 'no process of it runs, and the next start comes by itself'
    case 'resting':
    case 'left_down':
    case 'stopped':
      return 'no process of it runs, and none should'
  }
}

/** Why nothing runs, for people, and what that means. */
export interface Absence {
  /** `gone`: the next start has its time; `lost`: there is none. */
  readonly kind: 'idle' | 'lost' | 'crash_loop' | 'gone'
  readonly reason: string
}

export function crashLoopReason(why: string, retryInMs: number): string {
  return `${why}; the next try comes in ${Math.round(retryInMs / 1000)} s`
}

/** What a supervisor tells upward. Called synchronously; the state has changed already. */
export interface SupervisorEvents {
  /** `restart` is undefined for the first start. Not called for a process that could not be started. */
  onStarted(process: ServerProcess, restart: RestartReason | undefined): void
  /**
   * However it ended, on request too; also for a process that could not be started. It is a crash unless we ended it or
   * it was free to end.
   */
  onExited(exit: ExitReason, process: ServerProcess, isCrash: boolean): void
  /** The process is not ready in time and is being stopped: what it still does, and how it ends, is our doing. */
  onGivenUp(process: ServerProcess, why: string): void
  /** The next start comes after this delay, which may be 0. */
  onWaiting(delayMs: number, why: string): void
  onCrashLoop(why: string, retryInMs: number): void
  /** The policy lets nothing be started before somebody asks; `isFailure` unless the process was free to end. */
  onRest(why: string, isFailure: boolean): void
}

export interface SupervisorOptions {
  readonly clock: Clock
  /** In [0, 1), for the jitter of the back-off. */
  readonly random: () => number
  readonly start: () => ServerProcess
  /** A start holds its place until it is ready or over, or `startHoldMs` at most. */
  readonly starts: StartLane
  readonly startDeadlineMs: number
  /** Where another process may answer in its place: how long it must run after it was `ready()`; else a start failed. */
  readonly outliveMs?: number
  /** Looked up whenever a process has gone. */
  readonly policy: () => RestartPolicy
  readonly events: SupervisorEvents
}

/** One start, from the spawn until its group has gone. */
interface Attempt {
  readonly process: ServerProcess
  isReady: boolean
  /** Why we ended it, if we did. */
  ended: Gone | undefined
  /** It is ready, over or about to be: frees its place at the gate and stops the deadline. */
  settle(): void
}

/** What a supervisor waits for before its next start; a stop interrupts that and does not end it. */
interface Wait {
  readonly decision: RestartDecision
  /** Monotonic; `Infinity` where it lasts until somebody asks. */
  readonly untilMs: number
  /** A start for a session failed, and not one of its own. */
  readonly isBeside: boolean
}

/** Keeps one long-running process running, by the restart law (restart.ts), until it is told to stop. */
export class Supervisor {
  readonly #options: SupervisorOptions
  #state: SupervisorState = 'stopped'
  #law = freshRestartState
  #restarts = 0
  /** The reason to give for the next start, if it is a restart. */
  #because: RestartReason | undefined
  #attempt: Attempt | undefined
  #lastEnded: EndedProcess | undefined
  /** Ends the pause before the next start. */
  #pause: AbortController | undefined
  /** Kept from `stop()` to `start()`, like the law: whoever has the process stopped and started cannot hurry it. */
  #wait: Wait | undefined
  /** From `start()` to `stop()`. */
  #life: AbortController | undefined
  #finished: Promise<void> = Promise.resolve()
  #mayStart = true
  /** Who asked for a start and waits until it was begun. */
  #asking: (() => void)[] = []

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  /** Starts the process and keeps it running; does nothing when that is going on already. */
  start(): void {
    if (this.#life) return
    const life = new AbortController()
    this.#life = life
    if (this.#state === 'stopped') this.#state = 'starting'
    this.#finished = this.#finished.then(() => this.#run(life.signal))
  }

  /** The handshake was answered, or the URL answers. */
  ready(): void {
    const attempt = this.#attempt
    if (!attempt || attempt.isReady || attempt.ended || this.#state !== 'starting') return
    attempt.isReady = true
    attempt.settle()
    const { clock, outliveMs } = this.#options
    this.#law = afterReady(this.#law, clock.now(), outliveMs)
    this.#state = 'ready'
  }

  /** The process that runs now. */
  current(): ServerProcess | undefined {
    const process = this.#attempt?.process
    return process?.exit() ? undefined : process
  }

  /** The last process that ended, or could not be started, before it was told to stop. */
  lastEnded(): EndedProcess | undefined {
    return this.#lastEnded
  }

  /** How often it was started again. */
  restarts(): number {
    return this.#restarts
  }

  state(): SupervisorState {
    return this.#state
  }

  /** How long until the next start, which comes by itself; undefined while something runs, or nothing should. */
  nextStartInMs(): number | undefined {
    return this.#life && this.#wait?.decision.kind !== 'rest' ? this.#leftMs() : undefined
  }

  /** So many starts in a row failed, or the last one so surely, that another one hardly helps anybody. */
  isFailing(): boolean {
    return isFailing(this.#law) || this.hasGivenUp()
  }

  /** It is in a crash loop, stopped since or not. */
  hasGivenUp(): boolean {
    return this.#wait?.decision.kind === 'give_up'
  }

  /** It ended, stopped since or not, and is not started again before somebody asks for another try. */
  isLeftDown(): boolean {
    const decision = this.#wait?.decision
    return decision?.kind === 'rest' && decision.isFailure
  }

  /** How long the restart law still lets nothing be started, stopped or not, and why; undefined where it would. */
  heldBack(): { readonly leftMs: number; readonly why: string } | undefined {
    const leftMs = this.#leftMs()
    if (!this.#wait || this.#wait.decision.kind === 'rest' || !leftMs) return undefined
    return { leftMs, why: this.#wait.decision.why }
  }

  /** What was told when it began to wait, for who did not listen then; undefined while there is nothing to wait for. */
  absence(who: string): Absence | undefined {
    const leftMs = this.#leftMs()
    if (!this.#wait || !leftMs) return undefined
    const { decision } = this.#wait
    switch (decision.kind) {
      case 'give_up':
        return { kind: 'crash_loop', reason: crashLoopReason(decision.why, leftMs) }
      case 'restart':
        return { kind: 'gone', reason: `${who} ${decision.why}` }
      case 'rest':
        return { kind: decision.isFailure ? 'lost' : 'idle', reason: `${who} ${decision.why}` }
    }
  }

  /** In whole milliseconds, since timers cut off what is less: a start must not come before its time. */
  #leftMs(): number | undefined {
    return this.#wait && Math.ceil(Math.max(0, this.#wait.untilMs - this.#options.clock.now()))
  }

  /**
   * A process that somebody started in place of the stopped one ended before it said a word: that is a start like any
   * other of the same command, and the next one waits accordingly.
   */
  failedBeside(exit: ExitReason): void {
    if (this.#life || this.isLeftDown()) return
    const wait = this.#decide({ kind: 'exited', exit }, true)
    this.#wait = wait.decision.kind === 'rest' ? undefined : wait
  }

  /** One that was started for a session said its first word: those that failed before it were not the server's fault. */
  startedBeside(): void {
    this.#law = afterFirstWord(this.#law)
    if (!this.#wait?.isBeside) return
    this.#wait = undefined
    this.#pause?.abort()
  }

  /** A process in place of the stopped one worked for so long that the past is forgotten. */
  workedBeside(readyMs: number): void {
    if (this.#life || readyMs < defaults.supervision.resetAfterReadyMs) return
    this.#law = freshRestartState
    if (!this.isLeftDown()) this.#wait = undefined
  }

  /**
   * Stops the process gracefully; the next start follows by the law, counted with this reason, and told in these words.
   * Resolves when the old process has gone. Does nothing while none runs.
   */
  async restart(reason: RestartReason, why?: string): Promise<void> {
    if (this.#attempt?.ended) await this.#attempt.process.stop()
    else if (this.#attempt) await this.#end(this.#attempt, { kind: 'replaced', reason, why })
  }

  /**
   * Somebody who may wants another try now: where no process runs, or the last one is being ended, the next start
   * waits no more and the past is forgotten. What rests is left alone. Resolves when that start was begun, at once if
   * none is wanted now.
   */
  async tryAgain(reason: 'manual' | 'config'): Promise<void> {
    const attempt = this.#attempt
    if (this.#state === 'resting' || (attempt && !attempt.ended && !attempt.process.exit())) return
    if (attempt) attempt.ended = { kind: 'replaced', reason }
    else {
      this.#law = freshRestartState
      if (this.#wait) this.#because &&= reason
      this.#wait = undefined
      this.#pause?.abort()
    }
    if (this.#life && this.#mayStart) await new Promise<void>((resolve) => this.#asking.push(resolve))
  }

  /** Somebody wants what rests: it is started, which then is no restart. */
  wake(): void {
    if (this.#state !== 'resting') return
    this.#because = undefined
    this.#wait = undefined
    this.#pause?.abort()
  }

  /** What runs goes on running, but nothing is started any more: we are about to stop. */
  startNoMore(): void {
    this.#mayStart = false
    this.#pause?.abort()
  }

  /**
   * Stops the process for good, until `start()` is called again, which waits for as long as was left to wait. Resolves
   * when it has gone.
   */
  async stop(): Promise<void> {
    this.#life?.abort()
    this.#life = undefined
    this.#pause?.abort()
    await this.#finished
  }

  async #run(life: AbortSignal): Promise<void> {
    if (!this.#wait) this.#because = undefined
    if (this.#leftMs() === 0) this.#wait = undefined
    while (!life.aborted && this.#mayStart) {
      if (this.#wait) await this.#sitOut(this.#wait, life)
      else {
        this.#state = 'starting'
        const gone = await this.#runOnce(life)
        if (gone && !life.aborted && this.#mayStart) this.#wait = this.#decide(gone)
      }
    }
    this.#law = afterStopped(this.#law, this.#options.clock.now())
    if (this.#wait?.decision.kind === 'rest' && !this.isLeftDown()) this.#wait = undefined
    this.#state = 'stopped'
    this.#tellAsking()
  }

  #tellAsking(): void {
    for (const tell of this.#asking.splice(0)) tell()
  }

  /** Undefined when it was stopped before its turn to start came. */
  async #runOnce(life: AbortSignal): Promise<Gone | undefined> {
    const release = await this.#options.starts.acquire(life)
    if (life.aborted || !this.#mayStart) {
      release()
      return undefined
    }
    const process = this.#options.start()
    const attempt = this.#begin(process, release)
    this.#tellAsking()
    const stop = () => {
      attempt.settle()
      void process.stop()
    }
    life.addEventListener('abort', stop)
    if (life.aborted) stop() // `onStarted` did that.
    const exit = await process.exited
    life.removeEventListener('abort', stop)
    attempt.settle()
    this.#state = life.aborted ? 'stopped' : 'waiting'
    const why = attempt.ended?.kind === 'replaced' ? attempt.ended.why : undefined
    if (!life.aborted) this.#lastEnded = { process, exit, why, atWallMs: this.#options.clock.wallTime() }
    const gone: Gone = { kind: 'exited', exit }
    const isCrash = !attempt.ended && !isExpected(gone, this.#options.policy())
    this.#options.events.onExited(exit, process, isCrash)
    await process.stop() // What is left of its group may hold the port or the lock that the next one needs.
    this.#attempt = undefined
    return attempt.ended ?? gone
  }

  #begin(process: ServerProcess, release: () => void): Attempt {
    const { clock, startDeadlineMs, events } = this.#options
    const deadline = clock.after(startDeadlineMs, () => {
      const pid = process.pid ?? '?'
      events.onGivenUp(process, `process ${pid} was not ready within ${startDeadlineMs / 1000} s, and is stopped`)
      void this.#end(attempt, { kind: 'not_ready', afterMs: startDeadlineMs })
    })
    // One that hangs must not keep the others from starting: what it waits for now is hardly the processor.
    const hold = clock.after(defaults.supervision.startHoldMs, release)
    const settle = () => {
      deadline.cancel()
      hold.cancel()
      release()
    }
    const attempt: Attempt = { process, isReady: false, ended: undefined, settle }
    if (process.pid === undefined) return attempt
    this.#attempt = attempt
    if (this.#because) this.#restarts++
    events.onStarted(process, this.#because)
    return attempt
  }

  async #end(attempt: Attempt, why: Gone): Promise<void> {
    attempt.ended = why
    attempt.settle()
    this.#state = 'waiting'
    await attempt.process.stop()
  }

  #decide(gone: Gone, isBeside = false): Wait {
    const { clock, random, policy, outliveMs = 0 } = this.#options
    const { state, decision } = afterGone(this.#law, {
      gone,
      nowMs: clock.now(),
      random: random(),
      policy: policy(),
      outliveMs,
      isBeside,
    })
    this.#law = state
    const neverRan = gone.kind === 'exited' && gone.exit.kind === 'spawn_failed'
    if (!neverRan) this.#because = restartReason(gone)
    return { decision, untilMs: clock.now() + delayOf(decision), isBeside }
  }

  async #sitOut(wait: Wait, life: AbortSignal): Promise<void> {
    const { clock, events } = this.#options
    const { decision } = wait
    const pause = new AbortController()
    this.#pause = pause
    const leftMs = this.#leftMs() ?? 0
    switch (decision.kind) {
      case 'give_up':
        this.#state = 'crash_loop'
        events.onCrashLoop(decision.why, leftMs)
        await sleep(clock, leftMs, pause.signal)
        break
      case 'restart':
        this.#state = 'waiting'
        events.onWaiting(leftMs, decision.why)
        await sleep(clock, leftMs, pause.signal)
        break
      case 'rest':
        this.#state = decision.isFailure ? 'left_down' : 'resting'
        events.onRest(decision.why, decision.isFailure)
        if (!pause.signal.aborted) await once(pause.signal, 'abort')
    }
    this.#pause = undefined
    if (this.#wait === wait && !life.aborted) this.#wait = undefined
  }
}

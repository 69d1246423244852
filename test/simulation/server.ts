import type { TreeUsage } from '../../src/upstreams/process-table.ts'
import type { ServerProcess } from '../../src/upstreams/process.ts'
import { type Traits, plainTraits } from './answers.ts'
import { type Fault, type ServerPlan, isOutage } from './faults.ts'
import { type Random, between } from './random.ts'
import { SimulatedProcess } from './simulated-process.ts'
import type { VirtualTime } from './virtual-time.ts'

/** What becomes of a request that reaches the server now. */
export type Reply =
  | { readonly kind: 'answer' | 'garbage' | 'error' | 'locked'; readonly afterMs: number }
  /** Nobody listens. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'nothing' }

/**
 * `hung` (a signal stopped it), `spinning`, `deadlocked`: it does nothing more, until it is `awake`. `outgrown`: it uses
 * more memory than it may, until it has `shrunk`. `ending`: it is being ended by us. `done`: it ends by itself, with exit
 * code 0.
 */
export type ProcessEvent =
  | 'started'
  | 'ready'
  | 'open'
  | 'hung'
  | 'spinning'
  | 'deadlocked'
  | 'awake'
  | 'outgrown'
  | 'shrunk'
  | 'done'
  | 'ending'
  | 'gone'

/** What a process may use, where that is bounded. */
export const memoryLimitBytes = 256 * 1024 * 1024

export interface ServerOptions {
  readonly plan: ServerPlan
  readonly time: VirtualTime
  readonly random: Random
  /** Whether whoever asks now is served; told whenever that changes. */
  readonly onServing: (isServing: boolean) => void
  /** What its processes do, and what is done to them. */
  readonly onProcess: (event: ProcessEvent) => void
  /** It is asked something by us, and not by a client. */
  readonly onAsked: (method: string) => void
}

/** A server that does what its plan says, and knows at any moment whether it serves: the truth to hold verdicts against. */
export class SimulatedServer {
  readonly #options: ServerOptions
  /** The faults that are over. */
  #past = 0
  #process: SimulatedProcess | undefined
  #isServing = false
  #hasFailed = false
  #pids = 1000
  /** How often it ended: what was asked before that is never answered. */
  ends = 0
  /** Who hears of its next end. */
  readonly #waiting = new Set<() => void>()
  /** What clients have it do: it does nothing else meanwhile (an event loop of its own that stands still). */
  #works: { readonly fromMs: number; readonly untilMs: number; readonly usesCpu: boolean }[] = []

  constructor(options: ServerOptions) {
    this.#options = options
    const { plan, time } = options
    for (const fault of plan.faults) {
      time.at(fault.atMs, () => this.#begin(fault))
      time.at(fault.untilMs, () => this.#over(fault))
    }
    time.at(0, () => this.look())
  }

  /** The fault of this moment. */
  fault(): Fault | undefined {
    const { plan, time } = this.#options
    for (let fault = plan.faults[this.#past]; fault && fault.untilMs <= time.now(); fault = plan.faults[this.#past]) {
      this.#past += 1
    }
    const fault = plan.faults[this.#past]
    return fault && fault.atMs <= time.now() ? fault : undefined
  }

  /** Whether anything was the matter with it, or with one of its sessions, since then. */
  hadFault(sinceMs: number): boolean {
    const { plan, time } = this.#options
    const hangs = (plan.sessions ?? []).flatMap((session) => session.hangs)
    return [...plan.faults, ...hangs].some(({ atMs, untilMs }) => atMs <= time.now() && untilMs >= sinceMs)
  }

  /** A process that was started in place of a stopped one is well. */
  #effective(): Fault | undefined {
    const fault = this.fault()
    const isCured = fault?.kind === 'hang' && this.#options.plan.kind !== 'url' && !this.#process?.isStopped
    return isCured ? undefined : fault
  }

  /** It answered an opening exchange, so that clients are let in. */
  opened(): void {
    if (!this.#process || this.#process.isOpen) return
    this.#process.isOpen = true
    this.#options.onProcess('open')
  }

  asked(method: string): void {
    this.#options.onAsked(method)
  }

  traits(): Traits {
    return this.#options.plan.traits ?? plainTraits
  }

  /** Somebody ends its process. */
  ending(): void {
    this.#options.onProcess('ending')
  }

  /** Whether clients are let in: those of a stdio server wait for our own opening exchange. */
  isOpen(): boolean {
    return this.#options.plan.kind !== 'stdio' || this.#process?.isOpen === true
  }

  /** A client's request takes so long, if it can begin now; false if it cannot. */
  work(forMs: number, usesCpu: boolean): boolean {
    const nowMs = this.#options.time.now()
    // Before the opening exchange nobody is let in.
    const isReached = this.#options.plan.kind === 'url' || this.#process?.isOpen === true
    if (!isReached || this.fault() || this.#workingForMs() > 0) return false
    this.#works.push({ fromMs: nowMs, untilMs: nowMs + forMs, usesCpu })
    return true
  }

  #workingForMs(): number {
    return Math.max(0, (this.#works.at(-1)?.untilMs ?? 0) - this.#options.time.now())
  }

  /** A client was answered: what its process writes shows that it lives. */
  served(): void {
    if (this.#options.plan.kind === 'stdio') this.#process?.say()
  }

  /** Calls `run` when it ends, unless what is returned is called before. */
  whenItEnds(run: () => void): () => void {
    this.#waiting.add(run)
    return () => this.#waiting.delete(run)
  }

  /** A notification is never lost where requests are, since nobody would send it again. */
  reply(to: 'request' | 'notification' | 'session' = 'request'): Reply {
    const { plan, random, time } = this.#options
    const fault = this.#effective()
    const ownMs = plan.rttMs * between(random, 0.8, 1.4)
    const afterMs = ownMs + this.#workingForMs()
    if (plan.kind !== 'url' && !this.#process?.isReady) return { kind: 'refused' }
    switch (fault?.kind) {
      case undefined:
      case 'leak':
        return { kind: 'answer', afterMs }
      case 'crash':
        return { kind: 'refused' }
      case 'partition':
        return { kind: 'nothing' }
      case 'hang':
        return { kind: 'answer', afterMs: fault.untilMs - time.now() + afterMs }
      case 'garbage':
        return { kind: 'garbage', afterMs }
      case 'errors':
        return { kind: 'error', afterMs }
      case 'locked':
        return { kind: 'locked', afterMs }
      case 'slow':
        return { kind: 'answer', afterMs: afterMs * fault.factor + fault.plusMs }
      case 'late':
        // What waits for the end of a client's work is late already: both together would be no sign of life in time.
        return { kind: 'answer', afterMs: Math.max(fault.delayMs, this.#workingForMs()) + ownMs }
      case 'flaky':
        if (to === 'notification') return { kind: 'answer', afterMs }
        if (to === 'session') return { kind: random() < fault.ratio ? 'error' : 'answer', afterMs }
        // Never twice in a row for whom the verdict hears of: three would be `down`, and rightly.
        this.#hasFailed = !this.#hasFailed && random() < fault.ratio
        return { kind: this.#hasFailed ? 'error' : 'answer', afterMs }
    }
  }

  /** Starts its process, which lives as long as the plan lets it. */
  startProcess(): ServerProcess {
    const { plan, time, random, onProcess } = this.#options
    onProcess('started')
    const process = new SimulatedProcess({ pid: this.#pids++, time, server: this })
    this.#process = process
    time.at(time.now() + plan.bootMs * between(random, 0.7, 1.3), () => {
      if (process.exit()) return
      if (this.fault()?.kind === 'crash') process.end({ kind: 'exit', code: 1 })
      else {
        onProcess('ready')
        process.ready()
      }
      this.look()
    })
    void process.exited.then(() => this.#ended())
    return process
  }

  /** What its processes use, as the system would tell. */
  usageOf(pid: number): TreeUsage | undefined {
    const process = this.#process
    if (process?.pid !== pid) return undefined
    const { time } = this.#options
    const fault = this.#effective()
    const isSpinning = fault?.kind === 'hang' && fault.how === 'spinning'
    return {
      atMs: time.now(),
      residentBytes: process.isOutgrown ? 2 * memoryLimitBytes : 0,
      // A process that is well uses a thousandth of a core.
      cpuSeconds:
        (time.now() - process.startedAtMs) / 1_000_000 +
        (isSpinning ? (time.now() - fault.atMs) / 1000 : 0) +
        this.#workedMs() / 1000,
      threads: 1,
      children: 0,
      orphans: 0,
      isStopped: fault?.kind === 'hang' && fault.how === 'stopped',
    }
  }

  #workedMs(): number {
    const nowMs = this.#options.time.now()
    return this.#works.reduce(
      (sum, { fromMs, untilMs, usesCpu }) => sum + (usesCpu ? Math.min(nowMs, untilMs) - fromMs : 0),
      0,
    )
  }

  look(): void {
    const { plan, onServing } = this.#options
    const fault = this.#effective()
    const hasServer = plan.kind === 'url' || (this.#process?.isReady === true && this.#process.exit() === undefined)
    const isServing = hasServer && !(fault && isOutage(fault))
    if (isServing === this.#isServing) return
    this.#isServing = isServing
    onServing(isServing)
  }

  #ended(): void {
    this.#break()
    this.#options.onProcess('gone')
  }

  #break(): void {
    this.ends += 1
    this.#works = []
    for (const run of this.#waiting) run()
    this.#waiting.clear()
  }

  #begin(fault: Fault): void {
    const { onProcess } = this.#options
    if (fault.kind === 'crash') {
      this.#break()
      this.#endProcess(fault.isDone === true)
    }
    const process = this.#process?.exit() ? undefined : this.#process
    if (fault.kind === 'hang' && process) {
      process.isStopped = true
      onProcess(fault.how === 'stopped' ? 'hung' : fault.how)
    }
    if (fault.kind === 'leak' && process) {
      process.isOutgrown = true
      onProcess('outgrown')
    }
    this.look()
  }

  #endProcess(isDone: boolean): void {
    if (!this.#process || this.#process.exit()) return
    if (isDone) this.#options.onProcess('done')
    this.#process.end(isDone ? { kind: 'exit', code: 0 } : { kind: 'signal', signal: 'SIGSEGV' })
  }

  #over({ kind }: Fault): void {
    const { onProcess } = this.#options
    if (kind === 'hang' && this.#process?.isStopped) {
      this.#process.isStopped = false
      onProcess('awake')
    }
    if (kind === 'leak' && this.#process?.isOutgrown) {
      this.#process.isOutgrown = false
      onProcess('shrunk')
    }
    this.look()
  }
}

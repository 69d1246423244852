import { Readable, Writable } from 'node:stream'
import type { TreeUsage } from '../../src/upstreams/process-table.ts'
import type { ExitReason, ServerProcess } from '../../src/upstreams/process.ts'
import { type Fault, type ServerPlan, isOutage } from './faults.ts'
import { type Random, between } from './random.ts'
import type { VirtualTime } from './virtual-time.ts'

/** What becomes of a request that reaches the server now. */
export type Reply =
  | { readonly kind: 'answer' | 'garbage' | 'error' | 'locked'; readonly afterMs: number }
  /** Nobody listens. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'nothing' }

/** `awake`: it hung until now. `ending`: it is being ended by us. */
export type ProcessEvent = 'started' | 'ready' | 'open' | 'hung' | 'spinning' | 'awake' | 'ending' | 'gone'

export interface ServerOptions {
  readonly plan: ServerPlan
  readonly time: VirtualTime
  readonly random: Random
  /** Whether whoever asks now is served; told whenever that changes. */
  readonly onServing: (isServing: boolean) => void
  /** What its processes do, and what is done to them. */
  readonly onProcess: (event: ProcessEvent) => void
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

  /** Whether anything was the matter with it since then. */
  hadFault(sinceMs: number): boolean {
    const { plan, time } = this.#options
    return plan.faults.some(({ atMs, untilMs }) => atMs <= time.now() && untilMs >= sinceMs)
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
    if (!this.#process?.isOpen || this.fault() || this.#workingForMs() > 0) return false
    this.#works.push({ fromMs: nowMs, untilMs: nowMs + forMs, usesCpu })
    return true
  }

  #workingForMs(): number {
    return Math.max(0, (this.#works.at(-1)?.untilMs ?? 0) - this.#options.time.now())
  }

  /** Calls `run` when it ends, unless what is returned is called before. */
  whenItEnds(run: () => void): () => void {
    this.#waiting.add(run)
    return () => this.#waiting.delete(run)
  }

  reply(): Reply {
    const { plan, random, time } = this.#options
    const fault = this.#effective()
    const afterMs = plan.rttMs * between(random, 0.8, 1.4) + this.#workingForMs()
    if (plan.kind !== 'url' && !this.#process?.isReady) return { kind: 'refused' }
    switch (fault?.kind) {
      case undefined:
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
        return { kind: 'answer', afterMs: fault.delayMs + afterMs }
      case 'flaky':
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
    const isSpinning = fault?.kind === 'hang' && fault.isSpinning
    return {
      atMs: time.now(),
      residentBytes: 0,
      // A process that is well uses a thousandth of a core.
      cpuSeconds:
        (time.now() - process.startedAtMs) / 1_000_000 +
        (isSpinning ? (time.now() - fault.atMs) / 1000 : 0) +
        this.#workedMs() / 1000,
      threads: 1,
      children: 0,
      orphans: 0,
      isStopped: fault?.kind === 'hang' && !isSpinning,
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
    if (fault.kind === 'crash') {
      this.#break()
      this.#process?.end({ kind: 'signal', signal: 'SIGSEGV' })
    }
    if (fault.kind === 'hang' && this.#process && !this.#process.exit()) {
      this.#process.isStopped = true
      this.#options.onProcess(fault.isSpinning ? 'spinning' : 'hung')
    }
    this.look()
  }

  #over({ kind }: Fault): void {
    if (kind === 'hang' && this.#process?.isStopped) {
      this.#process.isStopped = false
      this.#options.onProcess('awake')
    }
    this.look()
  }
}

/** How long a process that has to be killed takes: what its server does with the end of its input, and SIGTERM. */
const stubbornMs = 8000
const obedientMs = 30

/** A process without a system: what it reads and writes goes through real streams, as a stdio server's. */
class SimulatedProcess implements ServerProcess {
  readonly pid: number
  readonly startedAtMs: number
  readonly startedAtWallMs: number
  readonly stdin: Writable
  readonly stdout: Readable
  readonly exited: Promise<ExitReason>
  isReady = false
  /** It answered `initialize`. */
  isOpen = false
  /** It hangs, until it is ended or its fault is over. */
  isStopped = false
  readonly #time: VirtualTime
  readonly #server: SimulatedServer
  readonly #resolve: (exit: ExitReason) => void
  #exit: ExitReason | undefined
  #isEnding = false
  /** What was read before it was ready. */
  #unread: Message[] = []

  constructor({
    pid,
    time,
    server,
  }: {
    readonly pid: number
    readonly time: VirtualTime
    readonly server: SimulatedServer
  }) {
    this.pid = pid
    this.#time = time
    this.#server = server
    this.startedAtMs = time.now()
    this.startedAtWallMs = time.wallTime()
    const { promise, resolve } = Promise.withResolvers<ExitReason>()
    this.exited = promise
    this.#resolve = resolve
    this.stdout = new Readable({ read: () => undefined })
    this.stdin = new Writable({
      writev: (chunks, done) => {
        this.#read(Buffer.concat(chunks.map(({ chunk }: { chunk: Buffer }) => chunk)).toString())
        done()
      },
    })
    const cork = this.stdin.cork.bind(this.stdin)
    this.stdin.cork = () => {
      time.streamMoved()
      cork()
    }
  }

  stderrTail(): string {
    return ''
  }

  exit(): ExitReason | undefined {
    return this.#exit
  }

  lastStderrMs(): number {
    return this.startedAtMs
  }

  stop(): Promise<ExitReason> {
    if (this.#exit || this.#isEnding) return this.exited
    this.#isEnding = true
    this.#server.ending()
    const isStubborn = this.isStopped
    const signal = isStubborn ? 'SIGKILL' : 'SIGTERM'
    this.#time.at(this.#time.now() + (isStubborn ? stubbornMs : obedientMs), () => this.end({ kind: 'signal', signal }))
    return this.exited
  }

  kill(signal: NodeJS.Signals): void {
    this.end({ kind: 'signal', signal })
  }

  ready(): void {
    this.isReady = true
    for (const message of this.#unread.splice(0)) this.#answer(message)
  }

  end(exit: ExitReason): void {
    if (this.#exit) return
    this.#exit = exit
    this.isReady = false
    this.isOpen = false
    this.#time.streamMoved()
    this.stdout.push(null)
    this.stdin.destroy()
    this.#resolve(exit)
    this.#server.look()
  }

  #read(text: string): void {
    for (const line of text.split('\n')) {
      if (line === '') continue
      const message: Message = JSON.parse(line)
      if (message.id === undefined) continue
      if (this.isReady) this.#answer(message)
      else this.#unread.push(message)
    }
  }

  #answer(message: Message): void {
    const reply = this.#server.reply()
    if (reply.kind === 'nothing' || reply.kind === 'refused' || reply.kind === 'locked') return
    const { kind, afterMs } = reply
    this.#time.at(this.#time.now() + afterMs, () => {
      if (this.#exit) return
      this.#time.streamMoved()
      if (kind === 'answer' && message.method === 'initialize') this.#server.opened()
      if (kind === 'answer')
        this.stdout.push(`${JSON.stringify({ jsonrpc: '2.0', id: message.id, ...answerTo(message) })}\n`)
      else this.stdout.push('Traceback (most recent call last):\n')
    })
  }
}

interface Message {
  readonly id?: string | number
  readonly method?: string
}

function answerTo({ method }: Message): object {
  switch (method) {
    case 'initialize':
      return {
        result: {
          protocolVersion: '2025-11-25',
          capabilities: { tools: {} },
          serverInfo: { name: 'simulated', version: '1' },
        },
      }
    case 'tools/list':
      return { result: { tools: [{ name: 'read', inputSchema: {} }] } }
    case 'ping':
      return { result: {} }
    case undefined:
    default:
      return { error: { code: -32_601, message: 'method not found' } }
  }
}

import { type Clock, sleep } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { errorCode, errorMessage } from '../errors.ts'
import { describeExit } from '../upstreams/process.ts'
import type { Line, StdioUpstream } from '../upstreams/stdio.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Era } from '../wire/era.ts'
import type { Waiting } from '../sessions/session.ts'
import { type Leg, isAnswered, outcomeOf } from './classify.ts'
import { type Listing, type Opening, isListed, listTools, open } from './conversation.ts'
import { Ladder } from './ladder.ts'
import {
  type CheckOptions,
  type Checks,
  type ProbeMethod,
  type ProbeResult,
  type ProbeRun,
  type Prober,
  ask,
  fixedRung,
} from './probe.ts'
import { type Look, type Way, processRuns, saysSomething, wayTo } from './unasked.ts'

export interface StdioProberOptions {
  readonly upstream: StdioUpstream
  readonly clock: Clock
  readonly startDeadlineMs: number
  /** How long a process may leave `server/discover` unanswered before it is taken for a legacy one that ignores it. */
  readonly discoverPatienceMs: number
  /** Sessions whose process answered real traffic since this time need no probe. */
  readonly idleSinceMs: () => number
  /** Who waits for whom inside the session of this key; its client, while its `initialize` is not answered. */
  readonly waitingIn: (session: string) => Waiting
  /** For how long a question that its client leaves unanswered excuses the silence of a process that nobody waits for. */
  readonly excusedMs: number
  /** Whether a signal has stopped the process of this id. */
  readonly isStopped: (pid: number) => boolean
  /** What to ask; looked up each time. */
  readonly method: () => ProbeMethod
  /**
   * What our `initialize` declares to a resident process that clients' sessions share. They are of the legacy era, so a
   * server of both eras is then opened in that one.
   */
  readonly sharedCapabilities?: Readonly<Record<string, unknown>> | undefined
}

interface Learning {
  readonly wantsInventory: boolean
  readonly leftMs: () => number
}

/**
 * Heartbeats of a stdio server: in the resident process while it runs, and inside the processes of the client
 * sessions, once their opening exchange is over and only while they are idle.
 */
export class StdioProber implements Prober {
  readonly #options: StdioProberOptions
  #era: Era | undefined
  #opening: Opening | undefined
  /** What it learns of one process holds for all. */
  readonly #ladder = new Ladder('process')
  #skipDiscover = false
  #toolsChanged = false

  constructor(options: StdioProberOptions) {
    this.#options = options
  }

  /** Only a process that was opened serves the requests of 2026-07-28. */
  isAwaited(): boolean {
    return this.openingDeadlineMs() !== undefined
  }

  openingDeadlineMs(): number | undefined {
    const line = this.#options.upstream.residentLine()
    return line && !line.opened ? this.#options.startDeadlineMs : undefined
  }

  describe(): ReturnType<Prober['describe']> {
    const probe = this.#era ? this.#methodFor(this.#era) : 'server/discover'
    return { probe, era: this.#era, protocolVersion: this.#opening?.protocolVersion }
  }

  /** An opening exchange is made alone: it may take as long as a start. */
  start({ deadlineMs, wantsInventory }: CheckOptions): Checks {
    const { clock, upstream } = this.#options
    const endsMs = clock.now() + deadlineMs
    const leftMs = () => Math.max(1, endsMs - clock.now())
    const resident = upstream.residentLine()
    const sessions = upstream.sessionLines().filter(({ ended }) => !ended)
    const ways = sessions.map((line) => ({ line, way: this.#wayTo(line) }))
    const heard = ways.filter(({ way }) => way.kind === 'heard').map(({ line }) => line.lastHeardMs)
    const passedOver = { alive: heard.length, ...(heard.length > 0 && { aliveSinceMs: Math.min(...heard) }) }
    const method = this.describe().probe
    if (resident && !resident.opened) {
      const noise = noiseSince(resident)
      return { runs: [{ leg: 'upstream', method, done: this.#open(resident, leftMs), noise }], ...passedOver }
    }
    const learning = { wantsInventory, leftMs }
    const runs = ways.flatMap(({ line, way }) => this.#runIn(line, way, learning) ?? [])
    return { runs: resident ? [this.#ask(resident, 'upstream', learning), ...runs] : runs, ...passedOver }
  }

  /** A server whose client does not read is not read either. */
  #wayTo(line: Line): Way {
    const { clock, idleSinceMs, excusedMs } = this.#options
    return wayTo({
      hasSpoken: line.firstHeardMs !== undefined,
      isIdle: line.lastHeardMs < idleSinceMs(),
      isOpened: line.opened,
      canAsk: !line.process.stdout.isPaused(),
      waiting: this.#waitingIn(line),
      isOverdue: clock.now() - line.lastHeardMs >= excusedMs,
    })
  }

  forget(): void {
    // A process is its own connection: it is replaced, never reconnected.
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  #runIn(line: Line, way: Way, learning: Learning): ProbeRun | undefined {
    const { session } = line
    const deadlineMs = learning.leftMs()
    switch (way.kind) {
      case 'heard':
        return undefined
      case 'ask':
        return this.#ask(line, 'session', learning)
      case 'listen':
        return this.#listen(line, deadlineMs)
      case 'look':
        return { leg: 'session', method: 'process', session, done: this.#look(line, 'session', deadlineMs, way.proves) }
    }
  }

  #ask(line: Line, leg: Leg, learning: Learning): ProbeRun {
    const { session } = line
    const { leftMs } = learning
    const era = leg === 'upstream' ? (this.#era ?? 'legacy') : 'legacy' // Modern clients have no session.
    const method = this.#methodFor(era)
    const noise = noiseSince(line)
    const look = (deadlineMs: number) => this.#look(line, leg, deadlineMs)
    if (this.#options.method() === 'transport') return { leg, method, session, done: look(leftMs()) }
    const beat = { talker: line.peer, clock: this.#options.clock, era, leg, session, deadlineMs: leftMs() } as const
    const fixed = fixedRung(this.#options.method(), era)
    const asked = fixed
      ? ask({ ...beat, method: fixed })
      : this.#ladder.ask({ ...beat, liveness: this.#opening?.hasTools === true ? undefined : look })
    const done = asked
      .then(({ result }) => this.#learn(result, line, learning))
      .then((result) => this.#checkEnd(result, line))
      .then((result) => {
        if (result.outcome === 'exited') this.#ladder.ended(result.method)
        return result
      })
    return { leg, method, session, done, noise }
  }

  /** A pipe breaks a moment before the end of its process is heard; one that goes on running has not ended. */
  async #checkEnd(result: ProbeResult, { process }: Line): Promise<ProbeResult> {
    if (result.outcome !== 'exited') return result
    const over = new AbortController()
    void process.exited.then(() => over.abort())
    if (!process.exit()) await sleep(this.#options.clock, defaults.supervision.exitHeardMs, over.signal)
    return process.exit() ? result : { ...result, outcome: 'closed' }
  }

  #waitingIn({ session }: Line): Waiting {
    return session === undefined ? 'nobody' : this.#options.waitingIn(session)
  }

  #listen(line: Line, deadlineMs: number): ProbeRun {
    const { session } = line
    const leg = 'session'
    const options = { clock: this.#options.clock, leg, session, deadlineMs } as const
    const server = { lastHeardMs: () => line.lastHeardMs, isAwaited: () => this.#waitingIn(line) === 'client' }
    return { leg, method: 'traffic', session, done: saysSomething(options, server) }
  }

  #look({ process, session }: Line, leg: Leg, deadlineMs: number, proves?: Look): Promise<ProbeResult> {
    const { clock, isStopped } = this.#options
    const { pid } = process
    const looked = {
      pid,
      isStopped: () => pid !== undefined && isStopped(pid),
      hasEnded: () => process.exit() !== undefined,
    }
    return processRuns({ clock, leg, session, deadlineMs }, looked, proves)
  }

  #methodFor(era: Era): string {
    const preferred = this.#options.method()
    if (preferred === 'transport') return 'process'
    return fixedRung(preferred, era) ?? this.#ladder.rung({ hasTools: this.#opening?.hasTools })
  }

  #learn(result: ProbeResult, line: Line, { wantsInventory, leftMs }: Learning): ProbeResult {
    const { outcome } = result
    if (line.role !== 'resident' || !isAnswered(outcome)) return result
    // Some answer a `ping` all the same: it changes nothing for clients.
    const refusal = this.#opening?.refusal
    if (refusal !== undefined) return { ...result, reason: `${result.reason}, but ${refusal}`, turnedAway: true }
    if (!wantsInventory && !this.#toolsChanged) return result
    const announced = this.#toolsChanged
    this.#toolsChanged = false
    const inventory = this.#readTools(line, leftMs).then((tools) => {
      if (!isListed(tools)) this.#toolsChanged ||= announced
      return tools
    })
    return { ...result, inventory, announced }
  }

  #readTools({ peer }: Line, leftMs: () => number): Promise<Listing> {
    return listTools(peer, { era: this.#era ?? 'legacy', hasTools: this.#opening?.hasTools }, leftMs)
  }

  async #open(line: Line, leftMs: () => number): Promise<ProbeResult> {
    const { clock, upstream } = this.#options
    const startedMs = clock.now()
    try {
      const opening = await this.#handshake(line, leftMs)
      const { method, era, protocolVersion, refusal } = opening
      if (refusal === undefined) this.#era = era
      this.#opening = opening
      this.#toolsChanged = false
      line.initializeAnswer = opening.initializeAnswer
      line.supportedVersions = opening.supportedVersions
      upstream.residentReady(line)
      const reason = refusal ?? `${method} answered (${protocolVersion})`
      const inventory = this.#readTools(line, leftMs)
      const durationMs = clock.now() - startedMs
      const result = { leg: 'upstream', method, outcome: 'ok', reason, durationMs, opening: true, inventory } as const
      return refusal === undefined ? result : { ...result, turnedAway: true }
    } catch (error) {
      const code = errorCode(error)
      const exit = code === 'cancelled' ? undefined : line.process.exit() // Cancelled is what we ended ourselves.
      const outcome = exit ? 'exited' : outcomeOf(error)
      const reason = exit ? `the process ${describeExit(exit)}` : errorMessage(error)
      const durationMs = clock.now() - startedMs
      const { probe: asked } = this.describe()
      return this.#checkEnd({ leg: 'upstream', method: asked, outcome, reason, durationMs, opening: true }, line)
    }
  }

  /** Some servers end at a first message that is not `initialize`: next time it comes first. */
  async #handshake(line: Line, leftMs: () => number): Promise<Opening> {
    const { discoverPatienceMs, sharedCapabilities: capabilities } = this.#options
    const known = this.#skipDiscover || capabilities ? 'legacy' : this.#era
    this.#skipDiscover = false
    try {
      return await open(line.peer, { known, leftMs, discoverPatienceMs, capabilities, speak: () => undefined })
    } catch (error) {
      this.#skipDiscover = known !== 'legacy' && errorCode(error) === 'upstream_exited'
      throw error
    }
  }

  /** What the resident process says to nobody else: news of its tools, and requests that we must answer. */
  hear(line: Line, envelope: Envelope): void {
    if (envelope.method === 'notifications/tools/list_changed') this.#toolsChanged = true
    line.peer.answerServerRequest(envelope).catch(() => undefined) // The process is gone, and its exit is heard.
  }
}

/** How many lines that are no JSON-RPC it has written since now. */
function noiseSince(line: Line): () => number {
  const before = line.noise
  return () => line.noise - before
}

import type { Clock } from '../clock.ts'
import { errorCode, errorMessage } from '../errors.ts'
import { describeExit } from '../upstreams/process.ts'
import type { Line, StdioUpstream } from '../upstreams/stdio.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Era } from '../wire/era.ts'
import { outcomeOfCode } from './classify.ts'
import { type Opening, discover, initialize, readInventory } from './conversation.ts'
import { type ProbeResult, type ProbeRun, type Prober, type Rung, ask, firstRung } from './probe.ts'

export interface StdioProberOptions {
  readonly upstream: StdioUpstream
  readonly clock: Clock
  readonly startDeadlineMs: number
  /** How long a process may leave `server/discover` unanswered before it is taken for a legacy one that ignores it. */
  readonly discoverPatienceMs: number
  /** Sessions whose process answered real traffic since this time need no probe. */
  readonly idleSinceMs: () => number
}

/**
 * Heartbeats of a stdio server: in the resident process while it runs, else inside the processes of the client
 * sessions, once their opening exchange is over and only while they are idle.
 */
export class StdioProber implements Prober {
  readonly #options: StdioProberOptions
  #era: Era | undefined
  #opening: Opening | undefined
  #rung: Rung | undefined
  #silentPing = true
  #skipDiscover = false
  #toolsChanged = false

  constructor(options: StdioProberOptions) {
    this.#options = options
  }

  openingDeadlineMs(): number | undefined {
    const line = this.#options.upstream.residentLine()
    return line && !line.opened ? this.#options.startDeadlineMs : undefined
  }

  describe(): ReturnType<Prober['describe']> {
    const probe = this.#rung ?? (this.#era ? firstRung(this.#era) : 'server/discover')
    return { probe, era: this.#era, protocolVersion: this.#opening?.protocolVersion }
  }

  start(deadlineMs: number): readonly ProbeRun[] {
    const { upstream, idleSinceMs } = this.#options
    const resident = upstream.residentLine()
    if (resident) {
      const done = resident.opened ? this.#beat(resident, deadlineMs) : this.#open(resident, deadlineMs)
      return [{ leg: 'upstream', method: this.describe().probe, done }]
    }
    return upstream
      .sessionLines()
      .filter((line) => line.opened && line.lastHeardMs < idleSinceMs())
      .map((line) => {
        const method = this.#rung ?? 'ping'
        return { leg: 'session', method, session: line.session, done: this.#beat(line, deadlineMs) }
      })
  }

  forget(): void {
    // A process is its own connection: it is replaced, never reconnected.
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  async #beat(line: Line, deadlineMs: number): Promise<ProbeResult> {
    const era = line.role === 'session' ? 'legacy' : (this.#era ?? 'legacy')
    const leg = line.role === 'session' ? ('session' as const) : ('upstream' as const)
    const method = era === 'modern' ? 'server/discover' : (this.#rung ?? 'ping')
    const beat = { talker: line.peer, clock: this.#options.clock, era, leg, session: line.session, deadlineMs }
    const result = await this.#withNews(await ask({ ...beat, method }), line, deadlineMs)
    if (method !== 'ping') return result
    if (result.outcome === 'ok') this.#silentPing = false
    if (result.outcome === 'unsupported') this.#rung = 'tools/list'
    if (result.outcome !== 'timeout' || !this.#silentPing) return result
    const next = await ask({ ...beat, method: 'tools/list' })
    if (next.outcome !== 'ok') return result
    this.#rung = 'tools/list'
    return next
  }

  /** The server said that its tools changed: the answered heartbeat brings the new list along. */
  async #withNews(result: ProbeResult, line: Line, deadlineMs: number): Promise<ProbeResult> {
    if (!this.#toolsChanged || line.role !== 'resident' || result.outcome !== 'ok') return result
    this.#toolsChanged = false
    const inventory = await readInventory(line.peer, this.#era ?? 'legacy', deadlineMs).catch(() => undefined) // Next time.
    return { ...result, inventory, announced: true }
  }

  async #open(line: Line, deadlineMs: number): Promise<ProbeResult> {
    const { clock, upstream } = this.#options
    const startedMs = clock.now()
    const leftMs = () => Math.max(1, deadlineMs - (clock.now() - startedMs))
    try {
      const opening = await this.#handshake(line, leftMs)
      this.#era = opening.era
      this.#opening = opening
      const durationMs = clock.now() - startedMs
      const inventory = opening.hasTools
        ? await readInventory(line.peer, opening.era, leftMs()).catch(() => undefined) // The next heartbeat tells why.
        : undefined
      upstream.residentReady(line)
      const reason = `${opening.method} answered (${opening.protocolVersion})`
      const method = opening.method
      return { leg: 'upstream', method, outcome: 'ok', reason, durationMs, opening: true, inventory }
    } catch (error) {
      const exit = line.process.exit()
      const outcome = exit ? 'exited' : outcomeOfCode(errorCode(error))
      const reason = exit ? `the process ${describeExit(exit)}` : errorMessage(error)
      const durationMs = clock.now() - startedMs
      return { leg: 'upstream', method: this.describe().probe, outcome, reason, durationMs, opening: true }
    }
  }

  async #handshake(line: Line, leftMs: () => number): Promise<Opening> {
    const skipDiscover = this.#skipDiscover
    this.#skipDiscover = false
    if (this.#era !== 'legacy' && !skipDiscover) {
      const patienceMs = Math.min(leftMs(), this.#options.discoverPatienceMs)
      try {
        const opening = await discover(line.peer, patienceMs)
        if (opening) return opening
      } catch (error) {
        // Some servers end, or stay silent, at a first message that is not `initialize`: next time it comes first.
        this.#skipDiscover = errorCode(error) === 'upstream_exited'
        if (errorCode(error) !== 'upstream_timeout') throw error
      }
    }
    return initialize(line.peer, leftMs(), () => undefined)
  }

  /** What the resident process says to nobody else: news of its tools, and requests that we must answer. */
  hear(line: Line, envelope: Envelope): void {
    if (envelope.method === 'notifications/tools/list_changed') this.#toolsChanged = true
    line.peer.answerServerRequest(envelope).catch(() => undefined) // The process is gone, and its exit is heard.
  }
}

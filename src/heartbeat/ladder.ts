import { sleep } from '../clock.ts'
import { type Outcome, isAnswered } from './classify.ts'
import { type AskOptions, type Asked, type ProbeResult, ask } from './probe.ts'

/** What shows that a server lives when it answers nothing that it is asked. */
type LowestRung = 'transport' | 'process'

/** The rungs on which a server of the legacy era is asked, the best evidence first. */
export type LegacyRung = 'ping' | 'tools/list' | LowestRung

export interface LadderAsk extends Omit<AskOptions, 'method'> {
  /**
   * Looks on the lowest rung. Undefined where the server said that it has tools: then it owes a list of them, and its
   * silence is a failure.
   */
  readonly liveness: Liveness | undefined
}

/** Settles by the deadline. */
export type Liveness = (deadlineMs: number) => Promise<ProbeResult>

/** What came of it; `trial` is what a server on the lowest rung was asked without a verdict. */
export interface Climbed extends Asked {
  readonly trial?: Promise<Asked> | undefined
}

/**
 * How long a server may leave a `ping` unanswered that never answered one, before it is asked something else besides. Half
 * the shortest time-out of a probe.
 */
const pingPatienceMs = 1000
/** And `tools/list` after that: some time of the probe has to be left to look whether it lives at all. */
const listPatienceMs = 500

/** A server whose process ends so often at a request that it never answered is not asked that again. */
const endsToSpare = 2

/** How servers that do not know `ping` react to it, besides with −32601 and silence. */
const unknowing: ReadonlySet<Outcome> = new Set(['http_error', 'invalid', 'closed', 'reset'])

/**
 * What one server of the legacy era is asked, learnt from how it reacts. A `ping` that it does not know, or never
 * answers, is no failure: it is asked for its tools instead, and where it has none and ignores that too, only whether
 * its transport or process lives. That holds for servers that never answered a heartbeat; once one did, its silence is
 * news. Nor is a `ping` at which it fails, if it never answered one on this connection and lists its tools at once. On
 * the lowest rung it is asked all the same, and is back on its feet with the first answer: it may only have been slow to
 * begin. Nor does it leave `ping` for good because it answered one late. A request that ends its process, which hand-written
 * servers do with what they do not know, is never made again.
 */
export class Ladder {
  readonly #lowest: LowestRung
  #rung: LegacyRung = 'ping'
  #isPingProven = false
  /** Whether it ever answered a heartbeat. */
  #hasAnswered = false
  #isOnTrial = false
  /** How often its process ended at a request, by method; never again a reason once that was answered. */
  readonly #ends = new Map<string, number>()

  constructor(lowest: LowestRung) {
    this.#lowest = lowest
  }

  /** `tools/list` is the lowest rung of a server that has tools. */
  rung({ hasTools }: { readonly hasTools: boolean | undefined }): LegacyRung {
    const rung = this.#spared()
    return rung === this.#lowest && hasTools === true ? 'tools/list' : rung
  }

  /** Another server may stand there now, whose silence at `ping` is none. */
  reopened(): void {
    this.#isPingProven = false
  }

  /** Its process ended at this request. */
  ended(method: string): void {
    this.#ends.set(method, (this.#ends.get(method) ?? 0) + 1)
  }

  /** The rung in use, but for what would end its process. */
  #spared(): LegacyRung {
    if (!this.#isFatal('ping')) return this.#rung
    return this.#isFatal('tools/list') ? this.#lowest : 'tools/list'
  }

  #isFatal(method: string): boolean {
    return (this.#ends.get(method) ?? 0) >= endsToSpare
  }

  /** One heartbeat on the rung in use; takes the next one within the same probe, early enough for its time-out. */
  async ask(options: LadderAsk): Promise<Climbed> {
    const { liveness, deadlineMs } = options
    const rung = this.#spared()
    if (rung === this.#lowest && liveness) return { trial: this.#try(options), result: await liveness(deadlineMs) }
    if (rung === 'ping' && !this.#isPingProven) return this.#descend(options)
    return this.#learn(await ask({ ...options, method: rung === 'ping' ? rung : 'tools/list' }))
  }

  async #descend(options: LadderAsk): Promise<Asked> {
    const { deadlineMs, clock, liveness } = options
    const startedMs = clock.now()
    const leftMs = () => Math.max(1, deadlineMs - (clock.now() - startedMs))
    const ping = ask({ ...options, method: 'ping' }).then((asked) => this.#learn(asked))
    const soon = await this.#within(pingPatienceMs, ping, options)
    const isOver = soon && !unknowing.has(soon.result.outcome)
    if (isOver || deadlineMs <= pingPatienceMs) return soon ?? ping
    const list = ask({ ...options, method: 'tools/list', deadlineMs: leftMs() }).then((asked) => this.#learn(asked))
    if (soon) {
      const patienceMs = pingPatienceMs + listPatienceMs - (clock.now() - startedMs)
      const listed = await this.#within(patienceMs, list, options)
      return listed && isAnswered(listed.result.outcome) ? unsupported(soon, listed) : soon
    }
    const either = firstAnswered(ping, list)
    if (liveness && !this.#hasAnswered) {
      const asked = await this.#within(listPatienceMs, either, options)
      if (asked && asked.result.outcome !== 'timeout') return asked
      const result = await liveness(leftMs())
      if (isAnswered(result.outcome) && !this.#hasAnswered) this.#rung = this.#lowest
      return { result }
    }
    const asked = await either
    if (isAnswered(asked.result.outcome)) return asked
    return { result: { ...asked.result, method: 'ping', durationMs: clock.now() - startedMs } }
  }

  /** Undefined when it takes longer. */
  async #within<T>(timeoutMs: number, work: Promise<T>, { clock }: LadderAsk): Promise<T | undefined> {
    const over = new AbortController()
    const late = sleep(clock, timeoutMs, over.signal).then(() => undefined)
    return Promise.race([work, late]).finally(() => over.abort('no longer waited for'))
  }

  /** One at a time: the last one may still wait for its answer. */
  #try(options: LadderAsk): Promise<Asked> | undefined {
    if (this.#isOnTrial || this.#isFatal('ping')) return undefined
    this.#isOnTrial = true
    return ask({ ...options, method: 'ping' })
      .then((asked) => this.#learn(asked))
      .finally(() => (this.#isOnTrial = false))
  }

  #learn(asked: Asked): Asked {
    const { method, outcome } = asked.result
    if (!isAnswered(outcome)) return asked
    this.#hasAnswered = true
    this.#ends.set(method, Number.NEGATIVE_INFINITY)
    if (method === 'ping' && outcome === 'unsupported') this.#isPingProven = false
    if (method === 'ping' && outcome === 'ok' && asked.errorCode === undefined) this.#isPingProven = true
    // A list that comes after the answer to a slow ping says nothing against it.
    this.#rung = this.#isPingProven || (method === 'ping' && outcome !== 'unsupported') ? 'ping' : 'tools/list'
    return asked
  }
}

/** It failed at `ping`, and is well: what both together come to. */
function unsupported({ result: { reason } }: Asked, { result }: Asked): Asked {
  const why = `ping failed (${reason}), and ${result.reason}`
  return { result: { ...result, method: 'ping', outcome: 'unsupported', reason: why } }
}

/** The first answer of the two, or else the first failure that is more than silence. */
async function firstAnswered(ping: Promise<Asked>, list: Promise<Asked>): Promise<Asked> {
  const first = await Promise.race([ping, list])
  if (first.result.outcome !== 'timeout') return first
  const [pinged, listed] = await Promise.all([ping, list])
  return pinged.result.outcome === 'timeout' ? listed : pinged
}

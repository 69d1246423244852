import { type Clock, giveUpAfter, sleep } from '../../src/clock.ts'
import type { Outcome } from '../../src/heartbeat/classify.ts'
import { isFailure } from '../../src/heartbeat/classify.ts'
import type { CheckOptions, Checks, ProbeResult, Prober } from '../../src/heartbeat/probe.ts'
import type { Reply, SimulatedServer } from './server.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface UrlProberOptions {
  readonly server: SimulatedServer
  readonly time: VirtualTime
  readonly isStarting: () => boolean
  readonly isResting: () => boolean
  readonly onAsked: () => void
  readonly startDeadlineMs: number
  readonly openingDeadlineMs: number
}

const retryWhileStartingMs = 100
const tools = new Map([['read', 'hash']])

/** What HttpProber is to the heartbeat, without HTTP: a connection that is opened, kept and forgotten in the same way. */
export class UrlProber implements Prober {
  readonly #options: UrlProberOptions
  #isOpen = false
  #isOpening = false

  constructor(options: UrlProberOptions) {
    this.#options = options
  }

  isAwaited(): boolean {
    return this.#options.isStarting()
  }

  openingDeadlineMs(): number | undefined {
    if (this.#isOpen) return undefined
    const { isStarting, startDeadlineMs, openingDeadlineMs } = this.#options
    return isStarting() ? startDeadlineMs : openingDeadlineMs
  }

  describe(): ReturnType<Prober['describe']> {
    return { probe: this.#isOpen ? 'ping' : 'initialize', era: 'legacy', protocolVersion: '2025-11-25' }
  }

  start({ deadlineMs, wantsInventory }: CheckOptions): Checks {
    if (this.#isOpening || this.#options.isResting()) return { runs: [], alive: 0 }
    this.#options.onAsked()
    const endsMs = this.#options.time.now() + deadlineMs
    const done = this.#isOpen ? this.#ask('ping', endsMs) : this.#open(endsMs)
    const withTools = done.then((result) =>
      wantsInventory && result.outcome === 'ok' ? { ...result, inventory: Promise.resolve(tools) } : result,
    )
    return { runs: [{ leg: 'upstream', method: this.describe().probe, done: withTools }], alive: 0 }
  }

  forget(): void {
    this.#isOpen = false
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  async #open(endsMs: number): Promise<ProbeResult> {
    const { server, time, isStarting } = this.#options
    const clock: Clock = time
    this.#isOpening = true
    for (;;) {
      const result = await this.#ask('initialize', endsMs)
      const maySoonListen = result.outcome === 'refused' && isStarting()
      if (maySoonListen && endsMs - time.now() > retryWhileStartingMs) {
        await sleep(clock, retryWhileStartingMs)
        continue
      }
      this.#isOpening = false
      this.#isOpen = result.outcome === 'ok'
      if (this.#isOpen) server.opened()
      return { ...result, opening: true }
    }
  }

  async #ask(method: string, endsMs: number): Promise<ProbeResult> {
    const { time } = this.#options
    const startedMs = time.now()
    const { outcome, reason } = await this.#reply(method, endsMs)
    if (isFailure(outcome) && outcome !== 'timeout') this.#isOpen = false
    return { leg: 'upstream', method, outcome, reason, durationMs: time.now() - startedMs }
  }

  #reply(method: string, endsMs: number): Promise<{ readonly outcome: Outcome; readonly reason: string }> {
    const { server, time } = this.#options
    const reply = server.reply()
    const { ends } = server
    return new Promise((resolve) => {
      const timer = giveUpAfter(time, endsMs - time.now(), () => {
        resolve({ outcome: 'timeout', reason: `no answer to ${method} in time` })
      })
      const afterMs = 'afterMs' in reply ? reply.afterMs : 0
      if (reply.kind === 'nothing' || time.now() + afterMs > endsMs) return
      time.at(time.now() + afterMs, () => {
        timer.cancel()
        if (server.ends === ends) resolve(resultOf(reply, method))
        else resolve({ outcome: 'reset', reason: 'connection reset' })
      })
    })
  }
}

function resultOf({ kind }: Reply, method: string): { readonly outcome: Outcome; readonly reason: string } {
  switch (kind) {
    case 'answer':
      return { outcome: 'ok', reason: `${method} answered` }
    case 'garbage':
      return { outcome: 'invalid', reason: 'the answer is no JSON-RPC message' }
    case 'error':
      return { outcome: 'http_error', reason: 'HTTP 500' }
    case 'locked':
      return { outcome: 'unauthorized', reason: 'HTTP 401' }
    case 'refused':
      return { outcome: 'refused', reason: 'connection refused' }
    case 'nothing':
      return { outcome: 'timeout', reason: `no answer to ${method}` }
  }
}

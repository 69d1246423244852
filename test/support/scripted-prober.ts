import { type Clock, sleep } from '../../src/clock.ts'
import type { Leg, Outcome } from '../../src/heartbeat/classify.ts'
import type { Inventory, Listing } from '../../src/heartbeat/conversation.ts'
import type { CheckOptions, Checks, ProbeResult, ProbeRun, Prober } from '../../src/heartbeat/probe.ts'

/** How one check goes: at once and well, unless told otherwise. */
export interface Check {
  readonly afterMs?: number
  /** What comes after `afterMs`; without it, nothing comes before the deadline. */
  readonly outcome?: Outcome | 'silence'
  readonly reason?: string
  readonly leg?: Leg
  readonly method?: string
  readonly session?: string
  readonly opening?: boolean
  readonly turnedAway?: boolean
  readonly retryAfterMs?: number
  /** `silence`: they are asked for, and nothing comes before the deadline. */
  readonly tools?: readonly string[] | Promise<readonly string[]> | 'silence'
  readonly announced?: boolean
  /** Keeps no deadline, as a prober with a bug would. */
  readonly neverSettles?: boolean
  readonly rejects?: Error
  /** So many messages come meanwhile that are no JSON-RPC. */
  readonly noise?: number
}

/** The checks of one heartbeat; `alive` processes need none. */
export interface Script {
  readonly checks: readonly Check[]
  readonly alive?: number
  readonly aliveSinceMs?: number
  /** Makes this heartbeat an opening exchange. */
  readonly openingDeadlineMs?: number
  readonly isAwaited?: boolean
  readonly throws?: Error
}

/** A prober that does what the test says, in the clock's time, and remembers when it was asked. */
export class ScriptedProber implements Prober {
  readonly starts: { readonly atMs: number; readonly options: CheckOptions }[] = []
  /** How many checks were under way at most. */
  mostAtOnce = 0
  forgotten = 0
  stopped = false
  next: Script
  readonly #clock: Clock
  #underWay = 0

  constructor(clock: Clock, next: Check | Script = {}) {
    this.#clock = clock
    this.next = scriptOf(next)
  }

  /** What every heartbeat from now on does. */
  play(next: Check | Script): void {
    this.next = scriptOf(next)
  }

  isAwaited(): boolean {
    return this.next.isAwaited ?? false
  }

  openingDeadlineMs(): number | undefined {
    return this.next.openingDeadlineMs
  }

  describe(): ReturnType<Prober['describe']> {
    return { probe: 'ping', era: 'legacy', protocolVersion: '2025-11-25' }
  }

  start(options: CheckOptions): Checks {
    this.starts.push({ atMs: this.#clock.now(), options })
    const { checks, alive = 0, aliveSinceMs, throws } = this.next
    if (throws) throw throws
    const runs = checks.map((check) => this.#run(check, options))
    return { runs, alive, ...(aliveSinceMs !== undefined && { aliveSinceMs }) }
  }

  forget(): void {
    this.forgotten += 1
  }

  stop(): Promise<void> {
    this.stopped = true
    return Promise.resolve()
  }

  #run(check: Check, { deadlineMs }: CheckOptions): ProbeRun {
    const { leg = 'upstream', method = 'ping', session, noise = 0 } = check
    this.#underWay += 1
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#underWay)
    const done = this.#done(check, deadlineMs).finally(() => (this.#underWay -= 1))
    return { leg, method, session, done, noise: () => noise }
  }

  #done(check: Check, deadlineMs: number): Promise<ProbeResult> {
    const {
      leg = 'upstream',
      method = 'ping',
      session,
      outcome = 'ok',
      opening,
      turnedAway,
      tools,
      announced,
      retryAfterMs,
    } = check
    const afterMs = outcome === 'silence' ? deadlineMs : (check.afterMs ?? 0)
    const known = outcome === 'silence' ? 'timeout' : outcome
    const reason = check.reason ?? `${method}: ${known}`
    const startedMs = this.#clock.now()
    const silence = () => sleep(this.#clock, deadlineMs).then((): Listing => 'unanswered')
    const inventory = tools === 'silence' ? silence() : tools && Promise.resolve(tools).then(inventoryOf)
    const result = {
      leg,
      method,
      session,
      outcome: known,
      reason,
      opening,
      turnedAway,
      inventory,
      announced,
      retryAfterMs,
    }
    return new Promise((resolve, reject) => {
      const { neverSettles, rejects } = check
      if (neverSettles) return
      const settle = () =>
        rejects ? reject(rejects) : resolve({ ...result, durationMs: this.#clock.now() - startedMs })
      if (afterMs === 0) settle()
      else this.#clock.after(afterMs, settle)
    })
  }
}

/** Tools of these names, all with one schema; `name#2` has another. */
export function inventoryOf(names: readonly string[]): Inventory {
  return new Map(names.map((name) => [name.split('#')[0] ?? name, name.split('#')[1] ?? '1']))
}

function scriptOf(next: Check | Script): Script {
  return 'checks' in next ? next : { checks: [next] }
}

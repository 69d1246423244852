/** The books of the soak test: every call, how it ended, and whether a fault of our own making explains that end. */

/** One call of a client, which carries its nonce. */
export interface Call {
  readonly nonce: string
  /** Which clients call which server: `http→stdio v2 modern`. */
  readonly lane: string
  /** A tool, or the opening or closing of a session. */
  readonly what: string
  /** The server process that it depends on; crashes are booked by it. */
  readonly domain: string
  /** Since when the client's session has depended on that process. */
  readonly sinceMs: number
  /** Why an error is right whatever happens: the client cancelled, or asked the server to die or to say nothing. */
  readonly excuse?: 'cancelled' | 'died' | 'stalled' | undefined
}

/** How a call ended. `error` is what the client was told; `late` means that nothing came in time. */
export type Ending =
  | { readonly kind: 'answer'; readonly text: string }
  /** A session was opened or closed, which no nonce can prove. */
  | { readonly kind: 'opened' | 'closed' | 'vanished' }
  | { readonly kind: 'error'; readonly message: string; readonly atMs: number }
  /** `clue` is what the client knows of it. */
  | { readonly kind: 'late'; readonly afterMs: number; readonly atMs: number; readonly clue?: string | undefined }

interface Crash {
  readonly fromMs: number
  untilMs: number
}

interface Failure {
  readonly call: Call
  readonly message: string
  readonly atMs: number
}

/** How many of the calls of a lane ended how; one that is missing here is a fault. */
export interface Counts {
  readonly started: number
  /** With their own nonce. */
  readonly answered: number
  /** With an error that a fault of the test explains. */
  readonly explained: number
  /** Turned away at once because mcp-vitals was overloaded, which on a busy machine it is (README, "Overload"). */
  readonly refused: number
  /** Calls whose client left; nobody could hear their end. */
  readonly abandoned: number
  /** Sessions that were opened, and that were closed or left without a word. */
  readonly opened: number
  readonly closed: number
  readonly vanished: number
}

const none: Counts = {
  started: 0,
  answered: 0,
  explained: 0,
  refused: 0,
  abandoned: 0,
  opened: 0,
  closed: 0,
  vanished: 0,
}

/** How long after a crash is over a client may still stumble over it: its session is then unknown. */
const graceMs = 2000

/**
 * What an overloaded mcp-vitals says before it has sent anything to the server; clients hide the body of the 503 that
 * refuses an event stream. The soak holds the number of these against the metric that counts them.
 */
const overloaded = /mcp-vitals is overloaded and refuses|Non-200 status code \(503\)|no stream: 503/

export class Ledger {
  readonly #crashes = new Map<string, Crash[]>()
  readonly #failures: Failure[] = []
  readonly #faults: string[] = []
  readonly #open = new Map<string, Call>()
  readonly #counts = new Map<string, Counts>()

  begin(call: Call): void {
    this.#count(call, 'started')
    this.#open.set(call.nonce, call)
  }

  end(call: Call, ending: Ending): void {
    if (!this.#open.delete(call.nonce)) return this.fault(`ended twice: ${nameOf(call)}`)
    switch (ending.kind) {
      case 'answer':
        if (isOf(call.nonce, ending.text)) this.#count(call, 'answered')
        else this.fault(`crossed: ${nameOf(call)} was answered with ${ending.text.slice(0, 80)}`)
        return
      case 'opened':
      case 'closed':
      case 'vanished':
        return this.#count(call, ending.kind)
      case 'error':
        if (overloaded.test(ending.message) && !this.#isExplained({ call, ...ending })) this.#count(call, 'refused')
        else this.#failures.push({ call, message: ending.message, atMs: ending.atMs })
        return
      case 'late':
        this.fault(
          `lost: ${nameOf(call)} had no end after ${ending.afterMs} ms; ${this.#context(call, ending.atMs)}; ${ending.clue ?? 'no clue'}`,
        )
    }
  }

  /** The client left before the end. */
  abandon(call: Call): void {
    if (this.#open.delete(call.nonce)) this.#count(call, 'abandoned')
  }

  fault(what: string): void {
    this.#faults.push(what)
  }

  /** The process of this domain is about to be killed; call the result when it serves again. */
  crash(domain: string, fromMs: number): (untilMs: number) => void {
    const crash: Crash = { fromMs, untilMs: Infinity }
    this.#crashes.set(domain, [...(this.#crashes.get(domain) ?? []), crash])
    return (untilMs) => {
      crash.untilMs = untilMs
    }
  }

  /** How many times the process of this domain was killed since that time. */
  crashesSince(domain: string, sinceMs: number): number {
    return (this.#crashes.get(domain) ?? []).filter(({ untilMs }) => untilMs >= sinceMs).length
  }

  /** How many times any process was killed. */
  crashes(): number {
    return [...this.#crashes.values()].reduce((sum, { length }) => sum + length, 0)
  }

  /** The calls of each lane. */
  lanes(): ReadonlyMap<string, Counts> {
    const lanes = new Map(this.#counts)
    for (const failure of this.#failures) {
      if (this.#isExplained(failure)) add(lanes, failure.call.lane, 'explained')
    }
    return lanes
  }

  /** The calls of all lanes. */
  totals(): Counts {
    return totalOf(this.lanes().values())
  }

  /** What is wrong, once everything has ended. */
  faults(): string[] {
    return [
      ...this.#faults,
      ...this.#failures
        .filter((failure) => !this.#isExplained(failure))
        .map(
          ({ call, message, atMs }) => `unexplained error: ${nameOf(call)}: ${message}; ${this.#context(call, atMs)}`,
        ),
      ...[...this.#open.values()].map((call) => `never ended: ${nameOf(call)}`),
    ]
  }

  #count({ lane }: Call, end: keyof Counts): void {
    add(this.#counts, lane, end)
  }

  /** When it was, for whoever looks for the cause. */
  #context({ domain, sinceMs }: Call, atMs: number): string {
    const seconds = (ms: number) => (ms / 1000).toFixed(1)
    const crashes = (this.#crashes.get(domain) ?? []).map(
      ({ fromMs, untilMs }) => `${seconds(fromMs)}…${seconds(untilMs)}`,
    )
    return `session since ${seconds(sinceMs)} s, end at ${seconds(atMs)} s, server down ${crashes.join(' ') || 'never'}`
  }

  #isExplained({ call, atMs }: Failure): boolean {
    if (call.excuse !== undefined) return true
    const crashes = this.#crashes.get(call.domain) ?? []
    return crashes.some(({ fromMs, untilMs }) => fromMs <= atMs && untilMs + graceMs >= call.sinceMs)
  }
}

export function totalOf(lanes: Iterable<Counts>): Counts {
  return [...lanes].reduce(sumOf, none)
}

function nameOf({ lane, what, nonce }: Call): string {
  return `${lane} ${what} ${nonce}`
}

function add(lanes: Map<string, Counts>, lane: string, end: keyof Counts): void {
  const counts = lanes.get(lane) ?? none
  lanes.set(lane, { ...counts, [end]: counts[end] + 1 })
}

function sumOf(one: Counts, other: Counts): Counts {
  return {
    started: one.started + other.started,
    answered: one.answered + other.answered,
    explained: one.explained + other.explained,
    refused: one.refused + other.refused,
    abandoned: one.abandoned + other.abandoned,
    opened: one.opened + other.opened,
    closed: one.closed + other.closed,
    vanished: one.vanished + other.vanished,
  }
}

/** A long answer has the nonce at both ends. */
function isOf(nonce: string, text: string): boolean {
  return text === nonce || (text.length > 2 * nonce.length && text.startsWith(nonce) && text.endsWith(nonce))
}

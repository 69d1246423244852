/** The books of the soak test: every call, how it ended, and whether a fault of our own making explains that end. */

/** One call of a client, which carries its nonce. */
export interface Call {
  readonly nonce: string
  /** Who called what: `http→stdio legacy v2 echo`. */
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
  | { readonly kind: 'error'; readonly message: string; readonly atMs: number }
  | { readonly kind: 'late'; readonly afterMs: number; readonly atMs: number; readonly trouble?: string | undefined }

interface Crash {
  readonly fromMs: number
  untilMs: number
}

interface Failure {
  readonly call: Call
  readonly message: string
  readonly atMs: number
}

export interface Totals {
  readonly started: number
  readonly answered: number
  readonly explained: number
  /** Turned away at once because mcp-vitals was overloaded, which on a busy machine it is (README, "Overload"). */
  readonly refused: number
  /** Calls whose client left; nobody could hear their end. */
  readonly abandoned: number
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
  #started = 0
  #answered = 0
  #abandoned = 0
  #refused = 0

  begin(call: Call): void {
    this.#started += 1
    this.#open.set(call.nonce, call)
  }

  end(call: Call, ending: Ending): void {
    if (!this.#open.delete(call.nonce)) return this.fault(`ended twice: ${call.what} ${call.nonce}`)
    switch (ending.kind) {
      case 'answer':
        if (isOf(call.nonce, ending.text)) this.#answered += 1
        else this.fault(`crossed: ${call.what} ${call.nonce} was answered with ${ending.text.slice(0, 80)}`)
        return
      case 'error':
        if (overloaded.test(ending.message) && !this.#isExplained({ call, ...ending })) this.#refused += 1
        else this.#failures.push({ call, message: ending.message, atMs: ending.atMs })
        return
      case 'late':
        this.fault(
          `lost: ${call.what} ${call.nonce} had no end after ${ending.afterMs} ms; ${this.#context(call, ending.atMs)}; its client's last trouble: ${ending.trouble ?? 'none'}`,
        )
    }
  }

  /** The client left before the end. */
  abandon(call: Call): void {
    if (this.#open.delete(call.nonce)) this.#abandoned += 1
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

  totals(): Totals {
    const explained = this.#failures.filter((failure) => this.#isExplained(failure)).length
    const [answered, refused, abandoned] = [this.#answered, this.#refused, this.#abandoned]
    return { started: this.#started, answered, explained, refused, abandoned }
  }

  /** What is wrong, once everything has ended. */
  faults(): string[] {
    return [
      ...this.#faults,
      ...this.#failures
        .filter((failure) => !this.#isExplained(failure))
        .map(
          ({ call, message, atMs }) =>
            `unexplained error: ${call.what} ${call.nonce}: ${message}; ${this.#context(call, atMs)}`,
        ),
      ...[...this.#open.values()].map(({ what, nonce }) => `never ended: ${what} ${nonce}`),
    ]
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

/** A long answer has the nonce at both ends. */
function isOf(nonce: string, text: string): boolean {
  return text === nonce || (text.length > 2 * nonce.length && text.startsWith(nonce) && text.endsWith(nonce))
}

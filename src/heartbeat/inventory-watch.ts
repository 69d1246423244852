import type { Clock } from '../clock.ts'
import { type Inventory, type Listing, inventoryLoss, isListed, sameInventory } from './conversation.ts'
import type { Evidence } from './verdict.ts'

/** How one list of tools was asked for. */
export interface Asked {
  readonly atMs: number
  /** Until when it may come. */
  readonly untilMs: number
  /** What the heartbeat took that asked for it. */
  readonly beatMs: number
  /** The server itself has said that its tools change. */
  readonly announced: boolean
  /** So many lists in a row that do not come say something. */
  readonly missesToLoss: number
}

export interface InventoryWatchOptions {
  readonly clock: Clock
  /** The tools that the server offers, at first sight and whenever they changed. */
  readonly onInventory: (inventory: Inventory, changed: boolean) => void
}

/** The tools that a server offers, beside those that it should. */
export class InventoryWatch {
  readonly #options: InventoryWatchOptions
  /** What it should offer, and what it was last seen to offer. */
  #accepted: Inventory | undefined
  #offered: Inventory | undefined
  #readMs = Number.NEGATIVE_INFINITY
  #askedMs = Number.NEGATIVE_INFINITY
  /** How long its last list took to come. */
  #tookMs = 0
  /** Lists in a row that it had time for, and did not give. */
  #unanswered = 0
  #isListing = true

  constructor(options: InventoryWatchOptions) {
    this.#options = options
  }

  /** What it offers now, be it less than it should; nothing while it does not say. */
  offered(): Inventory | undefined {
    return this.#isListing ? this.#offered : new Map()
  }

  isKnown(): boolean {
    return this.#accepted !== undefined
  }

  /** Whether what is known of it was read so long ago. */
  isOlder(ageMs: number): boolean {
    return this.isKnown() && this.#options.clock.now() - this.#readMs >= ageMs
  }

  /** The same, and nobody tried to read it since: where nobody can, nothing else has to make way for that. */
  isNeglected(ageMs: number): boolean {
    return this.isOlder(ageMs) && this.#options.clock.now() - this.#askedMs >= ageMs
  }

  /** A heartbeat is to bring it along. */
  asked(): void {
    this.#askedMs = this.#options.clock.now()
  }

  /** Its next list says what it should offer from then on: what it offered until now was changed on purpose. */
  renew(): void {
    this.#accepted = undefined
    this.#unanswered = 0
  }

  /** Another process may stand there, which owes nothing yet. */
  restarted(): void {
    this.#unanswered = 0
  }

  /** One list, or what came in its place, as evidence. */
  heard(listing: Listing, asked: Asked): Evidence | undefined {
    if (isListed(listing)) return this.#compare(listing, asked)
    return listing === 'unanswered' ? this.#miss(asked) : undefined
  }

  /** More tools are welcome; less than before is a loss, unless the server itself has said that they change. */
  #compare(offered: Inventory, { atMs, announced }: Asked): Evidence {
    const { clock, onInventory } = this.#options
    const before = this.#offered
    this.#offered = offered
    this.#readMs = clock.now()
    this.#tookMs = this.#readMs - atMs
    this.#unanswered = 0
    this.#isListing = true
    if (!before) onInventory(offered, false)
    else if (!sameInventory(before, offered)) onInventory(offered, true)
    const loss = announced || !this.#accepted ? undefined : inventoryLoss(this.#accepted, offered)
    if (loss === undefined) this.#accepted = offered
    return { kind: 'inventory', same: loss === undefined, reason: loss ?? 'it serves the same tools as before' }
  }

  /**
   * A server that has listed its tools and answers only the rest has lost them, as one whose back end hangs after a
   * restart. One that is slow in everything has not: its list had to have twice the time of the heartbeat, and twice that
   * of its last list.
   */
  #miss({ atMs, untilMs, beatMs, missesToLoss }: Asked): Evidence | undefined {
    const hadTime = untilMs - atMs >= 2 * Math.max(beatMs, this.#tookMs)
    if (!this.#offered || !hadTime) return undefined
    this.#unanswered += 1
    if (this.#unanswered < missesToLoss) return undefined
    this.#isListing = false
    const requests = `${missesToLoss} ${missesToLoss === 1 ? 'request' : 'requests in a row'} for them came to nothing`
    const reason = `it answers, but no longer lists its tools: ${this.#offered.size} before, and ${requests}`
    return { kind: 'inventory', same: false, reason }
  }
}

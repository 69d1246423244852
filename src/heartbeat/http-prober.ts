import { type Clock, sleep } from '../clock.ts'
import { KnownError, errorCode, errorMessage } from '../errors.ts'
import type { Channel } from '../upstreams/channel.ts'
import type { Endpoint, OwnRequests } from '../upstreams/endpoint.ts'
import { HttpChannel } from '../upstreams/http-channel.ts'
import { Peer } from '../upstreams/peer.ts'
import { SseChannel } from '../upstreams/sse-channel.ts'
import type { HandedOver, OwnPlace } from '../upstreams/yielding.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Era } from '../wire/era.ts'
import { isAnswered, isFailure, outcomeOf } from './classify.ts'
import { type Listing, type Opening, initialize, isListed, listTools, open } from './conversation.ts'
import { type Climbed, Ladder } from './ladder.ts'
import {
  type Asked,
  type CheckOptions,
  type Checks,
  type ProbeMethod,
  type ProbeResult,
  type Prober,
  ask,
  fixedRung,
  waitOf,
} from './probe.ts'
import { touch } from './touch.ts'

export interface HttpProberOptions {
  readonly endpoint: Endpoint
  readonly transport: 'http' | 'sse'
  readonly clock: Clock
  readonly maxBodyBytes: number
  /** How long an opening exchange may take. */
  readonly openingDeadlineMs: number
  /** The same while a process of ours is still starting. */
  readonly startDeadlineMs: number
  /** True while a process that we started may not listen yet: a refused connection then means "wait", not "down". */
  readonly isStarting: () => boolean
  /** True while no process of ours runs that should, or the one that does is being ended: nobody is there to be asked. */
  readonly isResting?: () => boolean
  /** What to ask; looked up each time. */
  readonly method: () => ProbeMethod
  /** The server showed that it serves one connection at a time, and that ours is in the way of clients; told once. */
  readonly onInTheWay?: (how: string) => void
}

/** A channel with our end of it. */
interface Link {
  readonly channel: Channel
  readonly peer: Peer
}

interface Connection extends Link {
  readonly opening: Opening
  /** Those that were ever answered well here: another reaction then means trouble, not a server that lacks them. */
  readonly proven: Set<string>
}

const retryWhileStartingMs = 100

/**
 * Heartbeats of a server behind a URL, in a session (or stream) of the sidecar's own. A server for which that is one too
 * many, because it serves one connection at a time, is from then on asked nothing but whether its transport lives.
 */
export class HttpProber implements Prober, OwnRequests, OwnPlace {
  readonly #options: HttpProberOptions
  #connection: Connection | undefined
  /** The opening exchange under way; there is never more than one. */
  #attempt: Link | undefined
  #isOpening = false
  #era: Era | undefined
  /** What it learns holds on connections to come, too. */
  readonly #ladder = new Ladder('transport')
  #protocolVersion: string | undefined
  #stopped = false
  #toolsChanged = false
  /** How many messages came so far, on any connection, that are no JSON-RPC. */
  #noise = 0
  /** How the server showed that our connection is in the way of clients. */
  #inTheWay: string | undefined
  /** A connection on which nothing is asked any more, open because its end could be that of a client's. */
  #silent: Link | undefined

  constructor(options: HttpProberOptions) {
    this.#options = options
  }

  /** Clients open sessions of their own, but a process of ours has started only when it answers. */
  isAwaited(): boolean {
    return this.#options.isStarting()
  }

  openingDeadlineMs(): number | undefined {
    if (this.#connection) return undefined
    const { isStarting, startDeadlineMs, openingDeadlineMs } = this.#options
    if (isStarting()) return startDeadlineMs
    return this.#isTransportOnly() ? undefined : openingDeadlineMs
  }

  describe(): ReturnType<Prober['describe']> {
    if (this.#isTransportOnly()) return { probe: 'transport', era: undefined, protocolVersion: undefined }
    const opening = this.#era === 'modern' ? 'server/discover' : 'initialize'
    const probe = this.#connection ? this.#rungOf(this.#connection) : opening
    return { probe, era: this.#era, protocolVersion: this.#protocolVersion }
  }

  start(options: CheckOptions): Checks {
    const { clock, isResting = () => false } = this.#options
    if (this.#isOpening || this.#stopped || isResting()) return { runs: [], alive: 0 }
    const endsMs = clock.now() + options.deadlineMs
    const leftMs = () => Math.max(1, endsMs - clock.now())
    if (this.#isTransportOnly()) {
      if (this.#inTheWay === undefined) this.forget()
      else this.#fallSilent()
      return { runs: [{ leg: 'upstream', method: 'transport', done: this.#touch(leftMs) }], alive: 0 }
    }
    const connection = this.#connection
    const done = connection ? this.#beat(connection, options.wantsInventory, leftMs) : this.#open(leftMs)
    const before = this.#noise
    const noise = () => this.#noise - before
    return { runs: [{ leg: 'upstream', method: this.describe().probe, done, noise }], alive: 0 }
  }

  #isTransportOnly(): boolean {
    return this.#inTheWay !== undefined || this.#options.method() === 'transport'
  }

  hasAsked(id: string): boolean {
    return this.#whoAsked(id) !== undefined
  }

  /**
   * The server has one stream, that of its last client. Ours stays open: servers that are made so often take its end for
   * that of the other one.
   */
  answeredElsewhere(message: Buffer, envelope: Envelope): boolean {
    if (this.#whoAsked(envelope.id)?.takeAnswer(message, envelope) !== true) return false
    this.#fallSilent()
    this.#isInTheWay('it answers our heartbeats on the stream of a client')
    return true
  }

  isHeld(): boolean {
    return this.#connection?.opening.era === 'legacy'
  }

  handOver(): HandedOver | undefined {
    const { channel, peer, opening } = this.#connection ?? {}
    const initializeAnswer = opening?.initializeAnswer
    if (!(channel instanceof HttpChannel) || !initializeAnswer) return undefined
    this.#connection = undefined
    peer?.fail(new KnownError('cancelled', 'our session was left to a client'))
    this.#isInTheWay('it refused a client, which got our session')
    return { sessionId: channel.release(), initializeAnswer }
  }

  vacate(): void {
    this.forget()
    this.#isInTheWay('it refused a client while we were connected')
  }

  #fallSilent(): void {
    this.#silent = this.#connection ?? this.#silent
    this.#connection = undefined
  }

  #whoAsked(id: string | undefined): Peer | undefined {
    const peers = [this.#connection?.peer, this.#silent?.peer, this.#attempt?.peer]
    return id === undefined ? undefined : peers.find((peer) => peer?.hasAsked(id))
  }

  #isInTheWay(how: string): void {
    if (this.#inTheWay !== undefined) return
    this.#inTheWay = how
    this.#options.onInTheWay?.(how)
  }

  forget(): void {
    const connection = this.#connection
    this.#connection = undefined
    if (connection) void hangUp(connection)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    const links = [this.#connection, this.#attempt, this.#silent].filter((link) => link !== undefined)
    this.#connection = undefined
    this.#silent = undefined
    await Promise.all(links.map(hangUp))
  }

  async #beat(connection: Connection, wantsInventory: boolean, leftMs: () => number): Promise<ProbeResult> {
    const { result, errorCode: code, trial } = await this.#ask(connection, leftMs())
    void trial?.then((asked) => this.#tried(connection, asked))
    if (this.#connection !== connection) return result
    const { method, outcome } = result
    const isLost = outcome === 'session_gone' || (connection.proven.has(method) && code !== undefined)
    // Another server may stand there now that does not know us: it has a session to open, or an era to be found out.
    if (isLost) {
      this.forget()
      return this.#open(leftMs)
    }
    if (outcome === 'ok' && code === undefined) connection.proven.add(method)
    if (isFailure(outcome) && outcome !== 'timeout') this.forget()
    return isAnswered(outcome) ? this.#withTools(result, connection, wantsInventory, leftMs) : result
  }

  /** What was asked without a verdict may still tell that our session is gone. */
  #tried(connection: Connection, { result }: Asked): void {
    if (result.outcome === 'session_gone' && this.#connection === connection) this.forget()
  }

  /** What is asked there now; the configuration may have changed since it was opened. */
  #rungOf({ opening }: Connection): string {
    return fixedRung(this.#options.method(), opening.era) ?? this.#ladder.rung(opening)
  }

  #ask({ peer, opening }: Connection, deadlineMs: number): Promise<Climbed> {
    const { endpoint, clock, method } = this.#options
    const beat = { talker: peer, clock, era: opening.era, leg: 'upstream', deadlineMs } as const
    const fixed = fixedRung(method(), opening.era)
    if (fixed) return ask({ ...beat, method: fixed })
    const touched = (leftMs: number) => touch({ endpoint, clock, deadlineMs: leftMs })
    return this.#ladder.ask({ ...beat, liveness: opening.hasTools === true ? undefined : touched })
  }

  /** Brings the list of tools along when the server said that it changed, or when it is wanted. */
  #withTools(result: ProbeResult, connection: Connection, wantsInventory: boolean, leftMs: () => number): ProbeResult {
    if (!wantsInventory && !this.#toolsChanged) return result
    const announced = this.#toolsChanged
    this.#toolsChanged = false
    const inventory = this.#readTools(connection, leftMs).then((tools) => {
      if (!isListed(tools)) this.#toolsChanged ||= announced
      return tools
    })
    return { ...result, inventory, announced }
  }

  #readTools({ peer, opening }: Connection, leftMs: () => number): Promise<Listing> {
    return listTools(peer, opening, leftMs)
  }

  /** Again and again while a process of ours starts that does not listen yet. */
  async #touch(leftMs: () => number): Promise<ProbeResult> {
    const { endpoint, clock, isStarting } = this.#options
    const opening = isStarting()
    for (;;) {
      const result = this.#restrained(await touch({ endpoint, clock, deadlineMs: leftMs(), ...this.#elsewhere() }))
      const maySoonListen = (result.outcome === 'refused' || result.outcome === 'reset') && isStarting()
      if (!maySoonListen || leftMs() <= retryWhileStartingMs || this.#stopped) return { ...result, opening }
      await sleep(clock, retryWhileStartingMs)
    }
  }

  /** Servers that look at no method would open the one stream that they have. */
  #elsewhere(): { readonly path?: string } {
    return this.#inTheWay !== undefined && this.#options.transport === 'sse' ? { path: '/' } : {}
  }

  /** With why no more was asked than this. */
  #restrained(result: ProbeResult): ProbeResult {
    const how = this.#inTheWay
    if (how === undefined || result.outcome !== 'ok') return result
    const reason = `${result.reason}; nothing more is asked of a server of one connection (${how})`
    return { ...result, reason }
  }

  async #open(leftMs: () => number): Promise<ProbeResult> {
    const startedMs = this.#options.clock.now()
    this.#isOpening = true
    try {
      return await this.#tryToOpen(leftMs)
    } catch (error) {
      const outcome = outcomeOf(error)
      const durationMs = this.#options.clock.now() - startedMs
      const reason = errorMessage(error)
      const { probe: method } = this.describe()
      return { leg: 'upstream', method, outcome, reason, durationMs, opening: true, ...waitOf(error) }
    } finally {
      this.#isOpening = false
    }
  }

  /** Again and again while a process of ours starts that does not listen yet. */
  async #tryToOpen(leftMs: () => number): Promise<ProbeResult> {
    const { clock, isStarting } = this.#options
    for (;;) {
      const startedMs = clock.now()
      try {
        const connection = await this.#connect(leftMs)
        return this.#opened(connection, clock.now() - startedMs, leftMs)
      } catch (error) {
        const maySoonListen = ['upstream_refused', 'upstream_reset'].includes(errorCode(error)) && isStarting()
        if (!maySoonListen || leftMs() <= retryWhileStartingMs || this.#stopped) throw error
        await sleep(clock, retryWhileStartingMs)
      }
    }
  }

  #opened(connection: Connection, durationMs: number, leftMs: () => number): ProbeResult {
    const { opening } = connection
    const { method, era, protocolVersion, refusal } = opening
    const result = { leg: 'upstream', method, outcome: 'ok', durationMs, opening: true } as const
    if (refusal !== undefined) {
      void hangUp(connection)
      return { ...result, reason: refusal, turnedAway: true }
    }
    this.#connection = connection
    this.#ladder.reopened()
    this.#era = era
    this.#protocolVersion = protocolVersion
    this.#toolsChanged = false
    const inventory = this.#readTools(connection, leftMs)
    return { ...result, reason: `${method} answered (${protocolVersion})`, inventory }
  }

  async #connect(leftMs: () => number): Promise<Connection> {
    const { endpoint, maxBodyBytes, clock, transport } = this.#options
    const onClose = (why: string) => {
      peer.fail(new KnownError('upstream_closed', why))
      if (this.#connection?.peer === peer) this.#connection = undefined
      if (this.#silent?.peer === peer) this.#silent = undefined
    }
    const onMessage = (message: Buffer, envelope: Envelope) => this.#hear(peer, message, envelope)
    const onNoise = () => void (this.#noise += 1)
    const options = { endpoint, clock, maxBodyBytes, events: { onMessage, onNoise, onClose } }
    const channel = transport === 'sse' ? new SseChannel(options) : new HttpChannel(options)
    const peer = new Peer(channel, clock)
    this.#attempt = { channel, peer }
    try {
      const opening = await this.#handshake(channel, peer, leftMs)
      if (this.#stopped) throw new KnownError('cancelled', 'the heartbeat was stopped')
      return {
        channel,
        peer,
        opening,
        proven: new Set<string>(opening.method === 'initialize' ? [] : [opening.method]),
      }
    } catch (error) {
      void channel.close() // Its DELETE may take longer than this exchange may.
      throw error
    } finally {
      this.#attempt = undefined
    }
  }

  async #handshake(channel: HttpChannel | SseChannel, peer: Peer, leftMs: () => number): Promise<Opening> {
    if (channel instanceof SseChannel) {
      await withDeadline(this.#options.clock, leftMs(), channel.open())
      return initialize(peer, { leftMs, speak: () => undefined })
    }
    const speak = (version: string | undefined) => channel.useProtocolVersion(version)
    return open(peer, { known: this.#era, leftMs, discoverPatienceMs: leftMs() / 2, speak })
  }

  #hear(peer: Peer, message: Buffer, envelope: Envelope): void {
    if (peer.takeAnswer(message, envelope)) return
    if (envelope.method === 'notifications/tools/list_changed') this.#toolsChanged = true
    peer.answerServerRequest(envelope).catch(() => undefined) // The server asked on a connection that is gone.
  }
}

/** What still waits for an answer hears at once that there will be none. */
async function hangUp({ channel, peer }: Link): Promise<void> {
  peer.fail(new KnownError('cancelled', 'the connection was closed by us'))
  await channel.close()
}

/** Rejects with `upstream_timeout` when the work is not done in time. */
async function withDeadline<T>(clock: Clock, timeoutMs: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const expire = () => reject(new KnownError('upstream_timeout', `no answer within ${Math.round(timeoutMs)} ms`))
    const timer = clock.after(timeoutMs, expire)
    work.then(resolve, reject).finally(() => timer.cancel())
  })
}

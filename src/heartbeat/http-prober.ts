import { type Clock, sleep } from '../clock.ts'
import { KnownError, errorCode, errorMessage } from '../errors.ts'
import type { Channel, ChannelEvents } from '../upstreams/channel.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import { HttpChannel } from '../upstreams/http-channel.ts'
import { Peer } from '../upstreams/peer.ts'
import { SseChannel } from '../upstreams/sse-channel.ts'
import type { Envelope } from '../wire/envelope.ts'
import { type Era, modernVersion } from '../wire/era.ts'
import { outcomeOfCode } from './classify.ts'
import { type Opening, discover, initialize, readInventory } from './conversation.ts'
import { type ProbeResult, type ProbeRun, type Prober, type Rung, ask, firstRung } from './probe.ts'

export interface HttpProberOptions {
  readonly endpoint: Endpoint
  readonly transport: 'http' | 'sse'
  readonly clock: Clock
  readonly maxBodyBytes: number
  /** How long an opening exchange may take. */
  readonly openingDeadlineMs: number
  /** True while a process that we started may not listen yet: a refused connection then means "wait", not "down". */
  readonly isStarting: () => boolean
}

interface Connection {
  readonly channel: Channel
  readonly peer: Peer
  readonly opening: Opening
  rung: Rung
  /** Whether this rung was ever answered here: silence then means trouble, and not a server that ignores it. */
  answered: boolean
}

const retryWhileStartingMs = 100

/** Heartbeats of a server behind a URL, in a session (or stream) of the sidecar's own. */
export class HttpProber implements Prober {
  readonly #options: HttpProberOptions
  #connection: Connection | undefined
  #era: Era | undefined
  #rung: Rung | undefined
  #stopped = false
  #toolsChanged = false

  constructor(options: HttpProberOptions) {
    this.#options = options
  }

  openingDeadlineMs(): number | undefined {
    return this.#connection ? undefined : this.#options.openingDeadlineMs
  }

  describe(): ReturnType<Prober['describe']> {
    const opening = this.#connection?.opening
    const fallback = this.#era === 'modern' ? 'server/discover' : 'initialize'
    return {
      probe: this.#connection?.rung ?? fallback,
      era: opening?.era ?? this.#era,
      protocolVersion: opening?.protocolVersion,
    }
  }

  start(deadlineMs: number): readonly ProbeRun[] {
    const connection = this.#connection
    const method = connection?.rung ?? this.describe().probe
    return [{ leg: 'upstream', method, done: connection ? this.#beat(connection, deadlineMs) : this.#open(deadlineMs) }]
  }

  forget(): void {
    const connection = this.#connection
    this.#connection = undefined
    void connection?.channel.close()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    const connection = this.#connection
    this.#connection = undefined
    await connection?.channel.close()
  }

  async #beat(connection: Connection, deadlineMs: number): Promise<ProbeResult> {
    const { clock } = this.#options
    const { peer, opening, rung } = connection
    const beat = { talker: peer, clock, era: opening.era, leg: 'upstream' as const, deadlineMs }
    const result = await ask({ ...beat, method: rung })
    switch (result.outcome) {
      case 'session_gone':
        this.forget()
        return this.#open(deadlineMs)
      case 'ok':
        connection.answered = true
        return this.#withNews(result, connection, deadlineMs)
      case 'unsupported':
        this.#descend(connection)
        return result
      case 'timeout': {
        if (connection.answered || rung === 'tools/list' || opening.era === 'modern') return result
        const next = await ask({ ...beat, method: 'tools/list' })
        if (next.outcome !== 'ok') return result
        this.#descend(connection)
        return next
      }
      case 'reset':
      case 'closed':
      case 'refused':
        this.forget()
        return result
      case 'late':
      case 'exited':
      case 'http_error':
      case 'invalid':
      case 'unauthorized':
      case 'inconclusive':
        return result
    }
  }

  /** The server said that its tools changed: the answered heartbeat brings the new list along. */
  async #withNews(result: ProbeResult, { peer, opening }: Connection, deadlineMs: number): Promise<ProbeResult> {
    if (!this.#toolsChanged) return result
    this.#toolsChanged = false
    const inventory = await readInventory(peer, opening.era, deadlineMs).catch(() => undefined) // Next time.
    return { ...result, inventory, announced: true }
  }

  /** Remembers, also for connections to come, that this server does not do what the rung asks. */
  #descend(connection: Connection): void {
    if (connection.rung !== 'ping') return
    connection.rung = 'tools/list'
    connection.answered = false
    this.#rung = 'tools/list'
  }

  async #open(deadlineMs: number): Promise<ProbeResult> {
    const { clock, isStarting } = this.#options
    const startedMs = clock.now()
    const leftMs = () => Math.max(1, deadlineMs - (clock.now() - startedMs))
    for (;;) {
      const attemptMs = clock.now()
      try {
        const connection = await this.#connect(leftMs)
        if (this.#stopped) void connection.channel.close()
        else this.#connection = connection
        return await this.#opened(connection, attemptMs, leftMs())
      } catch (error) {
        const outcome = outcomeOfCode(errorCode(error))
        const maySoonListen = (outcome === 'refused' || outcome === 'reset') && isStarting() && leftMs() > 1
        if (!maySoonListen || this.#stopped) {
          const method = this.describe().probe
          const durationMs = clock.now() - startedMs
          return { leg: 'upstream', method, outcome, reason: errorMessage(error), durationMs, opening: true }
        }
        await sleep(clock, retryWhileStartingMs)
      }
    }
  }

  async #opened(connection: Connection, startedMs: number, timeoutMs: number): Promise<ProbeResult> {
    const { opening, peer } = connection
    const durationMs = this.#options.clock.now() - startedMs
    const inventory = opening.hasTools
      ? await readInventory(peer, opening.era, timeoutMs).catch(() => undefined) // The next heartbeat tells what is wrong.
      : undefined
    const reason = `${opening.method} answered (${opening.protocolVersion})`
    return { leg: 'upstream', method: opening.method, outcome: 'ok', reason, durationMs, opening: true, inventory }
  }

  async #connect(leftMs: () => number): Promise<Connection> {
    const { transport, endpoint, maxBodyBytes, clock } = this.#options
    const events: ChannelEvents = {
      onMessage: (message, envelope) => this.#hear(peer, message, envelope),
      onClose: (why) => {
        peer.fail(new KnownError('upstream_closed', why))
        if (this.#connection?.peer === peer) this.#connection = undefined
      },
    }
    const options = { endpoint, maxBodyBytes, events }
    const channel = transport === 'sse' ? new SseChannel(options) : new HttpChannel(options)
    const peer = new Peer(channel, clock)
    try {
      if (channel instanceof SseChannel) await withDeadline(clock, leftMs(), channel.open())
      const opening = await this.#handshake(channel, peer, leftMs)
      this.#era = opening.era
      return { channel, peer, opening, rung: this.#rungFor(opening.era), answered: false }
    } catch (error) {
      await channel.close()
      throw error
    }
  }

  #rungFor(era: Era): Rung {
    return era === 'legacy' && this.#rung ? this.#rung : firstRung(era)
  }

  /**
   * The era is detected once and remembered: a server known as legacy is not asked `server/discover` again, since the
   * popular reference server keeps an object for each such call. A legacy server that turned modern refuses
   * `initialize`, and is asked then.
   */
  async #handshake(channel: Channel, peer: Peer, leftMs: () => number): Promise<Opening> {
    const agree = (version: string) => {
      if (channel instanceof HttpChannel) channel.useProtocolVersion(version)
    }
    if (channel instanceof HttpChannel && this.#era !== 'legacy') {
      channel.useProtocolVersion(modernVersion)
      const opening = await discover(peer, leftMs())
      if (opening) return opening
      channel.useProtocolVersion(undefined)
    }
    return initialize(peer, leftMs(), agree)
  }

  #hear(peer: Peer, message: Buffer, envelope: Envelope): void {
    if (peer.takeAnswer(message, envelope)) return
    if (envelope.method === 'notifications/tools/list_changed') this.#toolsChanged = true
    peer.answerServerRequest(envelope).catch(() => undefined) // The server asked on a connection that is gone.
  }
}

/** Rejects with `upstream_timeout` when the work is not done in time. */
async function withDeadline<T>(clock: Clock, timeoutMs: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const expire = () => reject(new KnownError('upstream_timeout', `no answer within ${Math.round(timeoutMs)} ms`))
    const timer = clock.after(timeoutMs, expire)
    work.then(resolve, reject).finally(() => timer.cancel())
  })
}

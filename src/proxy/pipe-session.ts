import { randomUUID } from 'node:crypto'
import { KnownError } from '../errors.ts'
import { declaresTools } from '../heartbeat/conversation.ts'
import { PassingMap } from '../passing-map.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import {
  type Session,
  type SessionEnd,
  type SessionPeer,
  type Waiting,
  sessionKey,
  waitingIn,
} from '../sessions/session.ts'
import { type Envelope, isSameId } from '../wire/envelope.ts'
import { type Era, detectEra } from '../wire/era.ts'
import { namesIn } from '../wire/lists.ts'
import { claimOf } from './admission.ts'
import { unreadIn } from './batch-operation.ts'
import { type ObserveDeps, type Operation, type Peering, beginOperation } from './observe.ts'

export interface PipeSessionOptions extends ObserveDeps {
  /** The server's side; the client's is a pipe. */
  readonly peering: Peering
  readonly directory: SessionDirectory
  /** Our own ends of the conversation, towards those that are to be asked in it. */
  readonly toServer?: () => SessionPeer
  readonly toClient?: () => SessionPeer
  /** The opening exchange is over: from now on the server may be asked something that its client did not ask. */
  readonly onOpened: () => void
}

/** Requests whose answers hold names that become labels, or what the server offers. */
const readWhole: ReadonlySet<string> = new Set(['initialize', 'tools/list', 'prompts/list'])

/** Requests that are observed at the same time; more still pass. */
const maxObserved = 10_000

/**
 * What the client that started us and its server say to each other, as it passes: it measures the requests and finds out
 * when the opening exchange is over. Before that nothing of ours may go in: a legacy `ping` first pins a server of
 * both eras to the legacy one.
 */
export class PipeSession {
  readonly key: string
  readonly #options: PipeSessionOptions
  readonly #id = randomUUID()
  /** By the JSON text of the id; a client that uses an id twice at once gets its answers in the order it asked. */
  readonly #waiting = new PassingMap<string, Operation[]>()
  #observed = 0
  #streams = 0
  /** Answers under way that have to be read as a whole. */
  #awaitsText = 0
  #session: Session | undefined
  #clientName: string | undefined
  #protocolVersion: string | undefined
  /** The two halves of the legacy opening exchange; a hasty client does not wait for the first. */
  #isInitializeAnswered = false
  #isInitialized = false
  #era: Era | undefined
  #hasTools: boolean | undefined
  #lastHeardMs = Number.NEGATIVE_INFINITY

  constructor(options: PipeSessionOptions) {
    this.#options = options
    this.key = sessionKey(this.#id)
  }

  /** The era of the conversation, once its opening exchange is over. */
  get era(): Era | undefined {
    return this.#era
  }

  get protocolVersion(): string | undefined {
    return this.#protocolVersion
  }

  /** Monotonic time of the last message from the server. */
  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  /** Those that wait for an answer: a stream that lasts does not. */
  requestsInFlight(): number {
    return this.#observed - this.#streams
  }

  /** Whether the server offers tools; undefined before it has said so, and in the modern era. */
  get hasTools(): boolean | undefined {
    return this.#hasTools
  }

  waiting(): Waiting {
    const pending = this.requestsInFlight()
    return this.#session
      ? waitingIn({ pending, questions: this.#session.questions })
      : pending > 0
        ? 'client'
        : 'nobody'
  }

  /** Whether an answer is awaited that has to be read as a whole. */
  wantsText(): boolean {
    return this.#awaitsText > 0
  }

  hearClient(envelope: Envelope | undefined): void {
    this.#touch()
    for (const message of envelope?.messages ?? [envelope]) this.#hearClient(message)
  }

  #hearClient(envelope: Envelope | undefined): void {
    this.#session?.questions.heardClient(envelope)
    if (envelope?.kind === 'request') return this.#request(envelope)
    if (envelope?.method === 'notifications/cancelled') this.#cancelled(envelope.requestId)
    if (envelope?.method === 'notifications/initialized') this.#isInitialized = true
    this.#openLegacy()
  }

  hearServer(envelope: Envelope | undefined, text: Buffer | undefined): void {
    const { clock, instruments, peering } = this.#options
    this.#lastHeardMs = clock.now()
    this.#touch()
    for (let left = unreadIn(envelope); left > 0; left--) instruments.countUnparsed(peering.upstream)
    for (const message of envelope?.messages ?? [envelope]) {
      if (message?.kind === 'response') this.#answer(message, text)
      else if (message) this.#session?.questions.heardServer(message)
    }
  }

  /** A request was not answered, and never will be. */
  failed(id: string | undefined, error: KnownError): void {
    const operation = this.#waiting.get(id ?? 'null')?.[0]
    if (!operation) return
    this.#remove(operation)
    operation.end({ kind: 'failure', error })
  }

  /** The conversation is over; `error` is what becomes of the requests under way. */
  end(end: SessionEnd, error: KnownError): void {
    for (const operation of [...this.#waiting.values()].flat()) operation.end({ kind: 'failure', error })
    this.#waiting.clear()
    this.#observed = 0
    this.#streams = 0
    if (this.#session) this.#options.directory.end(this.#session, end)
  }

  #request(envelope: Envelope): void {
    const { clock, peering, instruments } = this.#options
    if (this.#observed >= maxObserved) return instruments.countUnparsed(peering.upstream)
    if (envelope.clientName !== undefined) this.#clientName = envelope.clientName
    if (envelope.method === 'initialize') {
      this.#isInitialized = false
      this.#isInitializeAnswered = false
      this.#era = undefined
    } else if (this.#isInitializeAnswered && envelope.method !== 'ping') this.#isInitialized = true // Some never say so.
    const operation = beginOperation(this.#options, {
      peering,
      clientNetwork: 'pipe',
      envelope,
      protocolVersion: envelope.metaProtocolVersion ?? this.#protocolVersion ?? envelope.protocolVersion,
      sessionId: this.key,
      arrivedAtMs: clock.now(),
    })
    const id = envelope.id ?? 'null'
    this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), operation])
    this.#count(envelope, 1)
    this.#openLegacy()
  }

  #answer(envelope: Envelope, text: Buffer | undefined): void {
    const { id } = envelope
    const all = () => [...this.#waiting.values()].flat()
    const operation = this.#waiting.get(id ?? 'null')?.[0] ?? all().find((one) => isSameId(one.envelope.id, id))
    if (!operation) return
    this.#remove(operation)
    if (this.#session) this.#options.directory.answered(this.#session)
    this.#learn(operation.envelope, text)
    if (!envelope.error) this.#agreed(operation.envelope, envelope)
    operation.end({ kind: 'answer', envelope })
  }

  /** What an answer without an error settles about the conversation. */
  #agreed({ method, metaProtocolVersion }: Envelope, { protocolVersion }: Envelope): void {
    const isModern = detectEra({ method, metaProtocolVersion, hasSession: false }) === 'modern'
    if (isModern) {
      this.#protocolVersion = metaProtocolVersion
      this.#opened('modern')
    } else if (method === 'initialize') {
      this.#isInitializeAnswered = true
      this.#protocolVersion = protocolVersion
      this.#beginSession()
      this.#openLegacy()
    }
  }

  #beginSession(): void {
    const { directory, peering } = this.#options
    const client = { ip: '', userAgent: this.#clientName ?? '', name: this.#clientName }
    this.#session = directory.add({
      id: this.#id,
      upstream: peering.upstream,
      transport: 'stdio',
      client,
      protocolVersion: this.#protocolVersion,
    })
    if (!this.#session) return
    // It lives as long as the pipe: nobody expires it.
    this.#session.openStreams = 1
    const { toServer, toClient } = this.#options
    this.#session.serverPeer = toServer && this.#onceOpened(toServer(), this.#session)
    this.#session.clientPeer = toClient && this.#onceOpened(toClient(), this.#session)
  }

  /** `ping` is of the legacy era, and nothing to ask while somebody waits for the client. */
  #onceOpened(peer: SessionPeer, { questions }: Session): SessionPeer {
    return {
      canAsk: () => this.#era === 'legacy' && !questions.isOpen && peer.canAsk(),
      request: (asked) => peer.request(asked),
    }
  }

  #openLegacy(): void {
    if (this.#isInitializeAnswered && this.#isInitialized) this.#opened('legacy')
  }

  #opened(era: Era): void {
    if (this.#era === era) return
    this.#era = era
    this.#options.onOpened()
  }

  #learn({ method }: Envelope, text: Buffer | undefined): void {
    const { instruments, peering } = this.#options
    if (!text) return
    if (method === 'initialize') this.#hasTools = declaresTools(text)
    if (method === 'tools/list') instruments.labels.admit(peering.upstream, 'tool', namesIn(text, 'tools'))
    if (method === 'prompts/list') instruments.labels.admit(peering.upstream, 'prompt', namesIn(text, 'prompts'))
  }

  /** The server should not answer any more (MCP 2025-11-25, Cancellation; 2026-07-28 on stdio likewise). */
  #cancelled(requestId: string | undefined): void {
    const operation = requestId === undefined ? undefined : this.#waiting.get(requestId)?.at(-1)
    if (!operation || operation.envelope.method === 'initialize') return
    this.#remove(operation)
    operation.end({ kind: 'failure', error: new KnownError('cancelled', 'the client cancelled the request') })
  }

  #remove(operation: Operation): void {
    const id = operation.envelope.id ?? 'null'
    const others = this.#waiting.get(id)?.filter((one) => one !== operation) ?? []
    if (others.length === 0) this.#waiting.delete(id)
    else this.#waiting.set(id, others)
    this.#count(operation.envelope, -1)
  }

  #count(envelope: Envelope, change: 1 | -1): void {
    const { method } = envelope
    this.#observed += change
    if (claimOf(envelope) === 'stream') this.#streams += change
    if (readWhole.has(method ?? '')) this.#awaitsText += change
    if (this.#session) this.#session.pending = this.#observed
  }

  #touch(): void {
    if (!this.#session) return
    this.#session.messages += 1
    this.#options.directory.touch(this.#session)
  }
}

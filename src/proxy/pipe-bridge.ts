import type { Readable, Writable } from 'node:stream'
import { type Clock, sleep } from '../clock.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { PassingMap } from '../passing-map.ts'
import { Questions } from '../sessions/questions.ts'
import type { SessionPeer } from '../sessions/session.ts'
import type { HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Link, LinkListener } from '../upstreams/link.ts'
import { Peer } from '../upstreams/peer.ts'
import type { Limited } from '../upstreams/queue.ts'
import { type Envelope, batchEntries, isSameId, readEnvelope } from '../wire/envelope.ts'
import { LineReader, writeLine } from '../wire/lines.ts'
import { Admission, type AdmissionDeps, claimOf, deliver } from './admission.ts'
import { batchMessages } from './batch-messages.ts'
import { errorMessageFor } from './replies.ts'

export interface PipeBridgeOptions {
  /** Where the client writes to, and reads from. */
  readonly client: { readonly input: Readable; readonly output: Writable }
  readonly clock: Clock
  readonly upstream: string
  /** Makes the connection to the server. */
  readonly link: (listener: LinkListener) => Link
  readonly limits: Limited
  readonly admission: AdmissionDeps
  /** Has the server asked, to be answered within the time given; what is given tells whether it has answered since. */
  readonly lookForLife: (leftMs: number) => () => boolean
  /** The longest message of the client that is carried. */
  readonly maxLineBytes: number
  readonly events: PipeBridgeEvents
}

export interface PipeBridgeEvents {
  /** The server has a question open that is one too many to excuse its silence. */
  onUncounted?(): void
  onClientMessage(envelope: Envelope): void
  onServerMessage(envelope: Envelope, text: Buffer): void
  /** A request of the client got an error of ours in place of its answer. */
  onFailed(id: string | undefined, error: KnownError): void
  /** A message that nothing answers did not reach the server. */
  onUndelivered(error: KnownError): void
}

interface Line {
  readonly message: Buffer
  readonly envelope: Envelope
}

interface Waiting {
  readonly envelope: Envelope
  readonly admission: Admission
  /** It is answered, or never will be. */
  readonly over: () => void
}

/** While this much of the client's waits to be sent, no more is read of it. */
const maxWaitingBytes = 1024 * 1024

const drainPollMs = 20

/**
 * How long what follows a notification waits for the server to take it. A server may well open its session only then
 * when it hears `notifications/initialized`; any other wait is for the order alone.
 */
const takeMs = 1000
const openMs = 10_000

/**
 * A client that speaks stdio to us, in front of a server behind a URL: each line is a message to the server, each
 * message of the server a line. A pipe keeps its messages in order and HTTP does not, so what follows an `initialize`
 * waits until that is answered, and what follows a notification until the server has taken it, though not for long: a
 * server that leaves one unanswered holds up nothing. Requests run side by side. Every request gets its answer, or one error.
 */
export class PipeBridge implements LinkListener {
  /** Why nothing more comes from the client, or can be told to it. */
  readonly ended: Promise<'input_over' | 'client_gone'>
  readonly #options: PipeBridgeOptions
  readonly #link: Link
  readonly #lines: LineReader
  /** By the JSON text of the id; a client that uses an id twice at once gets its answers in the order it asked. */
  readonly #waiting = new PassingMap<string, Waiting[]>()
  readonly #questions: Questions
  readonly #peerOfClient: Peer
  #unsent: Line[] = []
  #unsentBytes = 0
  #isSending = false
  /** Messages without an answer that are on their way, and those of them for which nothing waits any more. */
  #told = 0
  #untaken = 0
  #isHeld = false
  #isClosed = false
  #isInputOver = false

  constructor(options: PipeBridgeOptions) {
    this.#options = options
    const { client, maxLineBytes, link, events } = options
    this.#questions = new Questions(() => events.onUncounted?.())
    this.#link = link(this)
    this.#lines = new LineReader({
      maxBytes: maxLineBytes,
      onLine: (line) => this.#read(line),
      onTooLong: (bytes, envelope) => {
        const error = new KnownError('body_too_large', `a line of ${bytes} bytes; the limit is ${maxLineBytes}`)
        const requests = (envelope?.messages ?? [envelope]).filter((one) => one?.kind === 'request')
        if (requests.length === 0) this.#refuse(error)
        for (const request of requests) this.#refuse(error, request?.id)
      },
    })
    const send = (message: Buffer) => {
      this.#write(message)
      return Promise.resolve()
    }
    this.#peerOfClient = new Peer({ send, close: () => Promise.resolve() }, options.clock)
    client.input.on('data', (chunk: Buffer) => this.#hearClient(chunk))
    this.ended = new Promise((resolve) => {
      const over = () => {
        this.#isInputOver = true
        resolve('input_over')
      }
      client.input.once('end', () => {
        this.#lines.end()
        over()
      })
      for (const end of ['error', 'close']) client.input.once(end, over)
      for (const end of ['error', 'close']) client.output.on(end, () => resolve('client_gone'))
    })
  }

  /** Our own end towards the server, inside the session in use. */
  readonly toServer: SessionPeer = {
    canAsk: () => !this.#isClosed && !this.#isHeld && this.#link.peer !== undefined,
    request: (asked) => {
      const { peer } = this.#link
      return peer ? peer.request(asked) : Promise.reject(new KnownError('cancelled', 'the session has just ended'))
    },
  }

  /** Our own end towards the client; what it answers goes no further. */
  readonly toClient: SessionPeer = {
    canAsk: () => !this.#isClosed && !this.#isHeld && !this.#isInputOver && !this.#options.client.input.isPaused(),
    request: (asked) => this.#peerOfClient.request(asked),
  }

  requestsInFlight(): number {
    return [...this.#waiting.values()].reduce((sum, { length }) => sum + length, 0)
  }

  /** Waits until everything is sent and answered, `maxMs` at most; streams that only listen do not count. */
  async drain(maxMs: number): Promise<void> {
    const { clock } = this.#options
    const endsMs = clock.now() + maxMs
    const isBusy = () =>
      this.#isSending || this.#told > 0 || this.#all().some(({ envelope }) => claimOf(envelope) !== 'stream')
    while (isBusy() && clock.now() < endsMs) await sleep(clock, drainPollMs)
  }

  /** Fails what is still under way, and ends the session at the server. */
  async close(error: KnownError): Promise<void> {
    this.#isClosed = true
    this.#unsent = []
    for (const waiting of this.#all()) this.#fail(waiting, error)
    await this.#link.close()
  }

  /** Resolves once the client has everything, or will not take it. */
  async flush(): Promise<void> {
    const { output } = this.#options.client
    if (output.destroyed || !output.writable) return
    await new Promise<void>((resolve) => {
      output.once('close', resolve)
      output.write('', () => resolve())
    })
  }

  #all(): Waiting[] {
    return [...this.#waiting.values()].flat()
  }

  #hearClient(chunk: Buffer): void {
    this.#lines.push(chunk)
    if (this.#unsentBytes > maxWaitingBytes) this.#options.client.input.pause()
  }

  #read(line: Buffer): void {
    const envelope = readEnvelope(line)
    if (!envelope) {
      if (line.toString().trim() !== '')
        this.#refuse(new KnownError('invalid_message', 'the line is no JSON-RPC message'))
      return
    }
    if (envelope.kind !== 'batch') return this.#take({ message: line, envelope })
    try {
      for (const one of batchMessages({ message: line, envelope })) this.#take(one)
    } catch (error) {
      this.#refuse(known(error))
    }
  }

  #take(line: Line): void {
    const { message, envelope } = line
    if (this.#peerOfClient.takeAnswer(message, envelope)) return
    this.#options.events.onClientMessage(envelope)
    this.#questions.heardClient(envelope)
    if (envelope.kind === 'response') {
      // The server waits for it, maybe before it answers what everything else waits for.
      void this.#tell(line)
      return
    }
    this.#unsent.push(line)
    this.#unsentBytes += message.length
    void this.#sendAll()
  }

  async #sendAll(): Promise<void> {
    if (this.#isSending) return
    this.#isSending = true
    for (let line = this.#unsent.shift(); line; line = this.#unsent.shift()) {
      const { envelope, message } = line
      this.#unsentBytes -= message.length
      if (envelope.kind !== 'request') await this.#tellInOrder(line)
      else if (envelope.method === 'initialize') await this.#ask(line)
      else void this.#ask(line)
      if (this.#unsentBytes <= maxWaitingBytes) this.#options.client.input.resume()
    }
    this.#isSending = false
  }

  /** Resolves when the request is answered, or never will be. */
  #ask({ message, envelope }: Line): Promise<void> {
    const { admission: deps, upstream, limits, lookForLife } = this.#options
    return new Promise((over) => {
      const admission = new Admission(deps, upstream, limits)
      const waiting: Waiting = { envelope, admission, over }
      const id = envelope.id ?? 'null'
      this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), waiting])
      admission.enter(claimOf(envelope), envelope.method, (refusal) => {
        if (refusal) return this.#fail(waiting, refusal)
        admission.sent({
          isExcused: () => this.#isHeld || this.#questions.isOpen,
          onOverdue: (error) => this.#giveUp(waiting, error),
          onSilent: lookForLife,
        })
        this.#link.send(message, envelope, noHeaders).catch((error: unknown) => this.#fail(waiting, known(error)))
      })
    })
  }

  /** One that the server does not take in time shows that it lets them lie: then the next ones are not waited for. */
  async #tellInOrder(line: Line): Promise<void> {
    const told = this.#tell(line)
    if (this.#untaken > 0) return
    const maxMs = line.envelope.method === 'notifications/initialized' ? openMs : takeMs
    if (await isWithin(this.#options.clock, maxMs, told)) return
    this.#untaken += 1
    void told.then(() => void (this.#untaken -= 1))
  }

  async #tell({ message, envelope }: Line): Promise<void> {
    const { admission: deps, upstream, limits, events } = this.#options
    if (envelope.method === 'notifications/cancelled') this.#cancelled(envelope.requestId)
    this.#told += 1
    try {
      await deliver(new Admission(deps, upstream, limits), () => this.#link.send(message, envelope, noHeaders))
    } catch (error) {
      if (!this.#isClosed) events.onUndelivered(known(error))
    } finally {
      this.#told -= 1
    }
  }

  /** The client expects no answer any more (MCP 2025-11-25, Cancellation). */
  #cancelled(requestId: string | undefined): void {
    const waiting = requestId === undefined ? undefined : this.#waiting.get(requestId)?.at(-1)
    if (waiting && waiting.envelope.method !== 'initialize') this.#remove(waiting)
  }

  /** The server is told, too, so that it stops its work and nothing is left open for it. */
  #giveUp(waiting: Waiting, error: KnownError): void {
    this.#fail(waiting, error)
    this.#link.giveUp(waiting.envelope.id ?? 'null', error.message, noHeaders)
  }

  /** A line that cannot be sent; `id` is that of its request, if it was one and that is known. */
  #refuse(error: KnownError, id?: string): void {
    this.#options.events.onUndelivered(error)
    this.#write(Buffer.from(errorMessageFor(error, id)))
  }

  onMessage(message: Buffer, envelope: Envelope): void {
    for (const { admission } of this.#all()) admission.heard()
    for (const one of envelope.kind === 'batch' ? linesOf(message, envelope) : [{ message, envelope }])
      this.#hearServer(one)
    this.#write(message)
  }

  #hearServer({ message, envelope }: Line): void {
    this.#options.events.onServerMessage(envelope, message)
    this.#questions.heardServer(envelope)
    if (envelope.kind !== 'response') return
    const { id } = envelope
    const waiting = this.#waiting.get(id ?? 'null')?.[0] ?? this.#all().find((one) => isSameId(one.envelope.id, id))
    if (waiting) this.#remove(waiting)
  }

  /** An event stream is lost, and with it the answers that would have come on it; over HTTP each has its own. */
  onClose(error: KnownError): void {
    this.#questions.clear()
    if (error.code === 'upstream_session_gone') return
    for (const waiting of this.#all()) this.#fail(waiting, error)
  }

  #fail(waiting: Waiting, error: KnownError): void {
    const { id } = waiting.envelope
    if (!this.#waiting.get(id ?? 'null')?.includes(waiting)) return
    this.#remove(waiting)
    this.#options.events.onFailed(id, error)
    this.#write(Buffer.from(errorMessageFor(error, id)))
  }

  #remove(waiting: Waiting): void {
    const id = waiting.envelope.id ?? 'null'
    const others = this.#waiting.get(id)?.filter((one) => one !== waiting) ?? []
    if (others.length === 0) this.#waiting.delete(id)
    else this.#waiting.set(id, others)
    waiting.admission.over()
    waiting.over()
  }

  /** Back-pressure: while the client does not read, the server is not read either. */
  #write(message: Buffer): void {
    const { output } = this.#options.client
    if (output.destroyed || output.writableEnded) return
    writeLine(output, message)
    if (!output.writableNeedDrain || this.#isHeld) return
    this.#isHeld = true
    this.#link.hold(true)
    output.once('drain', () => {
      this.#isHeld = false
      this.#link.hold(false)
    })
  }
}

/** What a client says on a pipe has no headers. */
const noHeaders: HeadersFor = () => new Map()

/** Whether it is settled by then; it may not reject. */
function isWithin(clock: Clock, maxMs: number, settling: Promise<void>): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = clock.after(maxMs, () => resolve(false))
    void settling.then(() => {
      timer.cancel()
      return resolve(true)
    })
  })
}

function linesOf(batch: Buffer, read: Envelope): Line[] {
  return (batchEntries(batch, read) ?? []).flatMap(({ message, envelope }) => (envelope ? [{ message, envelope }] : []))
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}

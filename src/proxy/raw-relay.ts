import type { Readable, Writable } from 'node:stream'
import { type Clock, sleep } from '../clock.ts'
import { KnownError } from '../errors.ts'
import type { Channel } from '../upstreams/channel.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { LineTap } from '../wire/line-tap.ts'

export interface RawRelayOptions {
  readonly client: RelayedClient
  readonly server: { readonly stdin: Writable; readonly stdout: Readable }
  /** See `LineTap`. */
  readonly maxHeldBytes: number
  readonly maxTextBytes: number
  readonly events: RawRelayEvents
}

export interface RelayedClient {
  /** Where it writes to, and reads from. */
  readonly input: Readable
  readonly output: Writable
  /** Close our own ends for good, as seen by the client: streams on standard input and output leave them open. */
  readonly closeInput: () => void
  readonly closeOutput: () => void
}

export interface RawRelayEvents {
  /** Asked before each line of the server. */
  wantsText(): boolean
  onClientMessage(envelope: Envelope | undefined): void
  onServerMessage(envelope: Envelope | undefined, text: Buffer | undefined): void
  /** The answers to messages of our own. */
  onClientAnswer(message: Buffer, envelope: Envelope): void
  onServerAnswer(message: Buffer, envelope: Envelope): void
  /** The client does not read what the server says, or the server what the client says, so no answer can be heard. */
  onClientSlow(): void
  onServerSlow(): void
  /** The client has said all that it will. */
  onInputOver(): void
}

/** Nothing came for this long after the process ended: a grandchild holds its pipe open, and will say nothing. */
const lastWordsMs = 100

/** A way to say something of our own to one of the two, and hear the answer. */
export interface AskingChannel extends Channel {
  /** Whether a message of ours could be sent now, and its answer heard. */
  canAsk(): boolean
}

/**
 * The bytes between a client and the server process that it thinks it started, as they come and at the pace of
 * whoever reads them. Lines of our own go between those of the other side, and their answers stay here.
 */
export class RawRelay {
  readonly toServer: AskingChannel
  readonly toClient: AskingChannel
  readonly #options: RawRelayOptions
  readonly #fromClient: Way
  readonly #fromServer: Way
  #isInputOver = false
  #isInputRefused = false
  #isOutputBroken = false
  readonly #over = new AbortController()
  #outputEnding: Promise<void> | undefined
  #bytesHeard = 0

  constructor(options: RawRelayOptions) {
    this.#options = options
    const { client, server, events, maxHeldBytes, maxTextBytes } = options
    this.#fromClient = new Way({
      source: client.input,
      sink: server.stdin,
      tap: new LineTap({
        maxHeldBytes,
        maxTextBytes,
        wantsText: () => false,
        onMessage: (envelope) => events.onClientMessage(envelope),
        onAnswer: (message, envelope) => events.onClientAnswer(message, envelope),
      }),
      onSlow: () => events.onServerSlow(),
    })
    this.#fromServer = new Way({
      source: server.stdout,
      sink: client.output,
      tap: new LineTap({
        maxHeldBytes,
        maxTextBytes,
        wantsText: () => events.wantsText(),
        onMessage: (envelope, text) => events.onServerMessage(envelope, text),
        onAnswer: (message, envelope) => events.onServerAnswer(message, envelope),
      }),
      onSlow: () => events.onClientSlow(),
    })
    this.toServer = this.#channel(this.#fromClient, this.#fromServer)
    this.toClient = this.#channel(this.#fromServer, this.#fromClient)
    client.input.on('data', (chunk: Buffer) => this.#fromClient.pass(chunk))
    for (const end of ['end', 'error', 'close']) client.input.once(end, () => this.#endInput())
    server.stdout.on('data', (chunk: Buffer) => {
      this.#bytesHeard += chunk.length
      this.#fromServer.pass(chunk)
    })
    for (const end of ['end', 'error', 'close']) server.stdout.once(end, () => this.#over.abort())
    // A server may go on without one of them, and its client is to know at once.
    server.stdout.once('end', () => void this.#endOutput())
    // Whoever closes the end that it reads from learns so of nobody; whoever writes there gets a broken pipe.
    for (const end of ['error', 'close']) server.stdin.on(end, () => this.#refuseInput())
    for (const end of ['error', 'close']) client.output.on(end, () => this.#breakOutput())
  }

  /** Whether the client has said all that it will. */
  get isInputOver(): boolean {
    return this.#isInputOver
  }

  /** Whether nobody reads what the server says, as far as anybody tried to tell it. */
  get isOutputBroken(): boolean {
    return this.#isOutputBroken
  }

  /** Puts whole messages of ours in one way, and keeps the answers back that come the other way. */
  #channel(way: Way, back: Way): AskingChannel {
    const canAsk = () => way.canPut() && !back.isSlow && !this.#isInputOver && !this.#outputEnding
    return {
      canAsk,
      send: (message) => {
        if (!canAsk()) return Promise.reject(new KnownError('cancelled', 'somebody is in the middle of something'))
        const id = readEnvelope(message)?.id
        if (id !== undefined) back.tap.expect(id)
        return way.put(message)
      },
      // The connection is the client's; it ends with the client or the process.
      close: () => Promise.resolve(),
    }
  }

  /** After the process ended: resolves once the client has all that it said, however long the client takes to read it. */
  async finish(clock: Clock): Promise<void> {
    for (let heard = -1; !this.#over.signal.aborted; heard = this.#bytesHeard) {
      if (heard === this.#bytesHeard && !this.#fromServer.isSlow) break
      await sleep(clock, lastWordsMs, this.#over.signal)
    }
    await this.#endOutput()
  }

  /** Nothing more comes from the server: the client gets the rest of it, and the end. */
  #endOutput(): Promise<void> {
    this.#outputEnding ??= this.#flush().then(() => this.#options.client.closeOutput())
    return this.#outputEnding
  }

  #flush(): Promise<void> {
    const { output } = this.#options.client
    if (output.destroyed || !output.writable) return Promise.resolve()
    const rest = Buffer.concat(this.#fromServer.tap.end())
    return new Promise((resolve) => {
      output.once('close', resolve)
      output.write(rest, () => resolve())
    })
  }

  /** The server reads no more, which is not the client's doing. */
  #refuseInput(): void {
    if (this.#isInputRefused) return
    this.#isInputRefused = true
    const { input, closeInput } = this.#options.client
    input.once('close', closeInput).destroy()
  }

  #endInput(): void {
    if (this.#isInputOver || this.#isInputRefused) return
    this.#isInputOver = true
    const { stdin } = this.#options.server
    for (const bytes of this.#fromClient.tap.end()) stdin.write(bytes)
    stdin.end()
    this.#options.events.onInputOver()
  }

  #breakOutput(): void {
    if (!this.#outputEnding) this.#isOutputBroken = true
    this.#options.server.stdout.destroy()
  }
}

interface WayOptions {
  readonly source: Readable
  readonly sink: Writable
  readonly tap: LineTap
  /** Whoever reads there does not keep up. */
  readonly onSlow: () => void
}

/** What one side says to the other. */
class Way {
  readonly #options: WayOptions
  /** A line of ours may not overtake the one that is being told. */
  #isPassing = false
  #isSlow = false

  constructor(options: WayOptions) {
    this.#options = options
  }

  get tap(): LineTap {
    return this.#options.tap
  }

  /** Whether the one that speaks is kept waiting by the one that reads. */
  get isSlow(): boolean {
    return this.#isSlow
  }

  pass(chunk: Buffer): void {
    const { source, sink, tap, onSlow } = this.#options
    this.#isPassing = true
    for (const bytes of tap.push(chunk)) sink.write(bytes)
    this.#isPassing = false
    if (!sink.writableNeedDrain || this.#isSlow) return
    this.#isSlow = true
    source.pause()
    sink.once('drain', () => {
      this.#isSlow = false
      source.resume()
    })
    onSlow()
  }

  /** Whether a line of ours would stand between two others. */
  canPut(): boolean {
    const { sink, tap } = this.#options
    return tap.isBetweenLines && !this.#isPassing && sink.writable
  }

  put(message: Buffer): Promise<void> {
    const { sink } = this.#options
    return new Promise((resolve, reject) => {
      sink.write(Buffer.concat([message, lineEnd]), (error) => {
        if (error) reject(new KnownError('upstream_exited', `its pipe: ${error.message}`, { cause: error }))
        else resolve()
      })
    })
  }
}

const lineEnd = Buffer.from('\n')

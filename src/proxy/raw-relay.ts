import type { Readable, Writable } from 'node:stream'
import { type Clock, sleep } from '../clock.ts'
import { KnownError } from '../errors.ts'
import type { Channel } from '../upstreams/channel.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { LineTap } from '../wire/line-tap.ts'

export interface RawRelayOptions {
  /** Where the client writes to, and reads from. */
  readonly client: { readonly input: Readable; readonly output: Writable }
  readonly server: { readonly stdin: Writable; readonly stdout: Readable }
  /** See `LineTap`. */
  readonly maxHeldBytes: number
  readonly maxTextBytes: number
  readonly events: RawRelayEvents
}

export interface RawRelayEvents {
  /** Asked before each line of the server. */
  wantsText(): boolean
  onClientMessage(envelope: Envelope | undefined): void
  onServerMessage(envelope: Envelope | undefined, text: Buffer | undefined): void
  /** The answer to a message of our own. */
  onAnswer(message: Buffer, envelope: Envelope): void
  /** The client does not read, so no answer can be heard. */
  onClientSlow(): void
}

/** Nothing came for this long after the process ended: a grandchild holds its pipe open, and will say nothing. */
const lastWordsMs = 100

/**
 * The bytes between a client and the server process that it thinks it started, as they come and at the pace of
 * whoever reads them. As a channel it puts lines of our own between those of the client, and keeps their answers.
 */
export class RawRelay implements Channel {
  readonly #options: RawRelayOptions
  readonly #fromClient: LineTap
  readonly #fromServer: LineTap
  /** A line of ours may not overtake the one that is being told. */
  #isPassing = false
  #isClientSlow = false
  #isInputOver = false
  #isInputRefused = false
  readonly #over = new AbortController()
  #bytesHeard = 0

  constructor(options: RawRelayOptions) {
    this.#options = options
    const { client, server, events, maxHeldBytes, maxTextBytes } = options
    this.#fromClient = new LineTap({
      maxHeldBytes,
      maxTextBytes,
      wantsText: () => false,
      onMessage: (envelope) => events.onClientMessage(envelope),
      onAnswer: () => undefined,
    })
    this.#fromServer = new LineTap({
      maxHeldBytes,
      maxTextBytes,
      wantsText: () => events.wantsText(),
      onMessage: (envelope, text) => events.onServerMessage(envelope, text),
      onAnswer: (message, envelope) => events.onAnswer(message, envelope),
    })
    client.input.on('data', (chunk: Buffer) => this.#toServer(chunk))
    for (const end of ['end', 'error', 'close']) client.input.once(end, () => this.#endInput())
    server.stdout.on('data', (chunk: Buffer) => this.#toClient(chunk))
    for (const end of ['end', 'error', 'close']) server.stdout.once(end, () => this.#over.abort())
    // Whoever closes the end that it reads from learns so of nobody; whoever writes there gets a broken pipe.
    for (const end of ['error', 'close']) server.stdin.on(end, () => this.#refuseInput())
    for (const end of ['error', 'close']) client.output.on(end, () => server.stdout.destroy())
  }

  /** Whether the client has said all that it will. */
  get isInputOver(): boolean {
    return this.#isInputOver
  }

  /** Whether a message of ours could be sent now, and its answer heard. */
  canAsk(): boolean {
    const isBetween = this.#fromClient.isBetweenLines && !this.#isPassing
    return isBetween && !this.#isClientSlow && !this.#isInputOver && this.#options.server.stdin.writable
  }

  /** Puts one message of ours between two lines of the client; rejects with `cancelled` when that cannot be now. */
  send(message: Buffer): Promise<void> {
    if (!this.canAsk()) return Promise.reject(new KnownError('cancelled', 'the client is in the middle of something'))
    const id = readEnvelope(message)?.id
    if (id !== undefined) this.#fromServer.expect(id)
    return new Promise((resolve, reject) => {
      this.#options.server.stdin.write(Buffer.concat([message, Buffer.from('\n')]), (error) => {
        if (error) reject(new KnownError('upstream_exited', `stdin: ${error.message}`, { cause: error }))
        else resolve()
      })
    })
  }

  /** The connection is the client's; it ends with the client or the process. */
  close(): Promise<void> {
    return Promise.resolve()
  }

  /** After the process ended: resolves once the client has all that it said, however long the client takes to read it. */
  async finish(clock: Clock): Promise<void> {
    const { output } = this.#options.client
    for (let heard = -1; !this.#over.signal.aborted; heard = this.#bytesHeard) {
      if (heard === this.#bytesHeard && !this.#isClientSlow) break
      await sleep(clock, lastWordsMs, this.#over.signal)
    }
    if (output.destroyed || !output.writable) return
    const rest = Buffer.concat(this.#fromServer.end())
    await new Promise<void>((resolve) => {
      output.once('close', resolve)
      output.write(rest, () => resolve())
    })
  }

  #toServer(chunk: Buffer): void {
    const { client, server } = this.#options
    this.#isPassing = true
    for (const bytes of this.#fromClient.push(chunk)) server.stdin.write(bytes)
    this.#isPassing = false
    if (!server.stdin.writableNeedDrain) return
    client.input.pause()
    server.stdin.once('drain', () => client.input.resume())
  }

  #toClient(chunk: Buffer): void {
    const { client, server, events } = this.#options
    this.#bytesHeard += chunk.length
    for (const bytes of this.#fromServer.push(chunk)) client.output.write(bytes)
    if (!client.output.writableNeedDrain) return
    this.#isClientSlow = true
    server.stdout.pause()
    client.output.once('drain', () => {
      this.#isClientSlow = false
      server.stdout.resume()
    })
    events.onClientSlow()
  }

  /** The server reads no more, which is not the client's doing. */
  #refuseInput(): void {
    this.#isInputRefused = true
    this.#options.client.input.destroy()
  }

  #endInput(): void {
    if (this.#isInputOver || this.#isInputRefused) return
    this.#isInputOver = true
    this.#fromClient.end()
    this.#options.server.stdin.end()
  }
}

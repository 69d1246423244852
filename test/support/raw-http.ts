import { once } from 'node:events'
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net'

/** One HTTP message as it stood on the wire; `body` grows while it comes. */
export interface RawMessage {
  readonly startLine: string
  /** Name and value alternate, as in `IncomingMessage.rawHeaders`. */
  readonly rawHeaders: string[]
  readonly body: Buffer[]
  /** Whether the end was seen, as opposed to a cut. */
  isComplete: boolean
  /** Whether chunked transfer coding framed it. */
  readonly isChunked: boolean
}

export function bodyOf({ body }: RawMessage): Buffer {
  return Buffer.concat(body)
}

export function textOf(message: RawMessage): string {
  return bodyOf(message).toString()
}

export function headerOf({ rawHeaders }: RawMessage, name: string): string | undefined {
  const at = rawHeaders.findIndex((part, index) => index % 2 === 0 && part.toLowerCase() === name.toLowerCase())
  return at === -1 ? undefined : rawHeaders[at + 1]
}

export function statusOf({ startLine }: RawMessage): number {
  return Number(startLine.split(' ')[1])
}

/** Wakes those who wait for a condition whenever something may have changed; nothing polls. */
export class Changes {
  readonly #waiting = new Set<() => void>()

  notify(): void {
    for (const check of this.#waiting) check()
  }

  until<T>(check: () => T | undefined | false): Promise<T> {
    return new Promise((resolve) => {
      const attempt = () => {
        const value = check()
        if (value === undefined || value === false) return
        this.#waiting.delete(attempt)
        resolve(value)
      }
      this.#waiting.add(attempt)
      attempt()
    })
  }
}

type Framing =
  { kind: 'none' } | { kind: 'length'; left: number } | { kind: 'chunked'; left: number } | { kind: 'close' }

/** Cuts a byte stream into HTTP/1.1 messages without interpreting anything but their framing. */
export class RawReader {
  readonly messages: RawMessage[] = []
  readonly #isResponse: boolean
  readonly #isBodiless: (index: number) => boolean
  readonly #onHead: (message: RawMessage) => void
  #bytes = Buffer.alloc(0)
  #framing: Framing | undefined

  constructor(options: {
    readonly isResponse: boolean
    readonly isBodiless?: (index: number) => boolean
    readonly onHead?: (message: RawMessage) => void
  }) {
    this.#isResponse = options.isResponse
    this.#isBodiless = options.isBodiless ?? (() => false)
    this.#onHead = options.onHead ?? (() => undefined)
  }

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    while (this.#framing ? this.#readBody(this.#framing) : this.#readHead());
  }

  /** The connection is over: only a body that lasts until then is complete. */
  close(): void {
    if (this.#framing?.kind === 'close') this.#finish()
  }

  #readHead(): boolean {
    const end = this.#bytes.indexOf('\r\n\r\n')
    if (end === -1) return false
    const [startLine = '', ...lines] = this.#bytes.toString('latin1', 0, end).split('\r\n')
    this.#bytes = this.#bytes.subarray(end + 4)
    const rawHeaders = lines.flatMap((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    })
    const isChunked = /chunked/i.test(headerOf({ rawHeaders } as RawMessage, 'transfer-encoding') ?? '')
    const message: RawMessage = { startLine, rawHeaders, body: [], isComplete: false, isChunked }
    this.messages.push(message)
    this.#framing = this.#framingOf(message)
    this.#onHead(message)
    if (this.#framing.kind === 'none') this.#finish()
    return true
  }

  #framingOf(message: RawMessage): Framing {
    const status = statusOf(message)
    const isEmpty = this.#isResponse && (status < 200 || status === 204 || status === 304)
    if (isEmpty || this.#isBodiless(this.messages.length - 1)) return { kind: 'none' }
    if (message.isChunked) return { kind: 'chunked', left: -1 }
    const length = headerOf(message, 'content-length')
    if (length !== undefined) return Number(length) === 0 ? { kind: 'none' } : { kind: 'length', left: Number(length) }
    return { kind: this.#isResponse ? 'close' : 'none' }
  }

  #readBody(framing: Framing): boolean {
    if (this.#bytes.length === 0) return false
    if (framing.kind === 'chunked') return this.#readChunk(framing)
    const take = framing.kind === 'length' ? Math.min(framing.left, this.#bytes.length) : this.#bytes.length
    this.#take(take)
    if (framing.kind === 'length' && (framing.left -= take) === 0) this.#finish()
    return true
  }

  #readChunk(framing: { left: number }): boolean {
    if (framing.left === -1) {
      const end = this.#bytes.indexOf('\r\n')
      if (end === -1) return false
      framing.left = Number.parseInt(this.#bytes.toString('latin1', 0, end), 16)
      this.#bytes = this.#bytes.subarray(end + 2)
    }
    if (framing.left > 0) {
      const take = Math.min(framing.left, this.#bytes.length)
      if (take === 0) return false
      this.#take(take)
      framing.left -= take
      if (framing.left === 0) framing.left = -2
      return true
    }
    // Behind a chunk its line end; behind the last one the trailers, a line each, and a blank line.
    const end = this.#bytes.indexOf('\r\n')
    if (end === -1) return false
    this.#bytes = this.#bytes.subarray(end + 2)
    if (framing.left !== 0) framing.left = -1
    else if (end === 0) this.#finish()
    return true
  }

  #take(bytes: number): void {
    this.messages.at(-1)?.body.push(Buffer.from(this.#bytes.subarray(0, bytes)))
    this.#bytes = this.#bytes.subarray(bytes)
  }

  #finish(): void {
    const message = this.messages.at(-1)
    if (message) message.isComplete = true
    this.#framing = undefined
  }
}

/** A client that writes exactly the bytes it is given and keeps exactly what comes back. */
export class RawClient {
  readonly socket: Socket
  readonly #reader: RawReader
  readonly #changes = new Changes()
  #isClosed = false

  constructor(port: number, { isHead = false }: { readonly isHead?: boolean } = {}) {
    this.#reader = new RawReader({ isResponse: true, isBodiless: () => isHead })
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.socket.on('data', (chunk) => {
      this.#reader.push(chunk)
      this.#changes.notify()
    })
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.#reader.close()
      this.#isClosed = true
      this.#changes.notify()
    })
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get responses(): readonly RawMessage[] {
    return this.#reader.messages
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes)
  }

  until<T>(check: () => T | undefined | false): Promise<T> {
    return this.#changes.until(check)
  }

  /** The final response of that number, once its head is here. */
  head(index = 0): Promise<RawMessage> {
    return this.until(() => this.responses.filter((response) => statusOf(response) >= 200)[index])
  }

  /** The response of that number, complete or cut by the end of the connection. */
  async response(index = 0): Promise<RawMessage> {
    await this.until(() => {
      const response = this.responses.filter((one) => statusOf(one) >= 200)[index]
      return response?.isComplete === true || this.isClosed
    })
    const response = this.responses.filter((one) => statusOf(one) >= 200)[index]
    if (!response) throw new Error('the connection was closed without a response')
    return response
  }

  close(): void {
    this.socket.destroy()
  }
}

export interface RawRequestOptions {
  readonly method?: string
  readonly path: string
  readonly headers?: readonly string[]
  readonly body?: Buffer | string | undefined
}

/** The bytes of a request; a body gets its `Content-Length`, and `Host` is ours unless given. */
export function rawRequest({ method = 'POST', path, headers = [], body }: RawRequestOptions): Buffer {
  const all = [...headers]
  const has = (name: string) => all.some((part, index) => index % 2 === 0 && part.toLowerCase() === name)
  if (!has('host')) all.unshift('Host', 'localhost')
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body)
  if (body !== undefined && !has('transfer-encoding') && !has('content-length')) {
    all.push('Content-Length', String(bytes.length))
  }
  const lines = all.flatMap((name, index) => (index % 2 === 0 ? [`${name}: ${all[index + 1] ?? ''}`] : []))
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'), bytes])
}

/** One request over a connection of its own. */
export async function rawFetch(port: number, request: RawRequestOptions): Promise<RawMessage> {
  const client = new RawClient(port, { isHead: request.method === 'HEAD' })
  client.send(rawRequest(request))
  try {
    return await client.response()
  } finally {
    client.close()
  }
}

/** Chunked transfer coding of the pieces, with its end. */
export function chunked(...pieces: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat([...pieces.map((piece) => chunk(piece)), Buffer.from('0\r\n\r\n')])
}

export function chunk(piece: string | Buffer): Buffer {
  const bytes = Buffer.from(piece)
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
}

/** Listens on a free port of loopback. */
export async function listenOnFreePort(onSocket: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer({ noDelay: true }, onSocket)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

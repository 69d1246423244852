import type { Socket } from 'node:net'
import { Changes, type RawMessage, RawReader, listenOnFreePort } from './raw-http.ts'

/** One request that arrived, and the connection to answer it on, byte by byte. */
export interface Arrived {
  readonly request: RawMessage
  readonly socket: Socket
  /** Resolves once the whole body is here; never when it is cut. */
  whole(): Promise<RawMessage>
  /** Writes raw bytes of a response. */
  write(bytes: string | Buffer): void
  /** Writes a complete response with the given headers (name and value alternate) and the body's length. */
  answer(status: number, body?: string | Buffer, headers?: readonly string[]): void
  /** Opens an event stream in chunked coding; events then go through `event`. */
  openStream(headers?: readonly string[]): void
  /** One chunk of a chunked response. */
  chunk(bytes: string | Buffer): void
  /** The last chunk. */
  endChunks(): void
  /** Cuts the connection with a FIN, or with a RST. */
  cut(how?: 'fin' | 'reset'): void
  isClosed(): boolean
}

export type Script = (arrived: Arrived) => void | Promise<void>

/** An HTTP server that does what a test says, down to the byte; it keeps what it received. */
export interface ScriptedUpstream {
  readonly port: number
  readonly arrived: readonly Arrived[]
  readonly connections: () => number
  /** What to do with each request, from its head on; by default an empty JSON-RPC answer. */
  script: Script
  until<T>(check: () => T | undefined | false): Promise<T>
  /** The request of that number, once its head is here. */
  request(index: number): Promise<Arrived>
  close(): Promise<void>
}

async function answerEmpty(arrived: Arrived): Promise<void> {
  await arrived.whole()
  arrived.answer(200, '{"jsonrpc":"2.0","id":1,"result":{}}')
}

const reasons: Readonly<Record<number, string>> = { 200: 'OK', 202: 'Accepted', 204: 'No Content', 404: 'Not Found' }

export async function scriptedUpstream(script?: Script): Promise<ScriptedUpstream> {
  const changes = new Changes()
  const arrived: Arrived[] = []
  const sockets = new Set<Socket>()
  const { server, port } = await listenOnFreePort((socket) => {
    sockets.add(socket)
    const reader = new RawReader({
      isResponse: false,
      onHead: (request) => {
        const one = arrivedOn(request, socket, changes)
        arrived.push(one)
        void upstream.script(one)
      },
    })
    socket.on('data', (bytes) => {
      reader.push(bytes)
      changes.notify()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      changes.notify()
    })
  })
  const upstream: ScriptedUpstream = {
    port,
    arrived,
    connections: () => sockets.size,
    script: script ?? answerEmpty,
    until: (check) => changes.until(check),
    request: (index) => changes.until(() => arrived[index]),
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return upstream
}

function arrivedOn(request: RawMessage, socket: Socket, changes: Changes): Arrived {
  const write = (bytes: string | Buffer) => void socket.write(bytes)
  const head = (status: number, headers: readonly string[]) => {
    const lines = headers.flatMap((name, index) =>
      index % 2 === 0 ? [`${name}: ${headers[index + 1] ?? ''}\r\n`] : [],
    )
    return Buffer.from(`HTTP/1.1 ${status} ${reasons[status] ?? 'Whatever'}\r\n${lines.join('')}\r\n`, 'latin1')
  }
  return {
    request,
    socket,
    whole: () => changes.until(() => request.isComplete && request),
    write,
    answer: (status, body = '', headers = ['Content-Type', 'application/json']) => {
      const bytes = Buffer.from(body)
      write(Buffer.concat([head(status, [...headers, 'Content-Length', String(bytes.length)]), bytes]))
    },
    openStream: (headers = []) =>
      write(head(200, ['Content-Type', 'text/event-stream', ...headers, 'Transfer-Encoding', 'chunked'])),
    chunk: (bytes) => {
      const piece = Buffer.from(bytes)
      write(Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]))
    },
    endChunks: () => write('0\r\n\r\n'),
    cut: (how = 'fin') => void (how === 'fin' ? socket.destroySoon() : socket.resetAndDestroy()),
    isClosed: () => socket.destroyed,
  }
}

import type { Clock } from '../clock.ts'
import { KnownError, errorCode } from '../errors.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Outgoing } from './channel.ts'
import { ClientEndpoint, type HeadersFor } from './client-endpoint.ts'
import type { Endpoint } from './endpoint.ts'
import { HttpChannel } from './http-channel.ts'
import { SseChannel } from './sse-channel.ts'
import type { Line, StdioUpstream } from './stdio.ts'

/** A client session's own connection to a server, whatever the transport below. */
export interface Link {
  /** Connects or starts the process. Rejects with a `KnownError`, also when the link is closed meanwhile. */
  open(headers: HeadersFor): Promise<void>
  /** Sends one message of the client, with the headers that came with it. Rejects like `Channel.send`. */
  send(message: Buffer, envelope: Envelope, headers: HeadersFor): Promise<void>
  /** Back-pressure: while the client does not read, the server is not read either. */
  hold(isFull: boolean): void
  close(): Promise<void>
}

/** The client session's end of a link. */
export interface LinkListener {
  onMessage(message: Buffer, envelope: Envelope): void
  /** The server's end is gone; not heard after `close`. */
  onClose(error: KnownError): void
}

/** A process of its own. Its opening exchange is the client's, so heartbeats wait until that is over. */
export function stdioLink(upstream: StdioUpstream, session: string, listener: LinkListener): Link {
  let line: Line | undefined
  let isClosed = false
  return {
    open: async () => {
      const opened = await upstream.openSession(session, {
        onMessage: (message, envelope) => listener.onMessage(message, envelope),
        onClose: (why) => listener.onClose(new KnownError('upstream_exited', why)),
      })
      if (isClosed) {
        await upstream.closeSession(opened)
        throw new KnownError('cancelled', 'the session ended while its process started')
      }
      line = opened
    },
    send: async (message, { method }) => {
      if (!line) throw new KnownError('upstream_exited', 'the process of this session does not run')
      await line.channel.send(message)
      if (method === 'notifications/initialized') line.opened = true
    },
    hold: (isFull) => {
      if (isFull) line?.process.stdout.pause()
      else line?.process.stdout.resume()
    },
    close: async () => {
      isClosed = true
      if (line) await upstream.closeSession(line)
    },
  }
}

export interface UrlLinkOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  /** The longest message of the server that is carried. */
  readonly maxBodyBytes: number
  readonly listener: LinkListener
}

/** An event stream of its own. */
export function sseLink({ endpoint, clock, maxBodyBytes, listener }: UrlLinkOptions): Link {
  const own = new ClientEndpoint(endpoint)
  const channel = new SseChannel({
    endpoint: own,
    clock,
    maxBodyBytes,
    events: {
      onMessage: (message, envelope) => listener.onMessage(message, envelope),
      onClose: (why) => listener.onClose(new KnownError('upstream_closed', why)),
    },
  })
  return {
    open: (headers) => {
      own.speakFor(headers)
      return channel.open()
    },
    send: async (message, _envelope, headers) => {
      own.speakFor(headers)
      try {
        await channel.send(message, {})
      } catch (error) {
        // Nothing can come on a stream that the server no longer knows.
        if (errorCode(error) === 'upstream_session_gone') await channel.close()
        throw error
      }
    },
    hold: (isFull) => own.hold(isFull),
    close: () => channel.close(),
  }
}

/** A session of its own, with the stream on which the server speaks unasked (MCP 2025-11-25, "Listening for Messages"). */
export function httpLink({ endpoint, clock, maxBodyBytes, listener }: UrlLinkOptions): Link {
  const own = new ClientEndpoint(endpoint)
  let openingId: string | undefined
  const requests = new Map<string, { readonly end: AbortController; readonly isModern: boolean }>()
  const channel = new HttpChannel({
    endpoint: own,
    clock,
    maxBodyBytes,
    resumes: true,
    events: {
      onMessage: (message, envelope) => {
        const isAgreed = envelope.kind === 'response' && openingId !== undefined && envelope.id === openingId
        if (isAgreed && !envelope.error) channel.useProtocolVersion(envelope.protocolVersion)
        listener.onMessage(message, envelope)
      },
    },
  })
  return {
    open: () => Promise.resolve(),
    send: async (message, envelope, headers) => {
      const { kind, id, method, requestId, metaProtocolVersion } = envelope
      own.speakFor(headers)
      if (method === 'initialize') openingId = id
      const cancelled = method === 'notifications/cancelled' ? requests.get(requestId ?? '') : undefined
      // The end of its connection is how a modern request is cancelled (MCP 2026-07-28, Streamable HTTP).
      if (cancelled?.isModern) return cancelled.end.abort()
      const request = { end: new AbortController(), isModern: metaProtocolVersion !== undefined }
      if (kind === 'request' && id !== undefined) requests.set(id, request)
      try {
        await channel.send(message, outgoingOf(envelope), request.end.signal)
      } finally {
        if (id !== undefined && requests.get(id) === request) requests.delete(id)
      }
      if (method === 'notifications/initialized') channel.listen((error) => listener.onClose(error))
      // Its answer will not come, and servers then leave the stream open that it would have come on.
      cancelled?.end.abort()
    },
    hold: (isFull) => own.hold(isFull),
    close: () => channel.close(),
  }
}

/** What a transport repeats of a message in headers. */
function outgoingOf({ method, name, uri, taskId, metaProtocolVersion }: Envelope): Outgoing {
  if (metaProtocolVersion === undefined) return { method }
  return { method, name, uri, taskId, protocolVersion: metaProtocolVersion }
}

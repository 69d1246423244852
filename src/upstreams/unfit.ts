import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import type { ChannelEvents } from './channel.ts'

export interface UnfitMessage {
  readonly envelope: Envelope
  readonly bytes: number
  readonly maxBytes: number
  /** Hear an error in the place of each answer that it was. */
  readonly events: Pick<ChannelEvents, 'onMessage'>
  /** Takes an error to the server for each request that it was. */
  readonly answer: (message: Buffer) => Promise<void>
}

/** What a server said is too long to be carried: whoever waits for an answer, be it the server itself, hears so. */
export function refuseUnfit({ envelope, bytes, maxBytes, events, answer }: UnfitMessage): void {
  for (const { kind, id } of (envelope.messages ?? [envelope]).filter((one) => one !== undefined)) {
    if (id === undefined || (kind !== 'response' && kind !== 'request')) continue
    const what = kind === 'response' ? 'an answer' : 'a request'
    const unfit = `${what} of ${bytes} bytes; the limit is ${maxBytes}`
    const error = JSON.stringify({ code: -32000, message: `mcp-vitals: ${unfit}` })
    const message = Buffer.from(`{"jsonrpc":"2.0","id":${id},"error":${error}}`)
    const read = readEnvelope(message)
    if (kind === 'response' && read) events.onMessage(message, { ...read, unfit })
    // A server that does not take it is one that hangs or is gone, which is found out without it.
    if (kind === 'request') answer(message).catch(() => undefined)
  }
}

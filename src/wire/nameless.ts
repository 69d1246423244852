import { type Envelope, splice } from './envelope.ts'

/** Whether it answers a request without saying which one: a server that refuses a POST unread knows no id. */
export function isNameless({ kind, id }: Envelope): boolean {
  return kind === 'response' && (id === undefined || id === 'null')
}

/** A nameless answer with the id, as raw JSON text, of the request that it is for; all else stays byte for byte. */
export function namedAfter(message: Buffer, { ranges }: Envelope, id: string): Buffer {
  if (ranges.id) return splice(message, [{ range: ranges.id, text: id }])
  return Buffer.concat([Buffer.from(`{"id":${id},`), message.subarray(message.indexOf('{') + 1)])
}

import { type Envelope, readEnvelope, splice } from './envelope.ts'

const openBrace = 0x7b
const closeBrace = 0x7d

/**
 * A request with this `traceparent` in `params._meta` (MCP 2026-07-28 and SEP-414; W3C Trace Context §3.2), in place of
 * one that is there. Only those bytes change. What is no single request, and parameters that are no object, stay as
 * they are: the message is for its receiver to refuse.
 */
export function withTraceparent(message: Buffer, traceparent: string): Buffer {
  const envelope = readEnvelope(message)
  if (envelope?.kind !== 'request') return message
  const edit = editFor(message, envelope, `"${traceparent}"`)
  return edit ? splice(message, [edit]) : message
}

function editFor(message: Buffer, { ranges, starts = {} }: Envelope, value: string) {
  if (ranges.traceparent) return { range: ranges.traceparent, text: value }
  const member = `"traceparent":${value}`
  if (starts.meta !== undefined) return inObject(message, starts.meta, member)
  const meta = `"_meta":{${member}}`
  if (starts.params !== undefined) return inObject(message, starts.params, meta)
  return inObject(message, message.indexOf(openBrace), `"params":{${meta}}`)
}

/** The first member of the object that begins at `start`; undefined where none does. */
function inObject(message: Buffer, start: number, member: string) {
  if (message[start] !== openBrace) return undefined
  let next = start + 1
  while ((message[next] ?? openBrace) <= 0x20) next++
  const text = message[next] === closeBrace ? member : `${member},`
  return { range: { start: start + 1, end: start + 1 }, text }
}

import { z } from 'zod'
import { logfmt } from '../../src/log.ts'

const listening = z.object({ msg: z.literal('listening'), admin_url: z.string() })
const upstreamUrl = z.object({ msg: z.literal('upstream'), upstream: z.string(), url: z.string() })
const stateChange = z.object({
  msg: z.literal('upstream state changed'),
  upstream: z.string(),
  from: z.string(),
  state: z.string(),
  reason: z.string(),
})
const trouble = z.looseObject({ level: z.enum(['warn', 'error']), msg: z.string(), upstream: z.string().optional() })

/** What the state change tells already. */
const details = ['heartbeat', 'a new kind of failure']

/** What a line of mcp-vitals' log means to the stack. */
export type LogEvent =
  | { readonly kind: 'listening'; readonly adminUrl: string }
  | { readonly kind: 'upstream'; readonly name: string; readonly url: string }
  /** Something that one who watches wants to read. */
  | { readonly kind: 'news'; readonly text: string }
  | { readonly kind: 'detail' }

export function logEvent(line: string): LogEvent {
  const entry = jsonOf(line)
  if (entry === undefined) return { kind: 'news', text: line }
  const heard = listening.safeParse(entry).data
  if (heard) return { kind: 'listening', adminUrl: heard.admin_url }
  const named = upstreamUrl.safeParse(entry).data
  if (named) return { kind: 'upstream', name: named.upstream, url: named.url }
  const change = stateChange.safeParse(entry).data
  if (change) {
    return { kind: 'news', text: `${change.upstream}: ${change.from} → ${change.state}: ${change.reason}` }
  }
  const told = trouble.safeParse(entry).data
  return told && !details.includes(told.msg) ? { kind: 'news', text: sentence(told) } : { kind: 'detail' }
}

/** The upstream, the message, then the other fields. */
function sentence(entry: z.infer<typeof trouble>): string {
  const { msg, upstream } = entry
  const fields = Object.entries(entry).filter(([key]) => !['level', 'ts', 'msg', 'upstream'].includes(key))
  const about = upstream === undefined ? '' : `${upstream}: `
  return `${about}${msg} ${logfmt(JSON.stringify(Object.fromEntries(fields)))}`.trimEnd()
}

/** What is not JSON is Node's own, when something is badly wrong. */
function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

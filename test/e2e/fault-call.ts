import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '../support/eventually.ts'
import { type PostAnswer, modernPost, openPost, openSession } from '../support/rpc.ts'
import type { Place } from './fault-places.ts'

/** A client's call under way. */
export interface BlockingCall {
  readonly done: Promise<PostAnswer>
  /** Wall time at which it was sent. */
  readonly sentMs: number
  /** Waits for its end, and ends its session; a process that only that session had ends with it. */
  readonly leave: () => Promise<void>
}

export interface BlockingTool {
  /** `spin` takes the processor meanwhile, `wait` does not. */
  readonly name: 'spin' | 'wait'
  readonly seconds: number
}

/** Longer than an mcp-vitals refuses sessions and calls because it has been overloaded itself. */
export const refusalMs = 120_000

/** Has a tool of a patient (test/peers/patient.ts) keep its only thread, as soon as mcp-vitals lets the call pass. */
export async function blockingCall(url: string, place: Place, tool: BlockingTool): Promise<BlockingCall> {
  const { transport, era } = place
  const hasSession = era === 'legacy' && transport !== 'http'
  const session = hasSession
    ? await eventually(() => openSession(url), { timeoutMs: refusalMs, what: `a session with ${url}` })
    : {}
  const params = { name: tool.name, arguments: { seconds: tool.seconds } }
  const request = { jsonrpc: '2.0', id: 9, method: 'tools/call', params }
  const asked = async () => {
    const sentMs = Date.now()
    const { done } = era === 'modern' ? modernPost(url, request) : openPost(url, request, session)
    const early = await Promise.race([done, sleep(1000)])
    if (early && early.status !== 503) throw new Error(`the call got ${early.status} ${early.body} at once`)
    return !early && { done, sentMs }
  }
  const { done, sentMs } = await eventually(asked, { timeoutMs: refusalMs, what: `a call that ${url} lets pass` })
  const leave = async () => {
    await done
    if (hasSession) await fetch(url, { method: 'DELETE', headers: session })
  }
  return { done, sentMs, leave }
}

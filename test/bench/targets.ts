import { eventually } from '../support/eventually.ts'
import { SseClient, postLane } from './lanes.ts'
import type { Target } from './matrix.ts'
import { initialize, initialized, legacyCall, legacyHeaders, modernCall, modernHeaders, openSession } from './rpc.ts'

/** What a target is reached at and measured by. */
export interface Place {
  readonly name: string
  readonly pid: number
  readonly url: string
}

/** The echo server, directly or through something that forwards: its answer is the same bytes every time. */
export function rawTarget({ name, pid, url }: Place): Target {
  const body = legacyCall(1, 0)
  return {
    name,
    pid,
    lanes: (answerBytes) => (_index, fail) =>
      postLane(
        { url: new URL(url), headers: [...legacyHeaders, `X-Answer-Bytes: ${answerBytes}`], body },
        { isWhole: ({ status, bodyBytes }) => status === 200 && bodyBytes === answerBytes, fail },
      ),
  }
}

/** One legacy session over Streamable HTTP, whose requests have an id each. */
export async function sessionTarget(place: Place, tool = 'echo'): Promise<Target> {
  const headers = await eventually(
    async () => {
      const opened = await openSession(place.url)
      await proveEcho(place.url, opened, legacyCall(1, provenBytes, tool))
      return opened
    },
    { what: `${place.name} answers` },
  )
  return callTarget(place, (id, bytes) => ({ headers, body: legacyCall(id, bytes, tool) }))
}

/** Requests of 2026-07-28, which know no session. */
export async function modernTarget(place: Place): Promise<Target> {
  await eventually(
    async () => {
      await proveEcho(place.url, modernHeaders, modernCall(1, provenBytes))
      return true
    },
    { what: `${place.name} answers` },
  )
  return callTarget(place, (id, bytes) => ({ headers: modernHeaders, body: modernCall(id, bytes) }))
}

function callTarget(
  { name, pid, url }: Place,
  call: (id: number, bytes: number) => { readonly headers: readonly string[]; readonly body: string },
): Target {
  return {
    name,
    pid,
    lanes: (answerBytes) => (index, fail) =>
      postLane(
        { url: new URL(url), ...call(index + 1, answerBytes) },
        { isWhole: ({ status, bodyBytes }) => status === 200 && bodyBytes > answerBytes - longestId, fail },
      ),
  }
}

/** One session over HTTP+SSE. */
export async function sseTarget({ name, pid, url }: Place, tool: string): Promise<Target> {
  const client = new SseClient()
  await eventually(() => client.open(url).then(() => true), { what: `${name} opens a stream` })
  await client.send(initialize)
  await client.send(initialized)
  await eventually(async () => (await client.send(legacyCall(1, provenBytes, tool))).includes(proof), {
    what: `${name} answers`,
  })
  return {
    name,
    pid,
    lanes: (answerBytes) => (index, fail) =>
      client.lane(index + 1, { body: legacyCall(index + 1, answerBytes, tool), fail }),
  }
}

/** The server counts the id that it was sent, and a bridge may send one of its own. */
const longestId = 32

const provenBytes = 1000
const proof = 'x'.repeat(500)

/** An error can be as long as an answer; that what comes is the server's own answer is therefore looked at once. */
async function proveEcho(url: string, lines: readonly string[], body: string): Promise<void> {
  const pairs = lines.map((line) => line.split(': ', 2))
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...Object.fromEntries(pairs),
  }
  const response = await fetch(url, { method: 'POST', headers, body })
  const text = await response.text()
  if (!text.includes(proof)) throw new Error(`${url} answered ${response.status}: ${text.slice(0, 300)}`)
}

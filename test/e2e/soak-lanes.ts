/** What goes on during the soak test: lanes of clients that connect, call, misbehave and leave, until they are told to stop. */
import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { errorMessage } from '../../src/errors.ts'
import { type Message, initializeMessage, modernRequest, openPost, post } from '../support/rpc.ts'
import { type SseClient, openSse } from '../support/sse-client.ts'
import type { Place } from '../support/uniform-client.ts'
import { type CallOptions, type SoakClient, type Dialect, connectSoakClient, textOf } from './soak-clients.ts'
import type { Call, Ending, Ledger } from './soak-ledger.ts'

/** How clients connect. */
export const transports = ['http', 'sse', 'stdio'] as const
export type Transport = (typeof transports)[number]

/** What is behind them; all clients of the last two share one process, which speaks the legacy era or 2026-07-28 alone. */
export const servers = [...transports, 'shared', 'shared-modern'] as const
export type Server = (typeof servers)[number]

/** Official clients of one kind on one server. */
export interface Route {
  readonly lane: string
  readonly client: Transport
  readonly server: Server
  readonly dialect: Dialect
  readonly place: Place
  /** The server's process is this client's own: a session may kill it without harm to others. */
  readonly isOwnProcess: boolean
}

export interface Stage {
  readonly ledger: Ledger
  readonly random: () => number
  readonly isOver: () => boolean
  /** Within this every call has to end; far above what any of them takes. */
  readonly callTimeoutMs: number
  /** How long some calls keep the server silent, which is longer than mcp-vitals waits; unset: none does. */
  readonly stallMs?: number | undefined
}

const now = () => performance.now()

let lastNonce = 0
const newNonce = () => `nonce-${(lastNonce += 1)}.`

function between(random: () => number, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1))
}

/** Session after session, each with a few calls at a time of every kind. */
export async function officialLane(route: Route, stage: Stage): Promise<void> {
  for (let session = 1; !stage.isOver(); session++) {
    await new OfficialSession(route, stage, route.isOwnProcess ? `${route.lane} #${session}` : route.server).run()
    await pauseAfter(route.client === 'stdio' || route.isOwnProcess, stage)
  }
}

/** A new process costs more than all calls of its session. */
function pauseAfter(startsProcess: boolean, { random }: Stage): Promise<void> {
  return sleep(startsProcess ? between(random, 3000, 9000) : between(random, 300, 2000))
}

class OfficialSession {
  readonly #route: Route
  readonly #stage: Stage
  readonly #domain: string
  readonly #sinceMs = now()
  readonly #nonces = new Set<string>()
  /** What the server asked this client to repeat. */
  readonly #asked = new Set<string>()
  /** It has heard the server say something that belongs to no request. */
  #isListening = false
  #callsLeft = 0
  #hasCancelled = false
  #isBroken = false
  #trouble: string | undefined

  constructor(route: Route, stage: Stage, domain: string) {
    this.#route = route
    this.#stage = stage
    this.#domain = domain
  }

  async run(): Promise<void> {
    const { random, ledger } = this.#stage
    const opening = this.#call('connect')
    ledger.begin(opening)
    let client: SoakClient
    try {
      client = await connectSoakClient(this.#route.place, this.#route.dialect, {
        onAsked: (text) => this.#wasAsked(text),
        onSaid: (text) => this.#wasTold(text),
        // The answer to a request that was cancelled may be under way already.
        onStray: (what) => this.#hasCancelled || ledger.fault(`stray: ${this.#route.lane}: ${what}`),
        onTrouble: (what) => void (this.#trouble = `${what} at ${(now() / 1000).toFixed(1)} s`),
      })
    } catch (error) {
      return ledger.end(opening, { kind: 'error', message: messageOf(error), atMs: now() })
    }
    ledger.end(opening, { kind: 'opened' })
    this.#callsLeft = between(random, 5, 40)
    const watch = this.#watchCrash(client)
    await Promise.all(Array.from({ length: 3 }, () => this.#work(client)))
    clearInterval(watch)
    await this.#leave(client)
  }

  async #work(client: SoakClient): Promise<void> {
    const { random, isOver } = this.#stage
    while (this.#callsLeft > 0 && !this.#isBroken && !isOver()) {
      this.#callsLeft -= 1
      await this.#one(client)
      await sleep(between(random, 0, 300))
    }
  }

  async #one(client: SoakClient): Promise<void> {
    const { random } = this.#stage
    const dice = random()
    if (dice < 0.45) return this.#ask(client, 'echo', { ms: between(random, 0, 100) })
    if (dice < 0.55) return this.#ask(client, 'progress', { steps: between(random, 1, 5) })
    if (dice < 0.6) return this.#ask(client, 'say', { ms: 0 })
    if (dice < 0.8) return this.#askBack(client)
    if (dice < 0.88) return this.#ask(client, 'large', { bytes: between(random, 10_000, 300_000) })
    if (dice < 0.97) return this.#cancel(client)
    if (dice < 0.975) return this.#stall(client)
    if (this.#domain !== this.#route.server) return this.#kill(client)
    return undefined
  }

  async #ask(client: SoakClient, tool: string, args: Readonly<Record<string, unknown>>): Promise<void> {
    const call = this.#call(tool)
    await this.#perform(client, call, tool, args)
  }

  /**
   * Which of the sessions in one process is asked cannot be known while several of them call (README, `process: shared`);
   * and a question that names no request is lost, by an SDK server itself, until the client listens.
   */
  async #askBack(client: SoakClient): Promise<void> {
    if (this.#route.server === 'shared') return this.#ask(client, 'echo', { ms: 10 })
    const aside = this.#isListening && this.#stage.random() < 0.5
    return this.#ask(client, 'ask', { aside })
  }

  /** The server says nothing for longer than mcp-vitals waits; a wrapped command is waited for as long as it takes. */
  async #stall(client: SoakClient): Promise<void> {
    const ms = this.#stage.stallMs
    // Forwarded, an answer that has begun is cut off, which official clients of HTTP take for a pause.
    if (ms === undefined || this.#route.client === 'stdio' || this.#route.client === this.#route.server) return
    // What the server says to nobody in particular is a sign of life for this call too, which is then answered.
    const timeoutMs = ms + this.#stage.callTimeoutMs
    await this.#perform(client, this.#call('stalled echo', 'stalled'), 'echo', { ms }, { timeoutMs })
  }

  async #cancel(client: SoakClient): Promise<void> {
    this.#hasCancelled = true
    const call = this.#call('cancelled echo', 'cancelled')
    const aborted = new AbortController()
    const timer = setTimeout(() => aborted.abort(), between(this.#stage.random, 5, 60))
    await this.#perform(client, call, 'echo', { ms: 2000 }, { signal: aborted.signal })
    clearTimeout(timer)
  }

  async #kill(client: SoakClient): Promise<void> {
    const over = this.#stage.ledger.crash(this.#domain, now())
    await this.#perform(client, this.#call('die', 'died'), 'die', {})
    over(now())
  }

  async #perform(
    client: SoakClient,
    call: Call,
    tool: string,
    args: Readonly<Record<string, unknown>>,
    { timeoutMs = this.#stage.callTimeoutMs, signal }: Pick<Partial<CallOptions>, 'timeoutMs' | 'signal'> = {},
  ): Promise<void> {
    const { ledger } = this.#stage
    const { nonce } = call
    ledger.begin(call)
    try {
      const onProgress = (message: string) => {
        if (message !== nonce) ledger.fault(`crossed progress: ${call.lane} ${nonce} heard ${message}`)
      }
      const options = {
        timeoutMs,
        ...(signal && { signal }),
        ...(tool === 'progress' && { onProgress }),
      }
      ledger.end(call, { kind: 'answer', text: await client.call(tool, { nonce, ...args }, options) })
    } catch (error) {
      const message = messageOf(error)
      if (isTimeout.test(message)) ledger.end(call, this.#late(nonce, timeoutMs))
      else ledger.end(call, { kind: 'error', message, atMs: now() })
      if (call.excuse !== 'cancelled') this.#isBroken = true
    }
  }

  /**
   * Where bytes are forwarded, an answer that has begun is cut when its server dies, and official clients then wait for
   * more; like a user who sees that, this one hangs up. A bridge has to tell its clients itself.
   */
  #watchCrash(client: SoakClient): NodeJS.Timeout | undefined {
    if (this.#route.client !== this.#route.server || this.#domain !== this.#route.server) return undefined
    const watch = setInterval(() => {
      if (this.#stage.ledger.crashesSince(this.#domain, this.#sinceMs) === 0) return
      clearInterval(watch)
      this.#isBroken = true
      setTimeout(() => void client.vanish().catch(() => undefined), 1000)
    }, 500)
    return watch
  }

  async #leave(client: SoakClient): Promise<void> {
    const { ledger, random, callTimeoutMs } = this.#stage
    const isRude = random() < 0.25
    const leaving = this.#call(isRude ? 'vanish' : 'close')
    ledger.begin(leaving)
    try {
      await within(callTimeoutMs, isRude ? client.vanish() : client.close())
      ledger.end(leaving, { kind: isRude ? 'vanished' : 'closed' })
    } catch {
      ledger.end(leaving, this.#late(leaving.nonce, callTimeoutMs))
    }
  }

  #late(nonce: string, afterMs: number): Ending {
    const asked = this.#asked.has(nonce) ? 'its client was asked for it' : 'its client was not asked for it'
    const clue = `${asked}; the last trouble of its client: ${this.#trouble ?? 'none'}`
    return { kind: 'late', afterMs, atMs: now(), clue }
  }

  #wasAsked(text: string): void {
    this.#asked.add(text)
    if (this.#nonces.has(text)) return
    this.#stage.ledger.fault(`crossed: ${this.#route.lane} was asked to repeat ${text.slice(0, 80)}`)
  }

  /** Everybody in a shared process is told what the server says to nobody in particular. */
  #wasTold(text: string): void {
    this.#isListening = true
    if (this.#nonces.has(text) || this.#route.server === 'shared') return
    this.#stage.ledger.fault(`crossed: ${this.#route.lane} was told ${text.slice(0, 80)}`)
  }

  #call(what: string, excuse?: Call['excuse']): Call {
    const nonce = newNonce()
    this.#nonces.add(nonce)
    return { nonce, lane: this.#route.lane, what, domain: this.#domain, sinceMs: this.#sinceMs, excuse }
  }
}

/** How official clients call it when an answer does not come. */
const isTimeout = /request timed out/i

/** Clients that speak by hand, so that they can misbehave. */
export interface RawRoute {
  readonly lane: string
  readonly client: 'http' | 'sse'
  readonly era: 'legacy' | 'modern'
  readonly server: Server
  readonly url: string
}

const startsProcess = ({ server, era }: RawRoute) => server === 'stdio' && era === 'legacy'

/** Clients that leave in the middle of a call. */
export async function vanishingLane(route: RawRoute, stage: Stage): Promise<void> {
  const { ledger, isOver, callTimeoutMs } = stage
  while (!isOver()) {
    const call = rawCall(route, 'echo')
    ledger.begin(call)
    try {
      await vanish(route, stage, { name: 'echo', arguments: { nonce: call.nonce, ms: 500 } })
      ledger.abandon(call)
    } catch (error) {
      ledger.end(call, failed(error, callTimeoutMs))
    }
    await pauseAfter(startsProcess(route), stage)
  }
}

function rawCall({ lane, server }: RawRoute, what: string): Call {
  return { nonce: newNonce(), lane, what, domain: server, sinceMs: now() }
}

type Params = Readonly<Record<string, unknown>>
const called = (params: Params) => ({ jsonrpc: '2.0', id: 2, method: 'tools/call', params })
const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }

async function vanish(route: RawRoute, { random, callTimeoutMs }: Stage, params: Params): Promise<void> {
  const stayMs = between(random, 1, 200)
  if (route.client === 'sse') {
    return withStream(route.url, callTimeoutMs, async (client) => {
      await within(callTimeoutMs, client.post(called(params)))
      await sleep(stayMs)
    })
  }
  const { message, headers } = await rawRequest(route, callTimeoutMs, params)
  const open = openPost(route.url, message, headers)
  await sleep(stayMs)
  open.disconnect()
}

/** A call and the headers that go with it, in a session of its own where the era knows sessions. */
async function rawRequest({ url, era }: RawRoute, timeoutMs: number, params: Params): Promise<RawRequest> {
  if (era === 'modern') return modernRequest({ id: 1, method: 'tools/call', params })
  return { message: called(params), headers: await rawSession(url, timeoutMs) }
}

interface RawRequest {
  readonly message: unknown
  readonly headers: Readonly<Record<string, string>>
}

async function rawSession(url: string, timeoutMs: number): Promise<Readonly<Record<string, string>>> {
  const answer = await within(timeoutMs, post(url, initializeMessage))
  const id = answer.headers['mcp-session-id']
  if (typeof id !== 'string') throw new Error(`no session: ${answer.status} ${answer.body}`)
  const headers = { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }
  await within(timeoutMs, post(url, initialized, headers))
  return headers
}

/** Clients that read a long answer late: nothing of it may be lost, and nobody else may wait for them. */
export async function slowLane(route: RawRoute, stage: Stage): Promise<void> {
  const { random, ledger, isOver, callTimeoutMs } = stage
  while (!isOver()) {
    const call = rawCall(route, 'large')
    ledger.begin(call)
    const params = { name: 'large', arguments: { nonce: call.nonce, bytes: 2_000_000 } }
    const reading = { pauseMs: between(random, 200, 1500), timeoutMs: callTimeoutMs }
    try {
      const answer = route.client === 'sse' ? slowFromSse(route, params, reading) : slowFromHttp(route, params, reading)
      const { error, result } = await within(callTimeoutMs, answer)
      if (error !== undefined) throw new Error(JSON.stringify(error))
      ledger.end(call, { kind: 'answer', text: textOf(result) })
    } catch (error) {
      ledger.end(call, failed(error, callTimeoutMs))
    }
    await pauseAfter(startsProcess(route), stage)
  }
}

interface SlowReading {
  readonly pauseMs: number
  readonly timeoutMs: number
}

async function slowFromHttp(route: RawRoute, params: Params, { pauseMs, timeoutMs }: SlowReading): Promise<Message> {
  const { url, era } = route
  const { message, headers } = await rawRequest(route, timeoutMs, params)
  const body = await new Promise<string>((resolve, reject) => {
    const accept = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
    const outgoing = request(url, { method: 'POST', agent: false, headers: { ...accept, ...headers } }, (incoming) => {
      let body = ''
      incoming.setEncoding('utf8')
      setTimeout(() => incoming.on('data', (text: string) => (body += text)), pauseMs)
      incoming.once('error', reject)
      incoming.once('end', () => resolve(body))
    })
    outgoing.once('error', reject)
    outgoing.end(JSON.stringify(message))
  })
  if (era === 'legacy') {
    await within(timeoutMs, post(url, initialized, headers)) // The session is still there.
    await fetch(url, { method: 'DELETE', headers })
  }
  const texts = body.split('\n').flatMap((line) => /^(?:data: ?)?(\{.*)$/.exec(line)?.[1] ?? [])
  // What a shared process says to everybody may come on any stream.
  const [answer, ...more] = texts.map((text) => JSON.parse(text) as Message).filter((one) => !('method' in one))
  if (!answer || more.length > 0) throw new Error(`${more.length + (answer ? 1 : 0)} answers: ${body.slice(0, 200)}`)
  return answer
}

function slowFromSse({ url }: RawRoute, params: Params, { pauseMs, timeoutMs }: SlowReading): Promise<Message> {
  return withStream(url, timeoutMs, async (client) => {
    const answer = Promise.race([client.ask(called(params)), cutOff(client)])
    client.pause()
    await Promise.race([sleep(pauseMs), answer])
    client.resume()
    return answer
  })
}

/** A session over HTTP+SSE, which ends with `work`. */
async function withStream<T>(url: string, timeoutMs: number, work: (client: SseClient) => Promise<T>): Promise<T> {
  const client = await within(timeoutMs, openSse(url))
  try {
    if (client.isEnded()) throw new Error(`no stream: ${client.status}`)
    await within(timeoutMs, Promise.race([client.ask(initializeMessage), cutOff(client)]))
    await within(timeoutMs, client.post(initialized))
    return await work(client)
  } finally {
    client.close()
  }
}

async function cutOff(client: SseClient): Promise<never> {
  await client.until(() => client.isEnded())
  throw new Error('the stream ended')
}

/** Somebody waits for something that does not come. */
class NoEnd extends Error {}

/** With what is behind it: `fetch` only says that it failed. */
function messageOf(error: unknown): string {
  const causes = error instanceof Error && error.cause !== undefined ? [messageOf(error.cause)] : []
  return [errorMessage(error), ...causes].join(': ')
}

function failed(error: unknown, afterMs: number): Ending {
  if (error instanceof NoEnd) return { kind: 'late', afterMs, atMs: now() }
  return { kind: 'error', message: messageOf(error), atMs: now() }
}

async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
  const timeout = new AbortController()
  const late = sleep(timeoutMs, undefined, { signal: timeout.signal }).then(() => {
    throw new NoEnd(`no end after ${timeoutMs} ms`)
  })
  late.catch(() => undefined) // Nobody is late.
  try {
    return await Promise.race([work, late])
  } finally {
    timeout.abort()
  }
}

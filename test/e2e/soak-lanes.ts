/** What goes on during the soak test: lanes of clients that connect, call, misbehave and leave, until they are told to stop. */
import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { errorMessage } from '../../src/errors.ts'
import { type Message, initializeMessage, modernPost, openPost, post } from '../support/rpc.ts'
import { type SseClient, openSse } from '../support/sse-client.ts'
import type { Place } from '../support/uniform-client.ts'
import { type Dialect, type SoakClient, connectSoakClient } from './soak-clients.ts'
import type { Call, Ledger } from './soak-ledger.ts'

/** The transports of both sides. */
export const transports = ['http', 'sse', 'stdio'] as const
export type Transport = (typeof transports)[number]

/** What stands behind mcp-vitals; `shared` is a stdio server that all clients share. */
export const servers = [...transports, 'shared'] as const
export type Server = (typeof servers)[number]

export interface Route {
  readonly client: Transport
  readonly server: Server
  readonly place: Place
  /** The server's process is this client's own: a session may kill it without harm to others. */
  readonly isOwnProcess: (dialect: Dialect) => boolean
}

export interface Stage {
  readonly ledger: Ledger
  readonly random: () => number
  readonly isOver: () => boolean
}

/** What the servers are given to say something. */
export const stallTimeoutMs = 30_000
/** Within this every call has to end; far above what any of them takes. */
const callTimeoutMs = 60_000
const now = () => performance.now()

let lastNonce = 0
const newNonce = () => `nonce-${(lastNonce += 1)}.`

function between(random: () => number, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1))
}

/** Official clients on one route: session after session, each with a few calls at a time of every kind. */
export async function officialLane(route: Route, dialect: Dialect, stage: Stage): Promise<void> {
  for (let session = 1; !stage.isOver(); session++) {
    const name = `${route.client}→${route.server} ${dialect}`
    const domain = route.isOwnProcess(dialect) ? `${name} #${session}` : route.server
    await new OfficialSession(route, dialect, stage, { name, domain }).run()
    // A new process costs more than all calls of its session.
    const startsProcess = route.client === 'stdio' || route.isOwnProcess(dialect)
    await sleep(startsProcess ? between(stage.random, 2000, 6000) : between(stage.random, 300, 2000))
  }
}

class OfficialSession {
  readonly #route: Route
  readonly #dialect: Dialect
  readonly #stage: Stage
  readonly #name: string
  readonly #domain: string
  readonly #sinceMs = now()
  readonly #nonces = new Set<string>()
  #callsLeft = 0
  #hasCancelled = false
  #isBroken = false
  #trouble: string | undefined

  constructor(route: Route, dialect: Dialect, stage: Stage, names: { readonly name: string; readonly domain: string }) {
    this.#route = route
    this.#dialect = dialect
    this.#stage = stage
    this.#name = names.name
    this.#domain = names.domain
  }

  async run(): Promise<void> {
    const { random, ledger } = this.#stage
    const opening = this.#call('connect')
    ledger.begin(opening)
    let client: SoakClient
    try {
      client = await connectSoakClient(this.#route.place, this.#dialect, {
        onAsked: (text) => this.#heard('a request of the server', text),
        // The answer to a request that was cancelled may be under way already.
        onStray: (what) => this.#hasCancelled || ledger.fault(`stray: ${this.#name}: ${what}`),
        onTrouble: (what) => void (this.#trouble = `${what} at ${(now() / 1000).toFixed(1)} s`),
      })
    } catch (error) {
      return ledger.end(opening, { kind: 'error', message: errorMessage(error), atMs: now() })
    }
    ledger.end(opening, { kind: 'answer', text: opening.nonce })
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
      await sleep(between(random, 0, 100))
    }
  }

  async #one(client: SoakClient): Promise<void> {
    const { random } = this.#stage
    const dice = random()
    if (dice < 0.45) return this.#ask(client, 'echo', { ms: between(random, 0, 100) })
    if (dice < 0.6) return this.#ask(client, 'progress', { steps: between(random, 1, 5) })
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

  /** Which of the sessions in one process is asked cannot be known while several of them call (README, `process: shared`). */
  async #askBack(client: SoakClient): Promise<void> {
    if (this.#route.server === 'shared') return this.#ask(client, 'echo', { ms: 10 })
    return this.#ask(client, 'ask', {})
  }

  /** The server says nothing for longer than mcp-vitals waits; a wrapped command is waited for as long as it takes. */
  async #stall(client: SoakClient): Promise<void> {
    // Forwarded, an answer that has begun is cut off, which official clients of HTTP take for a pause.
    if (this.#route.client === 'stdio' || this.#route.client === this.#route.server) return
    await this.#perform(client, this.#call('stalled echo', 'stalled'), 'echo', { ms: 3 * stallTimeoutMs })
  }

  async #cancel(client: SoakClient): Promise<void> {
    this.#hasCancelled = true
    const call = this.#call('cancelled echo', 'cancelled')
    const aborted = new AbortController()
    const timer = setTimeout(() => aborted.abort(), between(this.#stage.random, 5, 60))
    await this.#perform(client, call, 'echo', { ms: 2000 }, aborted.signal)
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
    signal?: AbortSignal,
  ): Promise<void> {
    const { ledger } = this.#stage
    const { nonce } = call
    ledger.begin(call)
    try {
      const onProgress = (message: string) => {
        if (message !== nonce) ledger.fault(`crossed progress: ${call.what} ${nonce} heard ${message}`)
      }
      const options = {
        timeoutMs: callTimeoutMs,
        ...(signal && { signal }),
        ...(tool === 'progress' && { onProgress }),
      }
      ledger.end(call, { kind: 'answer', text: await client.call(tool, { nonce, ...args }, options) })
    } catch (error) {
      const message = errorMessage(error)
      const late = { kind: 'late', afterMs: callTimeoutMs, atMs: now(), trouble: this.#trouble } as const
      if (/timed out/i.test(message)) ledger.end(call, late)
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
    const isRude = this.#stage.random() < 0.25
    const leaving = this.#call(isRude ? 'vanish' : 'close')
    this.#stage.ledger.begin(leaving)
    try {
      await within(isRude ? client.vanish() : client.close())
      this.#stage.ledger.end(leaving, { kind: 'answer', text: leaving.nonce })
    } catch {
      this.#stage.ledger.end(leaving, { kind: 'late', afterMs: callTimeoutMs, atMs: now() })
    }
  }

  #heard(what: string, text: string): void {
    if (!this.#nonces.has(text))
      this.#stage.ledger.fault(`crossed: ${this.#name} got ${what} with ${text.slice(0, 80)}`)
  }

  #call(tool: string, excuse?: Call['excuse']): Call {
    const nonce = newNonce()
    this.#nonces.add(nonce)
    return { nonce, what: `${this.#name} ${tool}`, domain: this.#domain, sinceMs: this.#sinceMs, excuse }
  }
}

interface RawRoute {
  readonly client: 'http' | 'sse'
  readonly server: Server
  readonly url: string
}

/** Clients that leave in the middle of a call: legacy, modern, and on HTTP+SSE. */
export async function vanishingLane(route: RawRoute, stage: Stage): Promise<void> {
  const { random, ledger, isOver } = stage
  while (!isOver()) {
    const nonce = newNonce()
    const call: Call = {
      nonce,
      what: `${route.client}→${route.server} vanishing`,
      domain: route.server,
      sinceMs: now(),
    }
    ledger.begin(call)
    const params = { name: 'echo', arguments: { nonce, ms: 500 } }
    const stayMs = between(random, 1, 200)
    try {
      if (route.client === 'sse') await vanishFromSse(route.url, params, stayMs)
      else if (random() < 0.5 && route.server !== 'sse' && route.server !== 'shared')
        await vanishFromModern(route.url, params, stayMs)
      else await vanishFromLegacy(route.url, params, stayMs)
    } catch (error) {
      // Otherwise the server was down: nothing to vanish from.
      if (error instanceof NoEnd) ledger.fault(`${call.what} ${nonce}: ${error.message}`)
    }
    ledger.abandon(call)
    await sleep(between(random, 300, 1500))
  }
}

type Params = Readonly<Record<string, unknown>>
const called = (params: Params) => ({ jsonrpc: '2.0', id: 2, method: 'tools/call', params })
const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }

async function vanishFromModern(url: string, params: Params, stayMs: number): Promise<void> {
  const open = modernPost(url, { id: 1, method: 'tools/call', params })
  await sleep(stayMs)
  open.disconnect()
}

async function vanishFromLegacy(url: string, params: Params, stayMs: number): Promise<void> {
  const open = openPost(url, called(params), await rawSession(url))
  await sleep(stayMs)
  open.disconnect()
}

async function vanishFromSse(url: string, params: Params, stayMs: number): Promise<void> {
  const client = await within(openSse(url))
  try {
    if (client.isEnded()) return
    await within(Promise.race([client.ask(initializeMessage), cutOff(client)]))
    await within(client.post(initialized))
    await within(client.post(called(params)))
    await sleep(stayMs)
  } finally {
    client.close()
  }
}

async function rawSession(url: string): Promise<Readonly<Record<string, string>>> {
  const answer = await within(post(url, initializeMessage))
  const id = answer.headers['mcp-session-id']
  if (typeof id !== 'string') throw new Error(`no session: ${answer.status} ${answer.body}`)
  const headers = { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }
  await within(post(url, initialized, headers))
  return headers
}

/** Clients that read a long answer late: nothing of it may be lost, and nobody else may wait for them. */
export async function slowLane(route: RawRoute, stage: Stage): Promise<void> {
  const { random, ledger, isOver } = stage
  while (!isOver()) {
    const nonce = newNonce()
    const call: Call = { nonce, what: `${route.client}→${route.server} slow`, domain: route.server, sinceMs: now() }
    ledger.begin(call)
    const params = { name: 'large', arguments: { nonce, bytes: 2_000_000 } }
    const pauseMs = between(random, 200, 1500)
    try {
      const answer =
        route.client === 'sse' ? slowFromSse(route.url, params, pauseMs) : slowFromHttp(route.url, params, pauseMs)
      const { error, result } = await within(answer)
      if (error !== undefined) throw new Error(JSON.stringify(error))
      const { content } = result as { readonly content: readonly { readonly text: string }[] }
      ledger.end(call, { kind: 'answer', text: content[0]?.text ?? '' })
    } catch (error) {
      ledger.end(call, { kind: 'error', message: errorMessage(error), atMs: now() })
    }
    await sleep(between(random, 1000, 3000))
  }
}

async function slowFromHttp(url: string, params: Params, pauseMs: number): Promise<Message> {
  const session = await rawSession(url)
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...session }
  const body = await new Promise<string>((resolve, reject) => {
    const outgoing = request(url, { method: 'POST', agent: false, headers }, (incoming) => {
      let body = ''
      incoming.setEncoding('utf8')
      setTimeout(() => incoming.on('data', (text: string) => (body += text)), pauseMs)
      incoming.once('error', reject)
      incoming.once('end', () => resolve(body))
    })
    outgoing.once('error', reject)
    outgoing.end(JSON.stringify(called(params)))
  })
  await within(post(url, initialized, session)) // The session is still there.
  await fetch(url, { method: 'DELETE', headers: session })
  const answers = body.split('\n').flatMap((line) => /^(?:data: ?)?(\{.*)$/.exec(line)?.[1] ?? [])
  if (answers.length !== 1) throw new Error(`${answers.length} answers: ${body.slice(0, 200)}`)
  return JSON.parse(answers[0] ?? '') as Message
}

async function slowFromSse(url: string, params: Params, pauseMs: number): Promise<Message> {
  const client = await within(openSse(url))
  try {
    if (client.isEnded()) throw new Error(`no stream: ${client.status}`)
    await within(Promise.race([client.ask(initializeMessage), cutOff(client)]))
    await client.post(initialized)
    const answer = Promise.race([client.ask(called(params)), cutOff(client)])
    client.pause()
    await Promise.race([sleep(pauseMs), answer])
    client.resume()
    return await answer
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

async function within<T>(work: Promise<T>): Promise<T> {
  const timeout = new AbortController()
  const late = sleep(callTimeoutMs, undefined, { signal: timeout.signal }).then(() => {
    throw new NoEnd(`no end after ${callTimeoutMs} ms`)
  })
  late.catch(() => undefined) // Nobody is late.
  try {
    return await Promise.race([work, late])
  } finally {
    timeout.abort()
  }
}

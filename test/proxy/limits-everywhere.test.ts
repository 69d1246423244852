import { afterEach, describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import { limitedOf } from '../../src/heartbeat/monitored.ts'
import { eventually } from '../support/eventually.ts'
import {
  type ClientKind,
  type Got,
  type Path,
  type PathOptions,
  type ServerKind,
  heardOf,
  openPath,
  pairs,
} from './paths.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const open = (client: ClientKind, server: ServerKind, options?: PathOptions) =>
  openPath(client, server, closers, options)

function errorOf({ message }: Got) {
  const { id, error } = message as { id?: unknown; error?: { code: number; data?: { reason?: string } } }
  return { id, code: error?.code, reason: error?.data?.reason }
}

function limitsOf({ proxy }: Path) {
  const access = proxy.access.get('u')
  if (!access || access.kind === 'pipe') throw new Error('nobody reaches u')
  return limitedOf(access)
}

const queueOf = (path: Path) => limitsOf(path).queue

async function waiting(path: Path, inFlight: number, queued: number): Promise<void> {
  const now = () => `${path.proxy.inFlight('u')} in flight, ${queueOf(path).length} queued`
  const wanted = `${inFlight} in flight, ${queued} queued`
  await eventually(() => now() === wanted, { what: wanted })
}

/** An HTTP+SSE client has its POST accepted before the server is late. */
const statusOf = (client: string, status: number) => (client === 'sse' ? 202 : status)

/** A bridge has begun its answer before the server is that late. */
const lateStatusOf = (client: string, server: string) => statusOf(client, server === 'http' ? 504 : 200)

/** In which nobody else's failures are a reason to refuse it anything. */
const hasOwnProcess = (client: string, server: string) => server === 'stdio' && client !== 'modern'

describe.each(pairs.filter(([client, server]) => hasOwnProcess(client, server)))(
  '%s client, %s server',
  (client, server) => {
    it('is served while the server is given time to recover elsewhere: its process is its own', async () => {
      const path = await open(client, server, { limits: { hasBreaker: true } })
      const { breaker } = limitsOf(path)
      for (let n = 0; n < 5; n++) breaker.failed('refused')
      expect(errorOf(await path.ask(1, 'ping')).code).toBeUndefined()
      expect([path.proxy.told.rejected, breaker.view().state]).toEqual([[], 'open'])
    })
  },
)

describe.each(pairs)('%s client, %s server', (client, server) => {
  it.skipIf(hasOwnProcess(client, server))(
    'a server that is given time to recover is not asked: 503, until one request may try',
    async () => {
      const path = await open(client, server, { limits: { hasBreaker: true } })
      expect((await path.ask(1, 'ping')).status).toBe(statusOf(client, 200))
      const { breaker } = limitsOf(path)
      for (let n = 0; n < 5; n++) breaker.failed('refused')
      const refused = await path.ask(2, 'ping')
      expect(refused.status).toBe(503)
      expect(errorOf(refused)).toEqual({ id: 2, code: -32000, reason: 'circuit_open' })
      expect(path.proxy.told.rejected).toEqual(['circuit_open'])
      await path.clock.advance(1000)
      expect(errorOf(await path.ask(3, 'ping')).code).toBeUndefined()
      await waiting(path, 0, 0)
    },
  )

  it('a server that is drained gets nothing new, finishes what it has, and is asked again in time', async () => {
    const path = await open(client, server)
    const asked = path.ask(1, 'silent')
    await waiting(path, 1, 0)
    await heardOf(path, (text) => text.includes('"silent"'))
    const { drain } = limitsOf(path)
    drain.begin(30_000)
    const refused = await path.ask(2, 'ping')
    expect(refused.status).toBe(503)
    expect(errorOf(refused)).toEqual({ id: 2, code: -32000, reason: 'draining' })
    const session = await fetch(`${path.proxy.url}/u/sse`, { headers: { accept: 'text/event-stream' } })
    expect([session.status, session.headers.get('retry-after')]).toEqual([503, '30'])
    expect(path.proxy.told.rejected).toEqual(['draining', 'draining'])
    expect(path.proxy.inFlight('u')).toBe(1)
    await path.clock.advance(30_000)
    expect(errorOf(await path.ask(3, 'ping')).code).toBeUndefined()
    drain.begin(30_000)
    drain.end()
    expect(errorOf(await path.ask(4, 'ping')).code).toBeUndefined()
    expect((await path.heard()).filter((text) => text.includes('"ping"'))).toHaveLength(2)
    path.leave()
    await asked.catch(() => undefined)
  })

  it('what is given up while we are overloaded gets 503, and nothing else does', async () => {
    let isOverloaded = false
    const refusal = (method: string | undefined) =>
      isOverloaded && method === 'tools/call' ? new KnownError('overloaded', 'too much') : undefined
    const path = await open(client, server, { shedder: { refusal } })
    isOverloaded = true
    const refused = await path.ask(1, 'tools/call')
    expect(refused.status).toBe(503)
    expect(errorOf(refused)).toEqual({ id: 1, code: -32000, reason: 'overloaded' })
    expect((await path.ask(2, 'ping')).status).toBe(statusOf(client, 200))
  })

  it('a request that the server leaves unanswered is given up, and the server hears so', async () => {
    const path = await open(client, server)
    const asked = path.ask(7, 'silent')
    await waiting(path, 1, 0)
    await heardOf(path, (text) => text.includes('"silent"'))
    await path.clock.advance(58_000)
    expect(path.proxy.inFlight('u')).toBe(1)
    await path.clock.advance(3000)
    const got = await asked
    expect(got.status).toBe(lateStatusOf(client, server))
    expect(errorOf(got)).toEqual({ id: 7, code: -32000, reason: 'upstream_timeout' })
    await waiting(path, 0, 0)
    expect(path.proxy.told.failed.map(({ code }) => code)).toContain('upstream_timeout')
    const measured = path.proxy.told.operations.filter(({ method }) => method === 'silent')
    expect(measured.map(({ errorType }) => errorType)).toEqual(['upstream_timeout', 'upstream_timeout'])
    // Where the request had a connection or stream of its own, that was closed.
    if (server === 'http' && client !== 'sse') return
    if (client === 'modern' && server === 'sse') return
    await heardOf(path, (text) => text.includes('notifications/cancelled') && text.includes('stall_timeout_seconds'))
  })

  it('beyond max_in_flight requests wait, and get 503 with Retry-After after queue_timeout_seconds', async () => {
    const path = await open(client, server, { limits: { maxInFlight: 1 } })
    const first = path.ask(1, 'silent')
    await waiting(path, 1, 0)
    const second = path.ask(2, 'ping')
    await waiting(path, 1, 1)
    await path.clock.advance(3000)
    const got = await second
    expect([got.status, got.headers['retry-after'], errorOf(got)]).toEqual([
      503,
      '1',
      { id: 2, code: -32000, reason: 'queue_full' },
    ])
    expect(path.proxy.told.rejected).toEqual(['queue_full'])
    await path.clock.advance(60_000)
    await first
    await waiting(path, 0, 0)
    // The place is free again.
    expect((await path.ask(3, 'ping')).message).toMatchObject({ id: 3, result: {} })
    expect((await path.heard()).some((text) => text.includes('"id":2'))).toBe(false)
  })

  it('and 503 at once when the queue is full', async () => {
    const path = await open(client, server, { limits: { maxInFlight: 1, maxQueue: 0 } })
    void path.ask(1, 'silent').catch(() => undefined)
    await waiting(path, 1, 0)
    expect([(await path.ask(2, 'ping')).status, path.proxy.told.rejected]).toEqual([503, ['queue_full']])
  })

  // MCP 2025-11-25, Cancellation: nothing answers a cancelled request. In the modern era the end of its connection is it.
  it.skipIf(client === 'modern')('a cancelled request gives its place back at once, and is no time-out', async () => {
    const path = await open(client, server, { limits: { maxInFlight: 1, hasBreaker: true } })
    for (const id of [1, 2]) path.ask(id, 'silent').catch(() => undefined)
    await waiting(path, 1, 1)
    const cancel = (requestId: number) =>
      path.tell({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } })
    expect(await cancel(2)).toBe(202)
    await waiting(path, 1, 0)
    expect(await cancel(1)).toBe(202)
    await waiting(path, 0, 0)
    expect((await path.ask(3, 'ping')).message).toMatchObject({ id: 3, result: {} })
    expect((await path.heard()).some((text) => text.includes('"id":2'))).toBe(false)
    await path.clock.advance(62_000)
    const measured = path.proxy.told.operations.filter(({ method }) => method === 'silent')
    expect(measured.map(({ errorType }) => errorType)).toEqual(Array(4).fill('cancelled'))
    expect(path.proxy.told.failed.map(({ code }) => code)).not.toContain('upstream_timeout')
    expect([...path.proxy.directory.all()].map(({ pending }) => pending)).toEqual([0])
  })

  it('a client that leaves gives back what it took, waiting or under way', async () => {
    const path = await open(client, server, { limits: { maxInFlight: 1 } })
    for (const id of [1, 2]) path.ask(id, 'silent').catch(() => undefined)
    await waiting(path, 1, 1)
    path.leave()
    await waiting(path, 0, 0)
  })
})

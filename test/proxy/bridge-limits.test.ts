import { afterEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'
import { RawClient, type RawMessage, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { type ProxyOptions, type RunningProxy, startProxy, stdioOf } from './fixture.ts'
import { requestLimits } from '../support/settings.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const path = '/p/mcp'
const json = ['Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream']
const initialize = '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'
const ok = '{"jsonrpc":"2.0","id":$ID,"result":{}}'
const note = '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"hi"}}'
const ask = '{"jsonrpc":"2.0","id":"s-1","method":"sampling/createMessage","params":{}}'
const progress = (token: string) =>
  `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"${token}","progress":1}}`

const limits = requestLimits

interface Setting {
  readonly clock: FakeClock
  readonly proxy: RunningProxy
  readonly session: readonly string[]
  /** Sends a request on a connection of its own; its token is its id. */
  readonly send: (id: number, lines?: readonly string[]) => RawClient
  readonly post: (body: string) => Promise<RawMessage>
  /** Has the server say this, as part of no request. */
  readonly say: (...lines: readonly string[]) => Promise<RawMessage>
  readonly heard: () => Promise<readonly string[]>
}

async function start(changes: Partial<typeof limits> = {}, options: Partial<ProxyOptions> = {}): Promise<Setting> {
  const clock = fakeClock()
  const upstreams = { p: { script: 'scripted-stdio.mjs', limits: { ...limits, ...changes } } }
  const proxy = await startProxy({ ...options, upstreams, clock })
  closers.push(() => proxy.close())
  const opened = await rawFetch(proxy.port, { path, headers: json, body: initialize })
  const session = ['Mcp-Session-Id', headerOf(opened, 'mcp-session-id') ?? 'none', ...json]
  const post = (body: string) => rawFetch(proxy.port, { path, headers: session, body })
  return {
    clock,
    proxy,
    session,
    post,
    send: (id, lines = []) => {
      const client = new RawClient(proxy.port)
      closers.push(() => Promise.resolve(client.close()))
      const params = `{"_meta":{"progressToken":"${id}"},"say":${JSON.stringify(lines)}}`
      const body = `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":${params}}`
      client.send(rawRequest({ path, headers: session, body }))
      return client
    },
    say: (...lines) => post(`{"jsonrpc":"2.0","method":"tell","params":{"say":${JSON.stringify(lines)}}}`),
    heard: async () => {
      const response = await post('{"jsonrpc":"2.0","id":"r","method":"received"}')
      return (JSON.parse(textOf(response)) as { result: { received: string[] } }).result.received
    },
  }
}

function eventsOf(response: RawMessage | undefined): string[] {
  return [...(response ? textOf(response) : '').matchAll(/^event: message\ndata: (.*)\n\n/gm)].map(
    ([, data = '']) => data,
  )
}

function errorOf(text: string | undefined) {
  const { id, error } = JSON.parse(text ?? '{}') as { id: unknown; error?: { code: number; data: { reason: string } } }
  return { id, code: error?.code, reason: error?.data.reason }
}

/** Waits until the client has had so many messages before its answer. */
async function events(client: RawClient, count: number): Promise<void> {
  await client.until(() => eventsOf(client.responses[0]).length === count)
}

async function counts({ proxy }: Setting, inFlight: number, queued: number): Promise<void> {
  const access = proxy.access.get('p')
  const length = () => (access?.kind === 'stdio' ? access.queue.length : -1)
  const what = `${inFlight} in flight, ${queued} queued`
  await eventually(() => proxy.inFlight('p') === inFlight && length() === queued, { what })
}

describe('what counts as a sign of the server', () => {
  it('its progress, up to request_timeout_seconds: then the error ends the open stream', async () => {
    const setting = await start()
    const client = setting.send(1, [progress('1')])
    for (let minute = 1; minute <= 10; minute++) {
      await events(client, minute)
      await setting.clock.advance(59_000)
      await setting.say(progress('1'))
    }
    await events(client, 11)
    await setting.clock.advance(11_000)
    const response = await client.response()
    expect([statusOf(response), response.isComplete]).toEqual([200, true])
    expect(errorOf(eventsOf(response).at(-1))).toEqual({ id: 1, code: -32000, reason: 'upstream_timeout' })
    expect(setting.proxy.told.streams.map(({ reason }) => reason)).toEqual(['stalled'])
    await counts(setting, 0, 0)
  })

  it('any message that names no request, for all of them', async () => {
    const setting = await start()
    const clients = [setting.send(1), setting.send(2)]
    await counts(setting, 2, 0)
    await setting.clock.advance(50_000)
    await setting.say(note)
    await events(clients[0] as RawClient, 1)
    await setting.clock.advance(50_000)
    await counts(setting, 2, 0)
  })

  it('progress for the request that it names and no other', async () => {
    const setting = await start()
    const [busy, hung] = [setting.send(1), setting.send(2)]
    await counts(setting, 2, 0)
    await setting.clock.advance(50_000)
    await setting.say(progress('1'))
    await events(busy, 1)
    await setting.clock.advance(15_000)
    expect(errorOf(eventsOf(await hung.response()).at(-1)).reason).toBe('upstream_timeout')
    await counts(setting, 1, 0)
    await setting.say(ok.replace('$ID', '1'))
    expect((await busy.response()).isComplete).toBe(true)
  })

  it('not the answer to another request', async () => {
    const setting = await start()
    const hung = setting.send(1)
    await counts(setting, 1, 0)
    await setting.clock.advance(50_000)
    await setting.heard()
    await setting.clock.advance(15_000)
    expect(errorOf(eventsOf(await hung.response()).at(-1)).reason).toBe('upstream_timeout')
  })

  it('and time in which it waits for an answer of this client does not count', async () => {
    const setting = await start()
    const client = setting.send(1, [ask])
    await events(client, 1)
    await setting.clock.advance(300_000)
    await counts(setting, 1, 0)
    await setting.post('{"jsonrpc":"2.0","id":"s-1","result":{"model":"m"}}')
    await setting.clock.advance(58_000)
    await counts(setting, 1, 0)
    await setting.clock.advance(4000)
    expect(errorOf(eventsOf(await client.response()).at(-1)).reason).toBe('upstream_timeout')
  })

  it('nor that question once the server has withdrawn it', async () => {
    const setting = await start()
    const client = setting.send(1, [ask])
    await events(client, 1)
    await setting.say('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"s-1"}}')
    await events(client, 2)
    await setting.clock.advance(62_000)
    expect(errorOf(eventsOf(await client.response()).at(-1)).reason).toBe('upstream_timeout')
  })
})

describe('a tool that works without a word', () => {
  const questionFor = () => ({ era: 'legacy', method: 'ping' }) as const
  const pings = (lines: readonly string[]) => lines.filter((line) => line.includes('"method":"ping"'))

  it('is waited for while its process answers our ping, up to request_timeout_seconds', async () => {
    const setting = await start({}, { questionFor })
    const clients = [setting.send(1), setting.send(2)]
    await counts(setting, 2, 0)
    let heard: readonly string[] = []
    for (let half = 1; half <= 19; half++) {
      await setting.clock.advance(31_000)
      heard = await setting.heard() // Behind our ping, so that this answer comes behind its answer.
      expect(pings(heard)).toHaveLength(half)
    }
    await counts(setting, 2, 0)
    await setting.clock.advance(12_000)
    for (const client of clients) {
      const [error, ...others] = eventsOf(await client.response())
      expect([errorOf(error).reason, error, others]).toEqual([
        'upstream_timeout',
        expect.stringContaining('request_timeout_seconds'),
        [],
      ])
    }
    await counts(setting, 0, 0)
  })

  it('is given up when its process answers neither, in its time', async () => {
    // A method of which the scripted server says nothing.
    const setting = await start({}, { questionFor: () => ({ era: 'legacy', method: 'silent' as 'ping' }) })
    const client = setting.send(1)
    await counts(setting, 1, 0)
    await setting.clock.advance(61_000)
    expect(errorOf(eventsOf(await client.response()).at(-1)).reason).toBe('upstream_timeout')
  })

  it('is waited for while its process uses the processor', async () => {
    let share = 0.5
    let seconds = 0
    let atMs = 0
    const cpuOf = () => {
      const nowMs = setting.clock.now()
      seconds += ((nowMs - atMs) / 1000) * share
      atMs = nowMs
      return { seconds, atMs }
    }
    const setting = await start({}, { cpuOf })
    const client = setting.send(1)
    await counts(setting, 1, 0)
    await setting.clock.advance(200_000)
    await counts(setting, 1, 0)
    share = 0.01
    await setting.clock.advance(122_000)
    expect(errorOf(eventsOf(await client.response()).at(-1)).reason).toBe('upstream_timeout')
  })

  it('is waited for in the resident process, too, which modern clients share', async () => {
    const clock = fakeClock()
    const upstreams = { p: { script: 'scripted-stdio.mjs', resident: 'always', limits } } as const
    const question = { era: 'modern', method: 'server/discover' } as const
    const proxy = await startProxy({
      upstreams,
      clock,
      questionFor: (leg) => (leg === 'upstream' ? question : undefined),
    })
    closers.push(() => proxy.close())
    const headers = [...json, 'MCP-Protocol-Version', '2026-07-28']
    const client = new RawClient(proxy.port)
    closers.push(() => Promise.resolve(client.close()))
    client.send(rawRequest({ path, headers, body: '{"jsonrpc":"2.0","id":1,"method":"silent"}' }))
    await eventually(() => proxy.inFlight('p') === 1, { what: 'one in flight' })
    for (let half = 1; half <= 4; half++) {
      await clock.advance(31_000)
      const received = await rawFetch(proxy.port, {
        path,
        headers,
        body: '{"jsonrpc":"2.0","id":2,"method":"received"}',
      })
      expect(textOf(received).split('vitals-')).toHaveLength(half + 1)
    }
    expect(proxy.inFlight('p')).toBe(1)
  })
})

describe('a request that was given up', () => {
  it('is cancelled at the server, and its late answer is dropped and counted', async () => {
    const setting = await start()
    const client = setting.send(5)
    await counts(setting, 1, 0)
    await setting.clock.advance(61_000)
    expect(errorOf(eventsOf(await client.response()).at(-1))).toEqual({
      id: 5,
      code: -32000,
      reason: 'upstream_timeout',
    })
    expect((await setting.heard()).at(-2)).toBe(
      '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,' +
        '"reason":"the server sent nothing for 60 s (stall_timeout_seconds)"}}',
    )
    await setting.say(ok.replace('$ID', '5'))
    await setting.proxy.until(() => setting.proxy.told.dropped.length > 0)
    expect(setting.proxy.told.dropped).toEqual(['no_request'])
  })

  it('is never cancelled when it is initialize: its session and its process end (MCP 2025-11-25, Cancellation)', async () => {
    const clock = fakeClock()
    const upstreams = { p: { script: 'scripted-stdio.mjs', args: ['--mute'], limits } }
    const questionFor = () => ({ era: 'legacy', method: 'ping' }) as const
    const proxy = await startProxy({ upstreams, clock, questionFor })
    closers.push(() => proxy.close())
    const answer = rawFetch(proxy.port, { path, headers: json, body: initialize })
    const line = await eventually(() => stdioOf(proxy, 'p').sessionLines()[0], { what: 'a process' })
    await clock.advance(61_000)
    const response = await answer
    expect([statusOf(response), errorOf(textOf(response))]).toEqual([
      504,
      { id: 0, code: -32000, reason: 'upstream_timeout' },
    ])
    await line.process.exited
    expect([proxy.inFlight('p'), stdioOf(proxy, 'p').sessionLines()]).toEqual([0, []])
  })

  it('keeps its place while only its client has left, until the server answers', async () => {
    const setting = await start({ maxInFlight: 1 })
    const client = setting.send(1)
    await counts(setting, 1, 0)
    client.close()
    await counts(setting, 0, 0)
    const next = setting.send(2, [ok])
    await counts(setting, 0, 1)
    await setting.say(ok.replace('$ID', '1'))
    expect(textOf(await next.response())).toBe(ok.replace('$ID', '2'))
    await counts(setting, 0, 0)
  })
})

describe('a request that waits for its turn', () => {
  it('is sent when the one before it is answered, measured for the server from then on', async () => {
    const setting = await start({ maxInFlight: 1 })
    setting.send(1)
    await counts(setting, 1, 0)
    const second = setting.send(2, [ok])
    await counts(setting, 1, 1)
    await setting.clock.advance(2000)
    await setting.say(ok.replace('$ID', '1'))
    expect(textOf(await second.response())).toBe(ok.replace('$ID', '2'))
    const measured = setting.proxy.told.operations.slice(-2)
    expect(measured.map(({ side, durationSeconds }) => [side, durationSeconds])).toEqual([
      ['client', 0],
      ['server', 2],
    ])
  })

  it('never reaches the server when its client cancels it or leaves, nor does that cancellation', async () => {
    const setting = await start({ maxInFlight: 1 })
    const first = setting.send(1)
    await counts(setting, 1, 0)
    const [second, third] = [setting.send(2), setting.send(3)]
    await counts(setting, 1, 2)
    await setting.post('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}')
    expect((await second.response()).isComplete).toBe(true)
    third.close()
    await counts(setting, 1, 0)
    await setting.say(ok.replace('$ID', '1'))
    await first.response()
    const heard = await setting.heard()
    expect(heard.filter((line) => /"id":[123]\b|"requestId"/.test(line))).toHaveLength(1)
  })

  it('does not hold up what may free the way: answers, notifications, streams', async () => {
    const setting = await start({ maxInFlight: 1, maxQueue: 0 })
    const client = setting.send(1, [ask])
    await events(client, 1)
    expect(statusOf(await setting.post('{"jsonrpc":"2.0","id":"s-1","result":{}}'))).toBe(202)
    const stream = new RawClient(setting.proxy.port)
    closers.push(() => Promise.resolve(stream.close()))
    stream.send(rawRequest({ method: 'GET', path, headers: setting.session }))
    expect(statusOf(await stream.head())).toBe(200)
    expect(statusOf(await setting.say(ok.replace('$ID', '1')))).toBe(202)
    await client.response()
    await counts(setting, 0, 0)
  })

  it.each([
    [
      'the process dies',
      502,
      ({ say, post }: Setting) => void say().then(() => post('{"jsonrpc":"2.0","method":"die"}')),
    ],
    [
      'the session is deleted',
      404,
      ({ proxy, session }: Setting) => void rawFetch(proxy.port, { method: 'DELETE', path, headers: session }),
    ],
  ])('fails like the one under way when %s, and gives everything back', async (_title, status, end) => {
    const setting = await start({ maxInFlight: 1 })
    const clients = [setting.send(1), setting.send(2)]
    await counts(setting, 1, 1)
    end(setting)
    const answers = await Promise.all(clients.map((client) => client.response()))
    expect(answers.map(statusOf)).toEqual([status, status])
    await counts(setting, 0, 0)
  })
})

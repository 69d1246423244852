import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { RawClient, type RawMessage, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { type RunningProxy, startProxy, stdioOf } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(): Promise<RunningProxy> {
  const proxy = await startProxy({ upstreams: { p: { script: 'scripted-stdio.mjs', resident: 'always' } } })
  closers.push(() => proxy.close())
  return proxy
}

const path = '/p/mcp'
const headers = ['Content-Type', 'application/json', 'MCP-Protocol-Version', '2026-07-28']

function connectTo(proxy: RunningProxy): RawClient {
  const client = new RawClient(proxy.port)
  closers.push(() => Promise.resolve(client.close()))
  return client
}

function post(proxy: RunningProxy, body: string): Promise<RawMessage> {
  return rawFetch(proxy.port, { path, headers, body })
}

/** A request that has the server write the given raw lines, with our $ID and $TOKEN in them. */
function say(id: string, lines: readonly string[], params = ''): string {
  return `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{${params}"say":${JSON.stringify(lines)}}}`
}

function eventsOf(response: RawMessage): string[] {
  return [...textOf(response).matchAll(/^event: message\ndata: (.*)\n\n/gm)].map(([, data = '']) => data)
}

async function received(proxy: RunningProxy): Promise<string[]> {
  const response = await post(proxy, '{"jsonrpc":"2.0","id":"r","method":"received"}')
  return (JSON.parse(textOf(response)) as { result: { received: string[] } }).result.received
}

const ok = '{"jsonrpc":"2.0","id":$ID,"result":{}}'

/** What each request has to say (MCP 2026-07-28, Lifecycle). */
const claim =
  '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},'

describe('ids become ours on the way in and theirs on the way out', () => {
  it.each(['1', '-7', '"a"', '"\\u00e9 \\"x\\""', '12345678901234567890', '0.5'])('id %s', async (id) => {
    const proxy = await start()
    const answer = '{"result":{"resultType":"complete","n":1e400},"id":$ID,"x":"vitals+1"}'
    const response = await post(proxy, say(id, [answer]))
    const returned = /"id":(.*),"x"/.exec(textOf(response))?.[1] ?? ''
    expect([statusOf(response), headerOf(response, 'content-type')]).toEqual([200, 'application/json'])
    expect(JSON.parse(returned)).toEqual(JSON.parse(id))
    expect(textOf(response)).toBe(answer.replace('$ID', returned))
  })

  it('everything else of the request reaches the process byte for byte: requestState, unknown keys, their order', async () => {
    const proxy = await start()
    const rest =
      '"x":[1.0 , 1e400],"params":{"requestState":"\\u0061==\\/","_meta":{"a/b":null,"progressToken":"t"}},"method":"go"'
    await post(proxy, `{"jsonrpc":"2.0","id":7,${rest}}`)
    const line = (await received(proxy)).find((one) => one.includes('"go"')) ?? ''
    const ours = /"id":("[^"]+")/.exec(line)?.[1] ?? ''
    expect(ours).not.toBe('')
    expect(line).toBe(`{"jsonrpc":"2.0","id":${ours},${rest.replace('"t"', ours)}}`)
  })

  it('a client that writes line breaks gets its request through as one line', async () => {
    const proxy = await start()
    const response = await post(proxy, '{\n "jsonrpc":"2.0",\n "id": 1,\n "method":"ping"\n}')
    expect(textOf(response)).toBe('{"jsonrpc":"2.0","id":1,"result":{}}')
  })

  it('many requests at once with the same ids and tokens: to each its own answer, progress and state', async () => {
    const proxy = await start()
    const ids = fc.constantFrom('1', '"1"', '2', '"vitals+1"', '"vitals+2"', '0')
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(ids, fc.constantFrom('1', '"t"', '"vitals+3"')), { minLength: 2, maxLength: 24 }),
        async (asked) => {
          const responses = await Promise.all(
            asked.map(([id, token], nonce) =>
              post(
                proxy,
                say(
                  id,
                  [
                    `{"method":"notifications/progress","params":{"progressToken":$TOKEN,"progress":${nonce}}}`,
                    `{"id":$ID,"result":{"resultType":"input_required","requestState":"s\\/${nonce}","nonce":${nonce}}}`,
                  ],
                  `"_meta":{"progressToken":${token}},`,
                ),
              ),
            ),
          )
          expect(responses.map((response) => eventsOf(response))).toEqual(
            asked.map(([id, token], nonce) => [
              `{"method":"notifications/progress","params":{"progressToken":${token},"progress":${nonce}}}`,
              `{"id":${id},"result":{"resultType":"input_required","requestState":"s\\/${nonce}","nonce":${nonce}}}`,
            ]),
          )
        },
      ),
      { numRuns: 20 },
    )
    expect(proxy.inFlight('p')).toBe(0)
    expect(proxy.told.dropped).toEqual([])
  })

  it.each([
    ['notifications/message', 200, true],
    ['notifications/tools/list_changed', 404, false],
  ])(
    'a %s that names no request: the answer has status %i, and it goes along: %s',
    async (method, status, isPassed) => {
      const proxy = await start()
      const stray = `{"jsonrpc":"2.0","method":"${method}"}`
      const refusal = '{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"Method not found"}}'
      const response = await post(proxy, say('1', [stray, refusal]))
      // Clients detect the era by the status of this error; a stream that began before it has none to give.
      expect(statusOf(response)).toBe(status)
      expect(textOf(response).includes(method)).toBe(isPassed)
    },
  )

  it('a log message goes to the one request that may have caused it, whatever subscriptions there are', async () => {
    const proxy = await start()
    const listener = connectTo(proxy)
    const acknowledged = '{"method":"a","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":$ID}}}'
    const listen = say('1', [acknowledged]).replace('tools/call', 'subscriptions/listen')
    listener.send(rawRequest({ path, headers, body: listen }))
    await listener.until(() => listener.responses[0] && eventsOf(listener.responses[0]).length === 1)
    const log = '{"jsonrpc":"2.0","method":"notifications/message"}'
    expect(eventsOf(await post(proxy, say('2', [log, ok])))).toEqual([log, ok.replace('$ID', '2')])
    expect(listener.responses.map((response) => eventsOf(response).length)).toEqual([1])
  })

  it('a log message goes to nobody while it may be of a request that its client has left', async () => {
    const proxy = await start()
    const leaver = connectTo(proxy)
    leaver.send(rawRequest({ path, headers, body: '{"jsonrpc":"2.0","id":1,"method":"silent"}' }))
    const heard = async (what: string) => (await received(proxy)).find((line) => line.includes(what))
    await eventually(async () => (await heard('"silent"')) !== undefined, { what: 'the server is at work' })
    const left = /"id":("[^"]+")/.exec((await heard('"silent"')) ?? '')?.[1] ?? 'none'
    leaver.close()
    await eventually(async () => (await heard('notifications/cancelled')) !== undefined, { what: 'it is cancelled' })
    const log = '{"jsonrpc":"2.0","method":"notifications/message"}'
    expect(textOf(await post(proxy, say('2', [log, ok])))).toBe(ok.replace('$ID', '2'))
    expect(proxy.told.dropped).toEqual(['no_request'])
    const late = `{"jsonrpc":"2.0","id":${left},"result":{}}`
    expect(eventsOf(await post(proxy, say('3', [late, log, ok])))).toEqual([log, ok.replace('$ID', '3')])
  })

  it('two subscriptions of one id: each hears its own notifications under its own id (MCP 2026-07-28, subscriptions/listen)', async () => {
    const proxy = await start()
    const event =
      '{"method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":$ID},"n":N}}'
    const clients = [connectTo(proxy), connectTo(proxy)]
    for (const [n, client] of clients.entries()) {
      const lines = [event.replace('N', String(n)), event.replace('N', String(n + 10))]
      const listen = say('1', lines).replace('tools/call', 'subscriptions/listen')
      client.send(rawRequest({ path, headers, body: listen }))
    }
    for (const [n, client] of clients.entries()) {
      const response = await client.head()
      await client.until(() => eventsOf(response).length === 2)
      expect(eventsOf(response)).toEqual(
        [n, n + 10].map((value) => event.replace('$ID', '1').replace('N', String(value))),
      )
    }
    const result = '{"id":$ID,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":$ID}}}'
    const last = await post(proxy, say('"s"', [result]))
    expect(textOf(last)).toBe(result.replaceAll('$ID', '"s"'))
  })
})

describe('status of the server’s own error (as SDK v2’s createMcpHandler)', () => {
  it.each([
    [-32601, 404],
    [-32603, 200],
    [-32022, 400],
    [-32020, 400],
  ])('%i: %i', async (code, status) => {
    const proxy = await start()
    const error = `{"jsonrpc":"2.0","id":$ID,"error":{"code":${code},"message":"m","data":{"supported":["2026-07-28"]}}}`
    const response = await post(proxy, say('1', [error]))
    expect([statusOf(response), textOf(response)]).toEqual([status, error.replace('$ID', '1')])
  })

  it.each([
    ['an incomplete _meta', '', 400],
    ['wrong arguments', claim, 200],
  ])('-32602 for %s (MCP 2026-07-28, Streamable HTTP)', async (_for, params, status) => {
    const proxy = await start()
    const refusal = '{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"Invalid params"}}'
    const mirrored = [...headers, 'Mcp-Method', 'tools/call']
    const response = await rawFetch(proxy.port, { path, headers: mirrored, body: say('1', [refusal], params) })
    expect([statusOf(response), textOf(response)]).toEqual([status, refusal.replace('$ID', '1')])
  })
})

it('headers have to repeat the arguments of which a list of tools says so (MCP 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters")', async () => {
  const proxy = await start()
  const tools =
    '[{"name":"t","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}},{"name":"u"}]'
  const call = (name: string, header: readonly string[]) =>
    rawFetch(proxy.port, {
      path,
      headers: [...headers, 'Mcp-Method', 'tools/call', 'Mcp-Name', name, ...header],
      body: say('1', [ok], `${claim}"name":"${name}","arguments":{"region":"é"},`),
    })
  expect(statusOf(await call('t', [])), 'nobody knows yet').toBe(200)
  const list = say('1', [`{"jsonrpc":"2.0","id":$ID,"result":{"tools":${tools}}}`]).replace('tools/call', 'tools/list')
  await post(proxy, list)
  const refused = [await call('t', []), await call('t', ['Mcp-Param-Region', 'e'])]
  expect(refused.map((response) => [statusOf(response), /"code":(-\d+)/.exec(textOf(response))?.[1]])).toEqual([
    [400, '-32020'],
    [400, '-32020'],
  ])
  expect(proxy.told.rejected).toEqual(['header_mismatch', 'header_mismatch'])
  const passed = [await call('t', ['mcp-param-region', '=?base64?w6k=?=']), await call('u', [])]
  expect(passed.map(statusOf)).toEqual([200, 200])
})

describe('when one side goes', () => {
  it('closing the connection cancels (MCP 2026-07-28, Transports), and a late answer is dropped and counted', async () => {
    const proxy = await start()
    const client = connectTo(proxy)
    client.send(rawRequest({ path, headers, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    let line = ''
    while (line === '') line = (await received(proxy)).find((one) => one.includes('tools/call')) ?? ''
    const ours = /"id":("[^"]+")/.exec(line)?.[1] ?? ''
    client.close()
    await proxy.until(() => proxy.inFlight('p') === 0)
    expect(
      (await received(proxy)).some(
        (one) => one.includes('notifications/cancelled') && one.includes(`"requestId":${ours}`),
      ),
    ).toBe(true)
    await post(proxy, say('2', [`{"id":${ours},"result":{"secret":1}}`, ok]))
    expect(proxy.told.dropped).toEqual(['no_request'])
    expect(proxy.told.operations.find(({ method }) => method === 'tools/call')?.errorType).toBe('cancelled')
  })

  it('a crash: one error for each request, which says that the server had got it', async () => {
    const proxy = await start()
    const [plain, streaming] = [connectTo(proxy), connectTo(proxy)]
    plain.send(rawRequest({ path, headers, body: say('"p"', []) }))
    const progress = '{"method":"notifications/progress","params":{"progressToken":$TOKEN}}'
    streaming.send(rawRequest({ path, headers, body: say('3', [progress], '"_meta":{"progressToken":1},') }))
    await streaming.head()
    await proxy.until(() => proxy.inFlight('p') === 2)
    await received(proxy)
    await post(proxy, '{"jsonrpc":"2.0","id":9,"method":"die"}')
    const refused = await plain.response()
    expect([statusOf(refused), JSON.parse(textOf(refused))]).toMatchObject([
      502,
      { id: 'p', error: { code: -32000, data: { reason: 'upstream_exited', delivered: true } } },
    ])
    const streamed = await streaming.response()
    expect(streamed.isComplete).toBe(true)
    expect(eventsOf(streamed).length).toBe(2)
    expect(JSON.parse(eventsOf(streamed)[1] ?? '')).toMatchObject({ id: 3, error: { data: { delivered: true } } })
    expect(proxy.inFlight('p')).toBe(0)
  })

  it('while the process waits for its restart, requests are refused at once as not delivered', async () => {
    const proxy = await start()
    const die = () => post(proxy, '{"jsonrpc":"2.0","id":9,"method":"die"}')
    await die()
    // The first restart follows at once, the second one after a pause.
    while (statusOf(await post(proxy, say('0', [ok]))) !== 200);
    await die()
    const response = await post(proxy, say('1', [ok]))
    expect([statusOf(response), JSON.parse(textOf(response))]).toMatchObject([
      503,
      { id: 1, error: { data: { reason: 'upstream_restarting', delivered: false } } },
    ])
    expect(proxy.inFlight('p')).toBe(0)
  })

  it('a client that does not read is cut off, and the others are served meanwhile', async () => {
    const proxy = await start()
    const client = connectTo(proxy)
    client.socket.pause()
    const line = `{"method":"notifications/progress","params":{"progressToken":$TOKEN,"x":"${'x'.repeat(1_000_000)}"}}`
    const many = Array.from({ length: 3 }, () => line)
    client.send(rawRequest({ path, headers, body: say('1', many, '"_meta":{"progressToken":1},') }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    let asked = ''
    while (asked === '') asked = (await received(proxy)).find((one) => one.includes('xxx')) ?? ''
    const ours = /"id":("[^"]+")/.exec(asked)?.[1] ?? ''
    for (let n = 0; n < 40 && proxy.inFlight('p') > 0; n++) {
      expect(statusOf(await post(proxy, say('2', [line.replace('$TOKEN', ours), ok])))).toBe(200)
    }
    expect(proxy.inFlight('p')).toBe(0)
    expect(proxy.told.streams.map(({ reason }) => reason)).toContain('client_behind')
    expect(proxy.told.operations.filter(({ errorType }) => errorType === 'cancelled').length).toBe(2)
  })
})

describe('what is no request', () => {
  it('a notification goes to the process and is a 202', async () => {
    const proxy = await start()
    const note = '{"jsonrpc":"2.0","method":"notifications/x","params":{"y":1e400}}'
    const response = await post(proxy, note)
    expect([statusOf(response), textOf(response)]).toEqual([202, ''])
    expect(await received(proxy)).toContain(note)
  })

  it('a notification that names a request does not: the id could be another client’s', async () => {
    const proxy = await start()
    const note = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"vitals+1"}}'
    expect(statusOf(await post(proxy, note))).toBe(202)
    expect((await received(proxy)).length).toBe(1)
  })

  it('an initialize that claims the modern revision is not given a session', async () => {
    const proxy = await start()
    const claim = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'
    const response = await post(proxy, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{${claim}}}`)
    expect(headerOf(response, 'mcp-session-id')).toBeUndefined()
    expect(stdioOf(proxy, 'p').sessionLines()).toEqual([])
  })
})

describe('a server that is let go while clients are there (a reload)', () => {
  const reasonsOf = (response: RawMessage) => [...textOf(response).matchAll(/"reason":"(\w+)"/g)].map(([, why]) => why)

  it('every stream and request ends with one error', async () => {
    const proxy = await start()
    const [listener, caller] = [connectTo(proxy), connectTo(proxy)]
    const note =
      '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":$ID}}}'
    listener.send(rawRequest({ path, headers, body: say('1', [note]).replace('tools/call', 'subscriptions/listen') }))
    const stream = await listener.head()
    caller.send(rawRequest({ path, headers, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    proxy.forget('p')
    expect(reasonsOf(await caller.response())).toEqual(['shutting_down'])
    await listener.until(() => stream.isComplete)
    expect(reasonsOf(stream)).toEqual(['shutting_down'])
    expect(proxy.inFlight('p')).toBe(0)
  })

  it('a request whose body comes too slowly is refused', async () => {
    const proxy = await start()
    const client = connectTo(proxy)
    const body = say('7', [ok])
    client.send(rawRequest({ path, headers, body }).slice(0, -10))
    await post(proxy, say('1', [ok])) // The listener has seen what was sent before.
    proxy.forget('p')
    client.send(body.slice(-10))
    const response = await client.response()
    expect([statusOf(response), reasonsOf(response)]).toEqual([503, ['shutting_down']])
  })
})

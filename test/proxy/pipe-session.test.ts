import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import { PipeSession } from '../../src/proxy/pipe-session.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import { tracing } from '../../src/telemetry/tracing.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { pipeline } from '../telemetry/fixture.ts'

const modernMeta = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'
const initialize = '{"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
const initialized = '{"method":"notifications/initialized"}'
const agreed = '{"id":1,"result":{"protocolVersion":"2025-06-18"}}'
const discover = `{"id":1,"method":"server/discover","params":{${modernMeta}}}`
const unknown = '{"id":1,"error":{"code":-32601,"message":"no"}}'

/** A conversation: a line with `>` is the client's, any other the server's. */
async function conversation() {
  const { clock, recorder, samplesOf } = pipeline()
  let opened = 0
  const answered: string[] = []
  const ended: string[] = []
  const directory = new SessionDirectory({
    clock,
    maxTracked: 1,
    cleanupIntervalMs: () => 1000,
    idleLimitMs: () => Number.POSITIVE_INFINITY,
    onStart: () => undefined,
    onEnd: (_session, end) => ended.push(end),
  })
  const asked: string[] = []
  const peerOf = (end: string) => ({
    canAsk: () => true,
    request: ({ method }: { readonly method: string }) => {
      asked.push(`${method} ${end}`)
      return Promise.resolve({ message: Buffer.from('{}') })
    },
  })
  const session = new PipeSession({
    clock,
    instruments: recorder,
    tracing: await tracing({ env: {}, serviceVersion: '1' }),
    traffic: { onAnswered: (upstream) => answered.push(upstream), onFailed: () => {} },
    peering: { upstream: 'files', network: 'pipe' },
    directory,
    toServer: () => peerOf('server'),
    toClient: () => peerOf('client'),
    onOpened: () => (opened += 1),
  })
  const hear = (...lines: readonly string[]) => {
    for (const line of lines) {
      const text = Buffer.from(line.replace(/^>/, ''))
      const envelope = readEnvelope(text)
      if (line.startsWith('>')) session.hearClient(envelope)
      else session.hearServer(envelope, session.wantsText() ? text : undefined)
    }
  }
  const counts = async () =>
    (await samplesOf('mcp_server_operation_duration_seconds')).filter((line) => line.includes('_count'))
  return { session, directory, clock, hear, counts, samplesOf, opened: () => opened, answered, ended, asked }
}

describe('PipeSession', () => {
  const openings: [what: string, lines: string[], era: string | undefined][] = [
    ['an initialize alone', [`>${initialize}`], undefined],
    ['one that is answered', [`>${initialize}`, agreed], undefined],
    ['initialized (MCP 2025-11-25, Lifecycle)', [`>${initialize}`, agreed, `>${initialized}`], 'legacy'],
    ['a hasty client', [`>${initialize}`, `>${initialized}`, agreed], 'legacy'],
    [
      'a request of a client that never says so',
      [`>${initialize}`, agreed, '>{"id":2,"method":"tools/list"}'],
      'legacy',
    ],
    ['a ping, which may come before', [`>${initialize}`, agreed, '>{"id":2,"method":"ping"}'], undefined],
    ['a refused initialize', [`>${initialize}`, unknown, `>${initialized}`], undefined],
    ['initialized without initialize', [`>${initialized}`], undefined],
    ['a modern request', [`>${discover}`], undefined],
    [
      'a modern request that is answered (2026-07-28 has no handshake)',
      [`>${discover}`, '{"id":1,"result":{}}'],
      'modern',
    ],
    ['a client that finds out that the server is legacy', [`>${discover}`, unknown], undefined],
    ['and then does as that wants', [`>${discover}`, unknown, `>${initialize}`, agreed, `>${initialized}`], 'legacy'],
    ['a second initialize', [`>${initialize}`, agreed, `>${initialized}`, `>${initialize}`], undefined],
    ['an answer without a request', [agreed, `>${initialized}`], undefined],
  ]
  it.each(openings)('says when the opening exchange is over: %s', async (_what, lines, era) => {
    const { session, hear, opened } = await conversation()
    hear(...lines)
    expect(session.era).toBe(era)
    if (era !== undefined) expect(opened()).toBe(1)
  })

  it('measures each request by its answer, also when an id is used twice at once, as pipe on both sides', async () => {
    const { session, hear, counts, answered } = await conversation()
    const call = '>{"id":1,"method":"tools/call","params":{"name":"read"}}'
    hear('>{"id":0,"method":"tools/list"}', '{"id":0,"result":{"tools":[{"name":"read"}]}}')
    hear(call, call, '{"id":1,"result":{}}')
    expect(session.requestsInFlight()).toBe(1)
    hear('{"id":1,"result":{"isError":true}}', '{"id":1,"result":{}}')
    expect(session.requestsInFlight()).toBe(0)
    expect(answered).toHaveLength(3)
    const calls = (await counts()).filter((line) => line.includes('tools/call'))
    expect(calls.map((line) => line.replace(/^.*?{/, '{'))).toEqual([
      '{upstream="files",mcp_method_name="tools/call",gen_ai_tool_name="read",gen_ai_operation_name="execute_tool",network_transport="pipe"} 1',
      '{upstream="files",mcp_method_name="tools/call",gen_ai_tool_name="read",gen_ai_operation_name="execute_tool",error_type="tool_error",network_transport="pipe"} 1',
    ])
  })

  it('lets nobody wait for the answer to a stream that lasts (MCP 2026-07-28, Subscriptions)', async () => {
    const { session, hear } = await conversation()
    hear('>{"id":1,"method":"subscriptions/listen"}', '>{"id":2,"method":"tools/call"}')
    expect(session.requestsInFlight()).toBe(1)
    hear('{"id":2,"result":{}}')
    expect(session.requestsInFlight()).toBe(0)
    hear('{"id":1,"result":{}}')
    expect(session.requestsInFlight()).toBe(0)
  })

  it('counts a cancelled request as such, but never initialize (MCP 2025-11-25, Cancellation)', async () => {
    const { session, hear, counts } = await conversation()
    hear(`>${initialize}`, '>{"method":"notifications/cancelled","params":{"requestId":1}}')
    expect(session.requestsInFlight()).toBe(1)
    hear(
      agreed,
      '>{"id":"a","method":"tools/call"}',
      '>{"method":"notifications/cancelled","params":{"requestId":"a"}}',
    )
    expect(session.requestsInFlight()).toBe(0)
    expect((await counts()).filter((line) => line.includes('error_type="cancelled"'))).toHaveLength(1)
  })

  it('knows the session from the answer to initialize to the end of the process, and fails what is open then', async () => {
    const { session, directory, hear, counts, ended } = await conversation()
    hear(`>${initialize}`, agreed, `>${initialized}`, '>{"id":2,"method":"tools/call"}')
    expect([...directory.all()]).toMatchObject([{ key: session.key, transport: 'stdio', pending: 1, openStreams: 1 }])
    expect(session.protocolVersion).toBe('2025-06-18')
    session.end('exited', new KnownError('upstream_exited', 'process 1 exited with code 1'))
    expect([...directory.all()]).toEqual([])
    expect(ended).toEqual(['exited'])
    expect((await counts()).filter((line) => line.includes('error_type="upstream_exited"'))).toHaveLength(1)
  })

  it('lends both its ends to our heartbeats, once its opening exchange is over and while nobody waits for the client', async () => {
    const { directory, hear, asked } = await conversation()
    hear(`>${initialize}`, agreed)
    const [session] = [...directory.all()]
    const canAsk = () => [session?.serverPeer?.canAsk(), session?.clientPeer?.canAsk()]
    expect(canAsk()).toEqual([false, false])
    hear(`>${initialized}`)
    expect(canAsk()).toEqual([true, true])
    hear('{"id":7,"method":"sampling/createMessage"}')
    expect(canAsk()).toEqual([false, false])
    hear('>{"id":7,"result":{}}')
    await session?.serverPeer?.request({ method: 'ping', timeoutMs: 1 })
    await session?.clientPeer?.request({ method: 'ping', timeoutMs: 1 })
    expect([canAsk(), asked]).toEqual([
      [true, true],
      ['ping server', 'ping client'],
    ])
    hear(`>${initialize}`)
    expect(canAsk()).toEqual([false, false])
  })

  it('counts what is no message, and remembers when the server was last heard', async () => {
    const { session, hear, clock, samplesOf } = await conversation()
    expect(session.lastHeardMs).toBe(Number.NEGATIVE_INFINITY)
    await clock.advance(70)
    hear('Server is running')
    expect(session.lastHeardMs).toBe(clock.now())
    expect(await samplesOf('mcp_vitals_unparsed_messages_total')).toContainEqual(
      'mcp_vitals_unparsed_messages_total{upstream="files"} 1',
    )
  })

  it('counts requests that go unmeasured, since 10,000 wait for their answers', async () => {
    const { hear, samplesOf } = await conversation()
    for (let id = 0; id < 10_002; id++) hear(`>{"id":${id},"method":"ping"}`)
    expect(await samplesOf('mcp_vitals_unparsed_messages_total')).toContainEqual(
      'mcp_vitals_unparsed_messages_total{upstream="files"} 2',
    )
  })

  it('measures each request of a batch (MCP 2025-03-26, Basic, "Batching")', async () => {
    const { hear, counts } = await conversation()
    hear('>[{"id":1,"method":"ping"},{"id":2,"method":"tools/list"}]', '[{"id":2,"result":{}},{"id":1,"result":{}}]')
    expect(await counts()).toHaveLength(2)
  })
})

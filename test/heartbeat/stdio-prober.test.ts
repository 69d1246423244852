import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { isListed } from '../../src/heartbeat/conversation.ts'
import type { CheckOptions, ProbeMethod, ProbeResult } from '../../src/heartbeat/probe.ts'
import { StdioProber } from '../../src/heartbeat/stdio-prober.ts'
import { processStarter } from '../../src/upstreams/process.ts'
import { type Line, type LineListener, StdioUpstream } from '../../src/upstreams/stdio.ts'
import { StartGate } from '../../src/upstreams/start-gate.ts'
import type { Waiting } from '../../src/sessions/session.ts'
import type { ResidentPolicy } from '../../src/upstreams/upstream.ts'
import { repoRoot } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { type FakeProcess, type Script, fakeProcess, legacyScript, modernScript } from '../support/fake-process.ts'

const crash = { kind: 'exit', code: 1 } as const
const nobody: LineListener = { onMessage: () => {}, onClose: () => {} }

interface Options {
  readonly method?: ProbeMethod
  readonly resident?: ResidentPolicy
  /** The n-th process, from 1 on. */
  readonly script?: (pid: number) => Script
}

/** A prober of fake processes in virtual time, with what its upstream tells it. */
async function proberOf({
  resident = 'when_idle',
  script = () => legacyScript(),
  method: first = 'auto',
}: Options = {}) {
  let method = first
  const clock = fakeClock()
  const waits = new Map<string, Waiting>()
  const halted = new Set<number>()
  const processes: FakeProcess[] = []
  const upstream: StdioUpstream = new StdioUpstream({
    target: { transport: 'stdio', launch: { command: 'x', args: [], env: {} }, resident },
    clock,
    random: () => 1,
    starts: new StartGate(4).lane(),
    startDeadlineMs: 60_000,
    policy: () => 'always',
    isStopped: (pid) => halted.has(pid),
    maxLineBytes: 100_000,
    startProcess: () => {
      const pid = processes.length + 1
      const started = fakeProcess({ pid, script: script(pid) })
      processes.push(started)
      return started
    },
    events: {
      onResidentStarted: () => {},
      onSessionStarted: () => {},
      onSpareExited: () => {},
      onCrash: () => {},
      onStartFailed: () => {},
      onGivenUp: () => {},
      onRestart: () => {},
      onResidentGone: () => {},
      onCrashLoop: () => {},
      onIdle: () => {},
      onLeftDown: () => {},
      onDropped: () => {},
      onResidentMessage: (line, _message, envelope) => prober.hear(line, envelope),
      onResidentClosed: () => {},
    },
  })
  const prober: StdioProber = new StdioProber({
    upstream,
    clock,
    startDeadlineMs: 60_000,
    discoverPatienceMs: 20_000,
    idleSinceMs: () => clock.now() - 10_000,
    excusedMs: 60_000,
    waitingIn: (key) => waits.get(key) ?? 'nobody',
    isStopped: (pid) => halted.has(pid),
    method: () => method,
  })
  const settle = () => clock.advance(0).then(() => clock.advance(0))
  const start = ({ deadlineMs = 10_000, wantsInventory = false }: Partial<CheckOptions> = {}) =>
    prober.start({ deadlineMs, wantsInventory })
  /** The only check of a heartbeat. */
  const beat = (options?: Partial<CheckOptions>): Promise<ProbeResult> => {
    const { runs } = start(options)
    const [run] = runs
    if (!run || runs.length > 1) throw new Error(`${runs.length} checks in place of one`)
    return run.done
  }
  const at = (pid: number) => {
    const found = processes[pid - 1]
    if (!found) throw new Error(`process ${pid} was not started`)
    return found
  }
  const session = async (key: string): Promise<Line> => {
    const line = await upstream.openSession(key, nobody)
    line.opened = true
    return line
  }
  upstream.start()
  await settle()
  const use = (next: ProbeMethod) => void (method = next)
  return { use, clock, upstream, prober, settle, start, beat, at, session, waits, halted }
}

async function namesOf(probe: ProbeResult | undefined): Promise<string[] | 'unanswered' | undefined> {
  const tools = await probe?.inventory
  return isListed(tools) ? [...tools.keys()] : tools
}

describe('the opening exchange of a resident process', () => {
  it('finds a modern server by server/discover alone, and asks that from then on', async () => {
    const { beat, prober, at, upstream } = await proberOf({ script: () => modernScript({ tools: ['a', 'b'] }) })
    expect(prober.openingDeadlineMs()).toBe(60_000)
    const opened = await beat()
    expect(opened).toMatchObject({ leg: 'upstream', method: 'server/discover', outcome: 'ok', opening: true })
    expect(await namesOf(opened)).toEqual(['a', 'b'])
    expect(upstream.residentLine()?.opened).toBe(true)
    expect(prober.openingDeadlineMs()).toBeUndefined()
    expect(prober.describe()).toEqual({ probe: 'server/discover', era: 'modern', protocolVersion: '2026-07-28' })
    await beat()
    expect(at(1).methods()).toEqual(['server/discover', 'tools/list', 'server/discover'])
  })

  it('never pings first: that would pin a server of both eras to the legacy one', async () => {
    const { beat, at, prober } = await proberOf()
    expect(await beat()).toMatchObject({ method: 'initialize', outcome: 'ok' })
    expect(await beat()).toMatchObject({ method: 'ping', outcome: 'ok' })
    const methods = ['server/discover', 'initialize', 'notifications/initialized', 'tools/list', 'ping']
    expect(at(1).methods()).toEqual(methods)
    expect(prober.describe()).toEqual({ probe: 'ping', era: 'legacy', protocolVersion: '2025-11-25' })
  })

  it('asks the next process of a legacy server no server/discover', async () => {
    const { beat, at, settle } = await proberOf()
    await beat()
    at(1).end(crash)
    await settle()
    const opened = await beat()
    expect(opened).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    await opened.inventory
    expect(at(2).methods()).toEqual(['initialize', 'notifications/initialized', 'tools/list'])
  })

  it('asks it after all when initialize is refused: the package was upgraded', async () => {
    const { beat, at, settle, prober } = await proberOf({
      script: (pid) => (pid === 1 ? legacyScript() : modernScript()),
    })
    await beat()
    at(1).end(crash)
    await settle()
    expect(await beat()).toMatchObject({ method: 'server/discover', outcome: 'ok' })
    expect(prober.describe().era).toBe('modern')
  })

  it('waits 20 s for a server that ignores server/discover, but only once', async () => {
    const script = () => legacyScript({ instead: { 'server/discover': () => undefined } })
    const { beat, at, settle, clock } = await proberOf({ script })
    const opened = beat({ deadlineMs: 60_000 })
    await clock.advance(19_999)
    expect(at(1).methods()).toEqual(['server/discover'])
    await clock.advance(1)
    expect(await opened).toMatchObject({ method: 'initialize', outcome: 'ok', durationMs: 20_000 })
    at(1).end(crash)
    await settle()
    expect(await beat({ deadlineMs: 60_000 })).toMatchObject({ method: 'initialize', durationMs: 0 })
  })

  it('begins with initialize after a process that ended at server/discover', async () => {
    const ends: Script = (_message, process) => {
      process.end(crash)
      return []
    }
    const { beat, at, settle } = await proberOf({
      script: () => legacyScript({ instead: { 'server/discover': ends } }),
    })
    expect(await beat()).toMatchObject({ outcome: 'exited', reason: 'the process exited with code 1', opening: true })
    await settle()
    expect(await beat()).toMatchObject({ method: 'initialize', outcome: 'ok' })
    expect(at(2).methods()[0]).toBe('initialize')
  })

  it('lets modern requests in as soon as it is answered, before the tools are read', async () => {
    const script = () => modernScript({ instead: { 'tools/list': () => undefined } })
    const { beat, upstream, clock } = await proberOf({ script })
    const borrowed = upstream.borrowResident()
    const opened = await beat()
    expect((await borrowed).opened).toBe(true)
    await clock.advance(10_000)
    expect(await opened.inventory).toBe('unanswered')
    const again = beat({ wantsInventory: true })
    expect((await again).inventory).toBeDefined()
  })

  it('that is refused with a JSON-RPC error proves life, and says what was wrong', async () => {
    const refuse: Script = ({ id }) => [{ jsonrpc: '2.0', id, error: { code: -32_603, message: 'no licence' } }]
    const { beat, prober } = await proberOf({ script: () => legacyScript({ instead: { initialize: refuse } }) })
    const reason = 'initialize answered with JSON-RPC error -32603: no licence'
    expect(await beat()).toMatchObject({ outcome: 'ok', reason, turnedAway: true })
    expect(prober.describe().era).toBeUndefined()
    // It answers other requests all the same, but has let nobody in.
    const again = await beat()
    expect(again).toMatchObject({ outcome: 'ok', turnedAway: true })
    expect(again.reason).toContain(`, but ${reason}`)
  })

  it('says nothing about the server when the process makes way for a session', async () => {
    const { beat, session } = await proberOf({ script: (pid) => (pid === 1 ? () => undefined : legacyScript()) })
    const opened = beat({ deadlineMs: 60_000 })
    await session('a')
    expect(await opened).toMatchObject({ outcome: 'inconclusive' })
  })
})

describe('a heartbeat of the resident process', () => {
  it.each([-32_601, -32_600])('falls to tools/list when ping is unsupported (%i), in every process', async (code) => {
    const unsupported: Script = ({ id }) => [{ jsonrpc: '2.0', id, error: { code, message: 'no' } }]
    const { beat, at, settle } = await proberOf({ script: () => legacyScript({ instead: { ping: unsupported } }) })
    await beat()
    expect(await beat()).toMatchObject({ method: 'ping', outcome: 'unsupported' })
    expect(await beat()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    at(1).end(crash)
    await settle()
    await beat()
    expect(await beat()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    expect(at(2).methods()).not.toContain('ping')
  })

  it('falls to tools/list within the same probe when ping is never answered', async () => {
    const { beat, clock } = await proberOf({ script: () => legacyScript({ instead: { ping: () => undefined } }) })
    await beat()
    const silent = beat()
    await clock.advance(1000)
    expect(await silent).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    expect(await beat()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
  })

  it('begins with tools/list where that is preferred', async () => {
    const { prober, start, settle } = await proberOf({ method: 'tools/list' })
    start()
    await settle()
    expect(prober.describe().probe).toBe('tools/list')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'tools/list', outcome: 'ok' })
  })

  it('asks what is preferred now, in a process that was asked otherwise before', async () => {
    const { beat, start, settle, use } = await proberOf({ method: 'tools/list' })
    start()
    await settle()
    expect(await beat()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    use('auto')
    expect(await beat()).toMatchObject({ method: 'ping', outcome: 'ok' })
    use('transport')
    expect(await beat()).toMatchObject({ method: 'process', outcome: 'ok' })
  })

  it('asks nothing after the opening exchange where the transport has to do: the process runs', async () => {
    const { prober, start, settle } = await proberOf({ method: 'transport' })
    expect(prober.isAwaited()).toBe(true)
    start()
    await settle()
    expect(prober.isAwaited()).toBe(false)
    expect(prober.describe().probe).toBe('process')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok', reason: 'process 1 runs' })
  })

  it('that was answered by ping before times out without that excuse', async () => {
    let isHung = false
    const script = (): Script => (message, process) => (isHung ? undefined : legacyScript()(message, process))
    const { beat, clock, at } = await proberOf({ script })
    await beat()
    await beat()
    isHung = true
    const hung = beat()
    await clock.advance(10_000)
    expect(await hung).toMatchObject({ method: 'ping', outcome: 'timeout', durationMs: 10_000 })
    expect(
      at(1)
        .methods()
        .filter((method) => method === 'tools/list'),
    ).toHaveLength(1)
  })

  describe('of a server without tools that answers nothing but the opening exchange', () => {
    const mute = { ping: () => undefined, 'tools/list': () => undefined }

    it('is that its process runs, which is remembered and never punished', async () => {
      const { beat, clock, prober, at } = await proberOf({ script: () => legacyScript({ tools: [], instead: mute }) })
      await beat()
      const first = beat()
      await clock.advance(1500)
      expect(clock.now()).toBeLessThan(2000) // The shortest time-out of a probe.
      expect(await first).toMatchObject({ method: 'process', outcome: 'ok', reason: 'process 1 runs' })
      expect(prober.describe().probe).toBe('process')
      await clock.advance(10_000)
      expect(await beat()).toMatchObject({ method: 'process', outcome: 'ok', durationMs: 0 })
      // It is asked all the same, one ping at a time, and nobody waits for that.
      expect(await beat()).toMatchObject({ method: 'process', outcome: 'ok' })
      expect(at(1).methods().slice(3)).toEqual(['ping', 'tools/list', 'ping'])
    })

    it('fails while a signal has stopped it', async () => {
      const { beat, clock, halted } = await proberOf({ script: () => legacyScript({ tools: [], instead: mute }) })
      await beat()
      const first = beat()
      await clock.advance(1500)
      await first
      halted.add(1)
      const stopped = beat()
      await clock.advance(10_000)
      expect(await stopped).toMatchObject({ method: 'process', outcome: 'timeout' })
      const going = beat()
      await clock.advance(1000)
      halted.clear()
      await clock.advance(250)
      expect(await going).toMatchObject({ method: 'process', outcome: 'ok' })
    })

    it('goes up the ladder again with the first answer, and is not excused any more from then on', async () => {
      let isMute = true
      const instead = (): Script => (message, process) =>
        isMute ? undefined : legacyScript({ tools: [] })(message, process)
      const script = () => legacyScript({ tools: [], instead: { ping: instead(), 'tools/list': instead() } })
      const { beat, clock, prober } = await proberOf({ script })
      await beat()
      const first = beat()
      await clock.advance(10_000)
      await first
      isMute = false
      expect(await beat()).toMatchObject({ method: 'process', outcome: 'ok' })
      await clock.advance(0)
      expect(prober.describe().probe).toBe('ping')
      expect(await beat()).toMatchObject({ method: 'ping', outcome: 'ok' })
      isMute = true
      const silent = beat()
      await clock.advance(10_000)
      expect(await silent).toMatchObject({ method: 'ping', outcome: 'timeout' })
    })
  })

  it('is no look at the process where the server has tools: it owes a list of them', async () => {
    const script = () => legacyScript({ instead: { ping: () => undefined, 'tools/list': () => undefined } })
    const { beat, clock, prober } = await proberOf({ script })
    await beat()
    for (let misses = 0; misses < 3; misses++) {
      const silent = beat()
      await clock.advance(10_000)
      expect(await silent).toMatchObject({ method: 'ping', outcome: 'timeout' })
    }
    expect(prober.describe().probe).toBe('ping')
  })

  it('ends as exited, with how it ended, when the process dies meanwhile', async () => {
    const dies: Script = (_message, process) => {
      process.end({ kind: 'signal', signal: 'SIGKILL' })
      return []
    }
    const { beat } = await proberOf({ script: () => legacyScript({ instead: { ping: dies } }) })
    await beat()
    expect(await beat()).toMatchObject({ outcome: 'exited', reason: 'process 1 was killed by SIGKILL' })
  })

  describe('at which its process ends', () => {
    const dies: Script = (_message, process) => {
      process.end(crash)
      return []
    }
    /** Opens the process that runs, or is started next, and asks it once more. */
    const beatOnce = async ({ beat, clock, settle, upstream }: Awaited<ReturnType<typeof proberOf>>) => {
      await settle()
      await clock.advance(upstream.nextStartInMs() ?? 0)
      await beat()
      await settle()
      const { method, outcome } = await beat()
      return `${method} ${outcome}`
    }

    it('is not sent again after the second time: the next rung is, in every process', async () => {
      const test = await proberOf({ script: () => legacyScript({ instead: { ping: dies } }) })
      expect([await beatOnce(test), await beatOnce(test)]).toEqual(['ping exited', 'ping exited'])
      expect(await beatOnce(test)).toBe('tools/list ok')
      expect(test.prober.describe().probe).toBe('tools/list')
      expect(test.at(3).methods()).not.toContain('ping')
      test.at(3).end(crash)
      expect(await beatOnce(test)).toBe('tools/list ok')
    })

    it('leaves a server without tools that ends at tools/list, too, the lowest rung, without a trial', async () => {
      const script = () => legacyScript({ tools: [], instead: { ping: dies, 'tools/list': dies } })
      const test = await proberOf({ script })
      const asked: string[] = []
      for (let beats = 0; beats < 5; beats++) asked.push(await beatOnce(test))
      const ends = ['ping exited', 'ping exited', 'tools/list exited', 'tools/list exited', 'process ok']
      expect(asked).toEqual(ends)
      expect(test.prober.describe().probe).toBe('process')
      expect(await test.beat()).toMatchObject({ method: 'process', outcome: 'ok' })
      expect(test.at(5).exit()).toBeUndefined()
    })

    it('is asked for good of a server that has answered it', async () => {
      const script = (pid: number) => legacyScript(pid === 1 ? {} : { instead: { ping: dies } })
      const test = await proberOf({ script })
      expect(await beatOnce(test)).toBe('ping ok')
      test.at(1).end(crash)
      for (let beats = 0; beats < 3; beats++) expect(await beatOnce(test)).toBe('ping exited')
    })
  })

  it('is closed, and not exited, when the process reads no more and runs on', async () => {
    const { beat, at, clock } = await proberOf()
    await beat()
    at(1).stdin.destroy()
    const failed = beat()
    await clock.advance(500)
    expect(await failed).toMatchObject({ outcome: 'closed', reason: 'the process no longer reads its stdin' })
    const dying = beat()
    await clock.advance(499)
    at(1).end(crash)
    expect(await dying).toMatchObject({ outcome: 'exited' })
  })

  it('brings the tools along when the server says that they changed, once', async () => {
    const tools = ['read']
    const script = (): Script => (message, process) => legacyScript({ tools })(message, process)
    const { beat, at, settle } = await proberOf({ script })
    await beat()
    tools.push('write')
    at(1).say({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    await settle()
    const news = await beat()
    expect(news.announced).toBe(true)
    expect(await namesOf(news)).toEqual(['read', 'write'])
    expect((await beat()).inventory).toBeUndefined()
  })

  it('brings them along when they are wanted, and none where the server offers none', async () => {
    const { beat } = await proberOf({ script: () => legacyScript({ tools: [] }) })
    await beat()
    const wanted = await beat({ wantsInventory: true })
    expect(await namesOf(wanted)).toEqual([])
    expect(wanted.announced).toBe(false)
  })

  it('answers what the server asks of us: ping, and nothing else', async () => {
    const { beat, at, settle } = await proberOf()
    await beat()
    at(1).say({ jsonrpc: '2.0', id: 1, method: 'ping' }, { jsonrpc: '2.0', id: 'r', method: 'roots/list' })
    await settle()
    expect(at(1).heard.slice(-2)).toEqual([
      { jsonrpc: '2.0', id: 1, result: {} },
      { jsonrpc: '2.0', id: 'r', error: { code: -32_601, message: 'the heartbeat client offers no such method' } },
    ])
  })
})

describe('heartbeats inside of client sessions (mcp-notes.md, "Heartbeats that are safe")', () => {
  it('come only after the opening exchange, and only while the session is idle', async () => {
    const { start, upstream, at, clock } = await proberOf()
    const opening = await upstream.openSession('opening', nobody)
    const idle = await upstream.openSession('idle', nobody)
    const active = await upstream.openSession('active', nobody)
    idle.opened = active.opened = true
    await clock.advance(10_001)
    at(4).say({ jsonrpc: '2.0', id: 1, result: {} }) // An answer to its client.
    await clock.advance(0)
    const { runs, alive, aliveSinceMs } = start()
    expect([alive, aliveSinceMs]).toEqual([1, clock.now()])
    expect(await Promise.all(runs.map(({ done }) => done))).toMatchObject([
      { leg: 'session', method: 'process', outcome: 'inconclusive', session: 'opening' },
      { leg: 'session', method: 'ping', outcome: 'ok', session: 'idle' },
    ])
    expect([at(2).methods(), at(3).methods(), at(4).methods()]).toEqual([[], ['ping'], []])
    expect(opening.opened).toBe(false)
  })

  it('are what the server says to the client whose initialize it has not answered yet', async () => {
    const { start, upstream, waits, clock, at } = await proberOf()
    await upstream.openSession('a', nobody)
    waits.set('a', 'client')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'inconclusive' })
    await clock.advance(10_001)
    const [silent] = start().runs
    await clock.advance(10_000)
    expect(await silent?.done).toMatchObject({ method: 'traffic', outcome: 'timeout', session: 'a' })
    const [answered] = start().runs
    at(2).say({ jsonrpc: '2.0', id: 1, result: {} })
    await clock.advance(250)
    expect(await answered?.done).toMatchObject({ method: 'traffic', outcome: 'ok' })
  })

  it.each<[string, (line: Line, waits: Map<string, Waiting>) => void]>([
    ['whose server waits for its client', (_line, waits) => waits.set('a', 'server')],
    ['whose client never says that its opening exchange is over', (line) => (line.opened = false)],
    ['whose client does not read', (line) => line.process.stdout.pause()],
  ])('find one that a signal has stopped, and %s', async (_, make) => {
    const { start, session, at, clock, halted, waits } = await proberOf()
    const line = await session('a')
    at(2).say({ jsonrpc: '2.0', id: 1, result: {} })
    await clock.advance(20_000)
    make(line, waits)
    halted.add(2)
    const [run] = start().runs
    await clock.advance(10_000)
    const found = { method: 'process', outcome: 'timeout', reason: 'a signal has stopped process 2', session: 'a' }
    expect(await run?.done).toMatchObject(found)
    expect(at(2).methods()).toEqual([])
  })

  it('say nothing of a process that a signal had stopped, and that is ended meanwhile', async () => {
    const { upstream, start, session, at, clock, halted } = await proberOf()
    const line = await session('a')
    at(2).say({ jsonrpc: '2.0', id: 1, result: {} })
    await clock.advance(20_000)
    line.opened = false
    halted.add(2)
    const [run] = start().runs
    await clock.advance(1000)
    await upstream.closeSession(line)
    halted.clear()
    await clock.advance(250)
    expect(await run?.done).toMatchObject({ outcome: 'inconclusive', reason: 'process 2 has ended' })
  })

  it('know of lines that are no JSON-RPC, which are no answer', async () => {
    let isWell = true
    const pong: Script = ({ id }) => (isWell ? [{ jsonrpc: '2.0', id, result: {} }] : [])
    const { clock, start, session, at } = await proberOf({ script: () => legacyScript({ instead: { ping: pong } }) })
    const line = await session('a')
    await clock.advance(20_000)
    expect(await start().runs[0]?.done).toMatchObject({ outcome: 'ok' })
    const lastHeardMs = clock.now()
    isWell = false
    await clock.advance(20_000)
    const [run] = start().runs
    expect(run?.noise?.()).toBe(0)
    at(2).say('<garbage>', 'more of it')
    await clock.advance(0)
    expect([run?.noise?.(), line.lastNoiseMs, line.lastHeardMs]).toEqual([2, clock.now(), lastHeardMs])
    await clock.advance(10_000)
    expect(await run?.done).toMatchObject({ outcome: 'timeout' })
    expect(start().runs[0]?.noise?.()).toBe(0)
  })

  it('ask none whose client does not read: its answer would not be read either', async () => {
    const { clock, start, session } = await proberOf()
    const line = await session('a')
    await clock.advance(20_000)
    line.process.stdout.pause()
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'inconclusive' })
    line.process.stdout.resume()
    expect(start().runs).toMatchObject([{ method: 'ping' }])
  })

  it('are what its server says while a client waits, and nothing goes in', async () => {
    const { start, session, waits, at, clock } = await proberOf()
    await session('a')
    await clock.advance(20_000)
    waits.set('a', 'client')
    const [working] = start().runs
    expect(working).toMatchObject({ leg: 'session', method: 'traffic', session: 'a' })
    await clock.advance(5000)
    at(2).say({ jsonrpc: '2.0', method: 'notifications/progress', params: {} })
    await clock.advance(250)
    expect(await working?.done).toMatchObject({ method: 'traffic', outcome: 'ok', durationMs: 0 })
    await clock.advance(20_000)
    const [silent] = start().runs
    await clock.advance(10_000)
    expect(await silent?.done).toMatchObject({ method: 'traffic', outcome: 'timeout' })
    const [left] = start().runs
    waits.set('a', 'nobody')
    await clock.advance(250)
    expect(await left?.done).toMatchObject({ method: 'traffic', outcome: 'inconclusive' })
    expect(at(2).methods()).toEqual([])
  })

  it('ask none whose server waits for its client: that silence is not its own, so that it runs has to do', async () => {
    const { start, session, waits, clock, at } = await proberOf()
    await session('a')
    await clock.advance(20_000)
    waits.set('a', 'server')
    const found = { method: 'process', outcome: 'ok', reason: 'process 2 runs: it waits for its client' }
    expect(await start().runs[0]?.done).toMatchObject(found)
    expect(at(2).methods()).toEqual([])
  })

  it('ask one that has waited for its client for too long, unless its client waits for it, too', async () => {
    let isMute = false
    const ping: Script = ({ id }) => (isMute ? undefined : [{ jsonrpc: '2.0', id, result: {} }])
    const { start, session, waits, clock, at } = await proberOf({ script: () => legacyScript({ instead: { ping } }) })
    await session('a')
    await clock.advance(60_001)
    waits.set('a', 'both')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    waits.set('a', 'server')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'ping', outcome: 'ok' })
    expect(at(2).methods()).toEqual(['ping'])
    expect(start()).toMatchObject({ runs: [], alive: 1 })
    await clock.advance(20_000)
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    isMute = true
    await clock.advance(60_000)
    const [silent] = start().runs
    await clock.advance(10_000)
    expect(await silent?.done).toMatchObject({ method: 'ping', outcome: 'timeout', session: 'a' })
  })

  it('come to each of them', async () => {
    const { start, session, clock } = await proberOf()
    await session('a')
    await session('b')
    await clock.advance(10_001)
    const { runs, alive } = start()
    expect(alive).toBe(0)
    const results = await Promise.all(runs.map(({ done }) => done))
    expect(results.map((result) => [result.session, result.outcome])).toEqual([
      ['a', 'ok'],
      ['b', 'ok'],
    ])
  })

  it('come beside those of a resident process that runs all the time', async () => {
    const { start, beat, session, clock } = await proberOf({ resident: 'always' })
    await beat()
    await session('a')
    await clock.advance(10_001)
    expect(start().runs.map(({ leg, session: key }) => [leg, key])).toEqual([
      ['upstream', undefined],
      ['session', 'a'],
    ])
  })

  it('are of the legacy era whatever the resident process speaks', async () => {
    const { start, beat, session, clock } = await proberOf({ resident: 'always', script: () => modernScript() })
    await beat()
    await session('a')
    await clock.advance(10_001)
    expect(start().runs.map(({ method }) => method)).toEqual(['server/discover', 'ping'])
  })

  it('fall to tools/list too when ping is not answered', async () => {
    const { start, session, clock } = await proberOf({
      script: () => legacyScript({ instead: { ping: () => undefined } }),
    })
    await session('a')
    await clock.advance(10_001)
    const [run] = start().runs
    await clock.advance(1000)
    expect(await run?.done).toMatchObject({ leg: 'session', method: 'tools/list', outcome: 'ok' })
  })

  it('are none where nothing runs', async () => {
    const { start } = await proberOf({ resident: 'never' })
    expect(start()).toEqual({ runs: [], alive: 0 })
  })
})

describe('real servers', () => {
  const stops: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop()
  })

  async function real(args: readonly string[]) {
    const startProcess = processStarter({ clock: systemClock })
    const upstream: StdioUpstream = new StdioUpstream({
      target: { transport: 'stdio', launch: { command: process.execPath, args, env: {} }, resident: 'when_idle' },
      clock: systemClock,
      random: () => 1,
      starts: new StartGate(4).lane(),
      startDeadlineMs: 60_000,
      maxLineBytes: 1_000_000,
      policy: () => 'always',
      isStopped: () => false,
      startProcess: () =>
        startProcess({ command: process.execPath, args, env: {}, cwd: repoRoot }, { stderrTailBytes: 1024 }),
      events: {
        onResidentStarted: () => {},
        onSessionStarted: () => {},
        onSpareExited: () => {},
        onCrash: () => {},
        onStartFailed: () => {},
        onGivenUp: () => {},
        onRestart: () => {},
        onResidentGone: () => {},
        onCrashLoop: () => {},
        onIdle: () => {},
        onLeftDown: () => {},
        onDropped: () => {},
        onResidentMessage: (line, _message, envelope) => prober.hear(line, envelope),
        onResidentClosed: () => {},
      },
    })
    const prober: StdioProber = new StdioProber({
      upstream,
      clock: systemClock,
      startDeadlineMs: 60_000,
      discoverPatienceMs: 20_000,
      idleSinceMs: () => systemClock.now() - 10_000,
      excusedMs: 60_000,
      waitingIn: () => 'nobody',
      isStopped: () => false,
      method: () => 'auto',
    })
    stops.push(() => upstream.stop())
    upstream.start()
    await eventually(() => upstream.residentLine(), { what: 'the process runs' })
    const beat = async () => prober.start({ deadlineMs: 20_000, wantsInventory: false }).runs[0]?.done
    return { beat, prober }
  }

  it.each([
    { what: 'SDK v2, both eras', args: ['test/peers/modern-stdio.ts'], era: 'modern', probe: 'server/discover' },
    {
      what: 'the official server-everything',
      args: ['node_modules/@modelcontextprotocol/server-everything/dist/index.js', 'stdio'],
      era: 'legacy',
      probe: 'ping',
    },
  ])('$what: $era', async ({ args, era, probe }) => {
    const { beat, prober } = await real(args)
    const opened = await beat()
    expect(opened).toMatchObject({ outcome: 'ok', opening: true })
    expect((await namesOf(opened))?.length).toBeGreaterThan(1)
    expect(prober.describe()).toMatchObject({ era, probe })
    expect(await beat()).toMatchObject({ method: probe, outcome: 'ok', reason: `${probe} answered` })
  })
})

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, afterAll, beforeAll, describe, expect, it } from 'vitest'
import { everythingStdio } from '../peers/everything.ts'
import { debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { collector } from '../support/otlp.ts'
import { isRunning } from '../support/processes.ts'
import { type UniformClient, uniformV1, uniformV2 } from '../support/uniform-client.ts'
import { type Kept, run, wrapped, wrapperFolder } from '../support/wrapper.ts'

const node = process.execPath
const scripted = [node, 'test/peers/children/scripted-stdio.mjs']
const bothEras = [node, 'test/peers/modern-stdio.ts']
const everything = [everythingStdio.command, ...everythingStdio.args]
const opening = [
  '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}',
  '{"jsonrpc":"2.0","method":"notifications/initialized"}',
]

function sh(script: string): string[] {
  return ['/bin/sh', '-c', script]
}

function js(script: string): string[] {
  return [node, '-e', script]
}

/** What the scripted server was sent, by asking it; the question itself is the last line. */
async function receivedBy(kept: Kept, id: string): Promise<string[]> {
  kept.child.stdin.write(`{"jsonrpc":"2.0","id":"${id}","method":"received"}\n`)
  return eventually(
    () => {
      const line = kept
        .stdout()
        .split('\n')
        .find((one) => one.includes(`"id":"${id}"`))
      return line === undefined ? undefined : (JSON.parse(line) as { result: { received: string[] } }).result.received
    },
    { what: 'the server tells what it received' },
  )
}

function place([command = '', ...args]: readonly string[]) {
  return { command, args }
}

const passedSignals = [
  'SIGTERM',
  'SIGINT',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGVTALRM',
  'SIGPROF',
  'SIGIO',
  'SIGURG',
  'SIGWINCH',
  'SIGCONT',
] as const

describe('a wrapped command, as its parent sees it', { timeout: 60_000, concurrent: true }, () => {
  const cases: [what: string, command: string[], input: string | Buffer][] = [
    ['exit code 0', sh('exit 0'), ''],
    ['exit code 3', sh('exit 3'), ''],
    ['exit code 255', sh('exit 255'), ''],
    ['death by SIGTERM', sh('kill -TERM $$'), ''],
    ['death by SIGKILL', sh('kill -KILL $$'), ''],
    ['death by SIGPIPE, which Node ignores', sh('kill -PIPE $$'), ''],
    ['every byte of the input, whatever it is', ['cat'], Buffer.from([0, 255, 10, 13, 10, 0xc3, 0x28, 10, 123, 34])],
    ['last words without a line break', sh('printf "no newline"; exit 4'), ''],
    [
      'garbage between messages',
      sh('echo banner; echo; echo "{\\"id\\":1"; cat; echo done'),
      `${opening.join('\r\n')}\r\n`,
    ],
    ['a line of 10 MiB there and back', ['cat'], `{"id":1,"x":"${'y'.repeat(10 * 1024 * 1024)}"}\n`],
    ['stderr, byte for byte', js('process.stderr.write(Buffer.from([0,255,10,195,40])); console.error("ä")'), ''],
    ['the end of the input', sh('cat >/dev/null; echo eof; exit 5'), 'x\n'],
    ['a server that closes its stdin early', sh('exec <&-; echo closed; exit 6'), 'x\n'],
    ['arguments, environment and directory', sh('echo "$0|$1|$2|$VITALS_TEST"; pwd'), ''],
  ]
  it.each(cases)('is the command itself: %s', async (_what, command, input) => {
    const full = command[0] === '/bin/sh' ? [...command, 'zero', '--', '${HOME} *'] : command
    const options = { env: { VITALS_TEST: 'ä b' }, cwd: tmpdir() }
    // That a server ended by itself is worth a line of our own on stderr, which is not what this is about.
    const quiet = ['--log-file', '/dev/null']
    const [direct, through] = [run(full, options), run(wrapped(full, quiet), options)]
    for (const { child } of [direct, through]) child.stdin.end(input)
    const [expected, seen] = [await direct.ended, await through.ended]
    expect([seen.code, seen.signal]).toEqual([expected.code, expected.signal])
    expect(seen.stdout.equals(expected.stdout), seen.stdout.toString('latin1', 0, 500)).toBe(true)
    expect(seen.stderr.toString('latin1')).toBe(expected.stderr.toString('latin1'))
  })

  it.each(passedSignals)('gets %s once, and may survive it', async (signal) => {
    const script = `process.on('${signal}', () => { console.log('got it'); setTimeout(() => process.exit(7), 200) }); setInterval(() => {}, 1000); console.log('ready')`
    const kept = run(wrapped(js(script)))
    await eventually(() => kept.stdout() === 'ready\n', { what: 'the server runs' })
    kept.child.kill(signal)
    expect(await kept.ended).toMatchObject({ code: 7, signal: null })
    expect(kept.stdout()).toBe('ready\ngot it\n')
  })

  it.each(['SIGTERM', 'SIGINT'] as const)('dies of %s as it would alone', async (signal) => {
    const kept = run(wrapped(sh('echo ready; exec sleep 60')))
    await eventually(() => kept.stdout() === 'ready\n', { what: 'the server runs' })
    kept.child.kill(signal)
    expect(await kept.ended).toMatchObject({ code: null, signal })
  })

  it('says why it cannot be started, and ends as a shell would (POSIX XCU §2.8.2)', async () => {
    const [missing, forbidden] = await Promise.all([
      run(wrapped(['nonesuch'])).ended,
      run(wrapped(['/etc/passwd'])).ended,
    ])
    expect([missing.code, forbidden.code]).toEqual([127, 126])
    expect(missing.stderr.toString()).toContain("there is no 'nonesuch' in PATH")
    expect(missing.stdout).toHaveLength(0)
  })

  it.runIf(process.platform === 'linux')('leaves no process behind when the wrapper is killed', async () => {
    const kept = run(wrapped(sh('sleep 60 & echo $$ $!; wait')))
    const pids = await eventually(() => /^(\d+) (\d+)\n/.exec(kept.stdout()) ?? undefined, { what: 'the server runs' })
    kept.child.kill('SIGKILL')
    for (const pid of pids.slice(1).map(Number)) {
      await eventually(() => !isRunning(pid), { what: `process ${pid} is gone` })
    }
  })

  it.runIf(process.platform === 'linux')('is stopped when its client has died, though it ignores that', async () => {
    const [command, ...args] = wrapped(sh('echo $$; exec sleep 600'))
    const stdio = ['pipe', 'inherit', 'inherit']
    const starts = `require('node:child_process').spawn(...${JSON.stringify([command, args, { stdio }])})`
    const client = run(js(starts))
    const pid = Number(await eventually(() => /^\d+\n/.exec(client.stdout())?.[0], { what: 'the server runs' }))
    client.child.kill('SIGKILL')
    await eventually(() => !isRunning(pid), { what: 'the server is gone', timeoutMs: 30_000 })
    await client.ended // Its output was the wrapper's, too.
    expect(client.stderr()).toContain('the client is gone, and the server is stopped')
  })

  it('ends by a broken pipe when its client closes the other end, as it would alone', async () => {
    const [direct, through] = [run(['yes']), run(wrapped(['yes']))]
    for (const { child } of [direct, through]) child.stdout.once('data', () => child.stdout.destroy())
    const [one, other] = await Promise.all([direct.ended, through.ended])
    expect([other.code, other.signal]).toEqual([one.code, one.signal])
  })

  it('ends its output for the client at once when it closes that and goes on', async () => {
    const kept = run(wrapped(sh('echo last; exec >&-; read line; exit 5')))
    await new Promise((resolve) => kept.child.stdout.once('end', resolve))
    expect([kept.stdout(), kept.child.exitCode]).toEqual(['last\n', null])
    kept.child.stdin.end('go\n')
    expect(await kept.ended).toMatchObject({ code: 5, signal: null })
  })

  it('that closes its input and goes on breaks the pipe of its client', async () => {
    const kept = run(wrapped(sh('exec <&-; echo closed; exec sleep 60')))
    await eventually(() => kept.stdout() === 'closed\n', { what: 'the server runs' })
    const broken = new Promise<Error>((resolve) => kept.child.stdin.once('error', resolve))
    await eventually(() => kept.child.stdin.destroyed || (kept.child.stdin.write('x\n'), false), { what: 'the end' })
    expect(await broken).toMatchObject({ code: 'EPIPE' })
    expect(kept.child.exitCode).toBe(null)
    kept.child.kill('SIGTERM')
    expect(await kept.ended).toMatchObject({ signal: 'SIGTERM' })
  })

  it('is stopped by a client that does not read, and loses nothing', async () => {
    const script = `let n = 0; const say = () => { while (process.stdout.write('x'.repeat(99999) + '\\n')) n++; }; process.stdout.on('drain', say); say(); setInterval(() => console.error(n), 100).unref(); process.stdin.on('end', () => process.exit()).resume()`
    const kept = run(wrapped(js(script)))
    await eventually(() => kept.stdout().length > 0, { what: 'the server floods' })
    kept.child.stdout.pause()
    const lastCount = () => Number(kept.stderr().trim().split('\n').at(-1))
    await eventually(
      async () => {
        const before = lastCount()
        await new Promise((resolve) => kept.child.stderr.once('data', resolve))
        await new Promise((resolve) => kept.child.stderr.once('data', resolve))
        return before > 0 && lastCount() === before
      },
      { what: 'the server stands still' },
    )
    kept.child.stdout.resume()
    kept.child.stdin.end()
    const { stdout } = await kept.ended
    const lines = stdout.toString().split('\n')
    expect(lines.slice(0, -1).every((line) => line.length === 99_999)).toBe(true)
  })
})

describe('heartbeats inside the conversation', { timeout: 60_000, concurrent: true }, () => {
  /** A wrapper around this command, with a folder of its own. */
  function started({ onTestFinished }: TestContext, command: readonly string[], name: string) {
    const folder = wrapperFolder()
    const kept = run(wrapped(command, ['--name', name, ...folder.options]))
    onTestFinished(async () => {
      kept.child.kill('SIGKILL')
      await kept.ended
      folder.remove()
    })
    return { kept, folder }
  }

  it('begin only after the opening exchange, go between whole lines, and stay out of sight of the client', async (context) => {
    const { kept, folder } = started(context, scripted, 'quiet')
    const { adminUrl, labels } = await folder.announced()
    const beats = async (method = 'ping') =>
      (await metricValue({ adminUrl }, 'mcp_heartbeat_duration_seconds_count', { method, outcome: 'ok' })) ?? 0
    expect(labels).toEqual({ upstream: 'quiet' })
    const [initialize = '', initialized = ''] = opening
    kept.child.stdin.write(`${initialize}\n`)
    await eventually(() => kept.stdout().includes('"id":1'), { what: 'initialize is answered' })
    // Two intervals, by somebody else's clock: the server's own.
    await run(js('setTimeout(() => {}, 2500)')).ended
    expect(await beats()).toBe(0)
    expect(await beats('process'), 'until then it is looked at').toBeGreaterThan(0)
    expect((await debugUpstream({ adminUrl }, 'quiet')).state).toBe('healthy')
    kept.child.stdin.write(`${initialized}\n`)
    await eventually(async () => (await beats()) >= 2, { what: 'two heartbeats' })
    const received = await receivedBy(kept, 'r1')
    expect(received.slice(0, 2)).toEqual([initialize, initialized])
    const pings = received.slice(2, -1).map((line) => JSON.parse(line) as { id: string; method: string })
    expect(pings.length).toBeGreaterThanOrEqual(2)
    for (const { id, method } of pings) expect([method, id]).toEqual(['ping', expect.stringMatching(/^vitals-/)])
    expect(
      kept
        .stdout()
        .split('\n')
        .filter((line) => /"id":"vitals-/.test(line)),
    ).toEqual([])
    expect(await debugUpstream({ adminUrl }, 'quiet')).toMatchObject({ state: 'healthy', era: 'legacy', probe: 'ping' })
    kept.child.stdin.end()
    expect(await kept.ended).toMatchObject({ code: 0 })
    expect(kept.stderr()).toBe('')
    expect(folder.files()).toEqual([])
  })

  it(
    'say within seconds that the server hangs, while everything else still passes',
    { timeout: 150_000 },
    async (context) => {
      const { kept, folder } = started(context, scripted, 'hung')
      kept.child.stdin.write(`${opening.join('\n')}\n`)
      const { adminUrl } = await folder.announced()
      const state = async () => (await debugUpstream({ adminUrl }, 'hung')).state
      await eventually(
        async () =>
          ((await metricValue({ adminUrl }, 'mcp_heartbeats_total', { leg: 'session', outcome: 'ok' })) ?? 0) >= 1,
        {
          what: 'a heartbeat',
        },
      )
      const [pid] = (await debugUpstream({ adminUrl }, 'hung')).process?.all.map((one) => one.pid) ?? []
      if (pid === undefined) throw new Error('the process is not told')
      process.kill(pid, 'SIGSTOP')
      await eventually(async () => (await state()) === 'suspect', { what: 'the server is suspect' })
      process.kill(pid, 'SIGCONT')
      // The answer of seconds counts as slow until its part in the average of ten seconds is below 50 ms.
      await eventually(async () => (await state()) === 'healthy', { timeoutMs: 90_000, what: 'the server is healthy' })
      process.kill(pid, 'SIGKILL')
      expect(await kept.ended).toMatchObject({ code: null, signal: 'SIGKILL' })
      const lines = kept
        .stderr()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>)
      expect(lines).toContainEqual(expect.objectContaining({ level: 'error', upstream: 'hung', state: 'down' }))
      expect(folder.files()).toEqual([])
      expect(kept.stdout()).not.toContain('vitals-')
    },
  )

  it.for([
    ['spin', /^busy: a request is under way, and it uses \d+ % of a core$/],
    ['wait', /^busy: a request is under way, and it uses [01] % of a core$/],
  ] as const)(
    'say busy while the only thread of the server works for its client (%s), and never down',
    async ([tool, reason], context) => {
      const { kept, folder } = started(context, [node, 'test/peers/children/blockable-stdio.mjs'], tool)
      kept.child.stdin.write(`${opening.join('\n')}\n`)
      const { adminUrl } = await folder.announced()
      const call = { jsonrpc: '2.0', id: 9, method: 'tools/call', params: { name: tool, arguments: { seconds: 12 } } }
      await eventually(async () => (await debugUpstream({ adminUrl }, tool)).state === 'healthy', {
        what: 'it is healthy',
      })
      kept.child.stdin.write(`${JSON.stringify(call)}\n`)
      const busy = await eventually(
        async () => {
          const { state, reason: why } = await debugUpstream({ adminUrl }, tool)
          return state === 'busy' ? why : undefined
        },
        { what: 'it is busy' },
      )
      expect(busy).toMatch(reason)
      await eventually(() => kept.stdout().includes(`${tool} is done`), { what: 'the tool is done' })
      await eventually(async () => (await debugUpstream({ adminUrl }, tool)).state === 'healthy', {
        what: 'it is healthy',
      })
      // Suspicion is another matter: on a busy machine answers are slow now and then.
      const upstream = tool
      const downs = await metricValues({ adminUrl }, 'mcp_upstream_state_changes_total', { upstream, to: 'down' })
      expect(downs.filter((count) => count > 0)).toEqual([])
      kept.child.stdin.end()
      expect(await kept.ended).toMatchObject({ code: 0 })
    },
  )

  it('belong to the wrapper that sent them, when one wraps another', async (context) => {
    const { options, remove } = wrapperFolder()
    context.onTestFinished(remove)
    const inner = wrapped(scripted, ['--name', 'inner', ...options.slice(0, 2)])
    const { kept, folder } = started(context, inner, 'outer')
    kept.child.stdin.write(`${opening.join('\n')}\n`)
    const { adminUrl } = await folder.announced()
    await eventually(
      async () =>
        ((await metricValue({ adminUrl }, 'mcp_heartbeats_total', { leg: 'session', outcome: 'ok' })) ?? 0) >= 2,
      { what: 'two heartbeats of the outer one' },
    )
    kept.child.stdin.end()
    expect(await kept.ended).toMatchObject({ code: 0 })
    expect(kept.stdout().trim().split('\n')).toHaveLength(1)
  })
})

describe('official clients', { timeout: 60_000, concurrent: true }, () => {
  const folders: { remove(): void }[] = []
  let spans: Awaited<ReturnType<typeof collector>> | undefined
  beforeAll(async () => void (spans = await collector()))
  afterAll(async () => {
    for (const folder of folders) folder.remove()
    await spans?.close()
  })

  const clients: [string, string[], (command: readonly string[]) => Promise<UniformClient>, Record<string, string>][] =
    [
      [
        'SDK v1 on server-everything',
        everything,
        (command) => uniformV1(place(command)),
        { echo: 'echo', era: 'legacy', method: 'ping' },
      ],
      [
        'SDK v2, legacy, on server-everything',
        everything,
        (command) => uniformV2(place(command), 'legacy'),
        { echo: 'echo', era: 'legacy', method: 'ping' },
      ],
      [
        'SDK v2, auto, on a server of both eras',
        bothEras,
        (command) => uniformV2(place(command), 'auto'),
        { echo: 'echo', era: 'modern', method: 'server/discover' },
      ],
      [
        'SDK v2, modern, on a server of both eras',
        bothEras,
        (command) => uniformV2(place(command), 'modern'),
        { echo: 'echo', era: 'modern', method: 'server/discover' },
      ],
      [
        'SDK v1 on a server of both eras, which stays legacy',
        bothEras,
        (command) => uniformV1(place(command)),
        { echo: 'echo', era: 'legacy', method: 'ping' },
      ],
    ]
  it.each(clients)(
    '%s: the same as without the wrapper, and measured',
    async (_what, command, connect, { era, method }) => {
      const folder = wrapperFolder()
      folders.push(folder)
      // The SDK's clients start servers with an environment of their own choice.
      const through = wrapped(command, ['--name', 'official', ...folder.options])
      const otlp = ['/usr/bin/env', `OTEL_EXPORTER_OTLP_ENDPOINT=${spans?.url}`, `PATH=${process.env.PATH}`, ...through]
      const [direct, client] = await Promise.all([connect(command), connect(otlp)])
      expect(client.server()).toEqual(direct.server())
      expect(await client.listTools()).toEqual(await direct.listTools())
      const args = { message: 'hello' }
      expect(await client.callTool('echo', args)).toEqual(await direct.callTool('echo', args))
      const { adminUrl } = await folder.announced()
      const asked = { method: method ?? '', leg: 'session', outcome: 'ok' }
      await eventually(
        async () => ((await metricValue({ adminUrl }, 'mcp_heartbeat_duration_seconds_count', asked)) ?? 0) > 0,
        { what: 'a heartbeat' },
      )
      expect(await debugUpstream({ adminUrl }, 'official')).toMatchObject({
        state: 'healthy',
        era,
      })
      expect(await client.callTool('echo', args), 'after a heartbeat').toEqual(await direct.callTool('echo', args))
      const calls = { gen_ai_tool_name: 'echo', network_transport: 'pipe', mcp_method_name: 'tools/call' }
      for (const side of ['server', 'client']) {
        const values = await metricValues({ adminUrl }, `mcp_${side}_operation_duration_seconds_count`, calls)
        expect(values, side).toEqual([2])
        const text = await (await fetch(`${adminUrl}/metrics`)).text()
        expect(text).not.toMatch(
          /operation_duration_seconds_count{[^}]*(network_protocol_name|network_transport="tcp")/,
        )
      }
      await Promise.all([direct.close(), client.close()])
      await eventually(() => folder.files().length === 0, { what: 'the target is withdrawn' })
      expect(spans?.spans.some(({ name, kind }) => kind === 'server' && name === 'tools/call echo')).toBe(true)
    },
  )
})

describe('what it is told', { timeout: 60_000, concurrent: true }, () => {
  it('serves the client although its port is taken, and says so', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const kept = run(wrapped(sh('cat; exit 2'), ['--admin-listen', `127.0.0.1:${port}`]))
    kept.child.stdin.end('hello\n')
    expect(await kept.ended).toMatchObject({ code: 2, stdout: Buffer.from('hello\n') })
    expect(kept.stderr()).toContain('EADDRINUSE')
    server.close()
  })

  it('serves the client although the variables of OpenTelemetry are wrong', async () => {
    const kept = run(wrapped(sh('cat; exit 2')), { env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'nowhere' } })
    kept.child.stdin.end('hello\n')
    expect(await kept.ended).toMatchObject({ code: 2, stdout: Buffer.from('hello\n') })
    expect(kept.stderr()).toContain('OTEL_EXPORTER_OTLP_ENDPOINT')
  })

  it('logs to a file instead of stderr, from info up', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-wrapper-'))
    const file = join(folder, 'wrapper.log')
    const kept = run(wrapped(sh('cat; exit 2'), ['--no-admin', '--log-file', file]))
    kept.child.stdin.write(`${opening.join('\n')}\n`)
    await eventually(() => kept.stdout().length > 0, { what: 'the server runs' })
    kept.child.stdin.end()
    expect((await kept.ended).stderr).toHaveLength(0)
    expect(readFileSync(file, 'utf8')).toContain('exited with code 2')
    rmSync(folder, { recursive: true })
  })

  it.each([
    [['stdio'], 'the server is missing'],
    [['stdio', '--log-level', 'loud', '--', 'cat'], '"loud"'],
    [['stdio', '--nonsense', '--', 'cat'], '--nonsense'],
    [['stdio', '--admin-listen', ':0', '--', 'cat'], 'admin_listen'],
  ])('refuses %j', async (args, message) => {
    const { code, stdout, stderr } = await run([node, 'src/cli/main.ts', ...args]).ended
    expect(code).toBeGreaterThan(0)
    expect(stdout).toHaveLength(0)
    expect(stderr.toString()).toContain(message)
  })
})

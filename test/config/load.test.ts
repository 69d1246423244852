import { join, resolve } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import type { Config } from '../../src/config/config.ts'
import { type Loaded, loadConfig } from '../../src/config/load.ts'

/** What a file that says nothing about them means. */
const limits = {
  stallTimeoutMs: 60_000,
  requestTimeoutMs: 600_000,
  maxInFlight: 1024,
  maxQueue: 128,
  queueTimeoutMs: 3000,
  maxConnections: 4096,
  hasBreaker: true,
}

interface World {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly extra?: Readonly<Record<string, unknown>>
  readonly secrets?: Readonly<Record<string, string>>
}

/** Loads texts as the files a.yaml, b.yaml and so on. */
function load(texts: readonly string[], world: World = {}): Loaded {
  const files = texts.map((_, index) => `${String.fromCodePoint(97 + index)}.yaml`)
  const secrets = Object.entries(world.secrets ?? {}).map(([path, text]) => [resolve(path), text] as const)
  const contents = new Map([...files.map((file, index) => [file, texts[index] ?? ''] as const), ...secrets])
  const readFile = (path: string) => {
    const text = contents.get(path)
    if (text === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`)
    return text
  }
  return loadConfig({ files, env: world.env ?? {}, readFile, ...(world.extra ? { extra: world.extra } : {}) })
}

const config = (...texts: string[]): Config => load(texts).config

function fails(texts: readonly string[], world: World = {}): string {
  try {
    load(texts, world)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'config_invalid') return error.message
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('several files', () => {
  const base = `
heartbeat: {heartbeat_interval_seconds: 20}
allowed_hosts: [one.example.com, two.example.com]
mcpServers:
  files:
    command: npx
    args: [-y, server]
    env: {ONE: 1, TWO: 2}
    resident: never
  web: {url: 'http://localhost:3000/sse', headers: {X-One: one}}
`

  it('merge left to right: mappings deep, lists and scalars replaced', () => {
    const { allowedHosts, heartbeat, upstreams } = config(
      base,
      'allowed_hosts: [three.example.com]\nheartbeat: {session_timeout_seconds: 60}',
      'mcpServers: {files: {args: [-v], env: {TWO: two}}, web: {headers: {X-Two: two}}}',
    )
    expect(allowedHosts).toEqual(['three.example.com'])
    expect(heartbeat).toMatchObject({ intervalMs: 20_000, sessionTimeoutMs: 60_000 })
    expect(upstreams.map(({ target }) => target)).toEqual([
      {
        transport: 'stdio',
        launch: { command: 'npx', args: ['-v'], env: { ONE: '1', TWO: 'two' } },
        resident: 'never',
        process: 'per_session',
        limits,
        spareProcesses: 0,
      },
      {
        transport: 'sse',
        url: new URL('http://localhost:3000/sse'),
        headers: { 'X-One': 'one', 'X-Two': 'two' },
        upstreamHost: 'auto',
        limits,
      },
    ])
  })

  it('replace an upstream as a whole when it gets another kind of address', () => {
    const { upstreams } = config(base, 'mcpServers: {files: {url: http://localhost:1/mcp}, web: {command: node}}')
    expect(upstreams.map(({ target }) => target)).toEqual([
      { transport: 'http', url: new URL('http://localhost:1/mcp'), headers: {}, upstreamHost: 'auto', limits },
      {
        transport: 'stdio',
        launch: { command: 'node', args: [], env: {} },
        resident: 'when_idle',
        process: 'per_session',
        spareProcesses: 0,
        limits,
      },
    ])
  })

  it('keep what was there when a block is empty', () => {
    expect(config(base, 'mcpServers:\nheartbeat:\n')).toEqual(config(base))
  })

  it('may say the same key in the block and, like the predecessor, bare', () => {
    expect(
      config('heartbeat_interval_seconds: 7', 'heartbeat: {heartbeat_interval_seconds: 8}').heartbeat.intervalMs,
    ).toBe(8000)
    expect(
      config('heartbeat: {heartbeat_interval_seconds: 8}', 'heartbeat_interval_seconds: 7').heartbeat.intervalMs,
    ).toBe(7000)
  })

  it('are blamed each for its own values, and all problems come at once', () => {
    expect(fails(['\nlisten: x\nmax_sessions: 0\n', 'max_sessions: 0\nadmin_listen: :1\nmcpServers: {a: {}}'])).toBe(
      [
        'a.yaml:2: listen: "x" is not an address: write host:port, [ipv6]:port, :port (every interface) or port (loopback)',
        'b.yaml:1: max_sessions: 0 is below 1, the least allowed',
        'b.yaml:2: admin_listen: ":1" is not a loopback address: set admin_auth.bearer_file (anybody on the network could see every session)',
        'b.yaml:3: mcpServers.a: has neither command nor url; give one of them',
      ].join('\n'),
    )
  })

  it('do not need a variable that a later file replaces', () => {
    expect(config('max_sessions: ${UNSET}', 'max_sessions: 3').maxSessions).toBe(3)
  })

  it('take relative paths from where they are written', () => {
    const files = [join('base', 'vitals.yaml'), 'over.yaml']
    const texts: Record<string, string> = {
      [join('base', 'vitals.yaml')]: 'mcpServers: {one: {command: x, cwd: work}, two: {command: x, cwd: work}}',
      'over.yaml': 'mcpServers: {two: {cwd: work}}\nauth: {bearer_file: token}',
      [resolve('token')]: 'canary\n',
    }
    const { config, files: read } = loadConfig({ files, env: {}, readFile: (path) => texts[path] ?? '' })
    const folders = config.upstreams.map(({ target }) => target.launch?.cwd)
    expect(folders).toEqual([resolve('base/work'), resolve('work')])
    expect(read).toEqual([...files, resolve('token')])
  })
})

describe('a variable', () => {
  const env = { PORT: '8080', YES: 'true', EMPTY: '', HEX: '0x10', SECRET: 'canary' }

  it('is a number or boolean where one is wanted, quoted or not, and else the text it is', () => {
    const { config } = load(
      [
        'max_sessions: ${HEX}\nallow_unauthenticated: "${YES}"\nmcpServers: {a: {command: x, args: ["${PORT}", "${YES}"]}}',
      ],
      { env },
    )
    expect(config).toMatchObject({ maxSessions: 16, allowUnauthenticated: true })
    expect(config.upstreams[0]?.target.launch?.args).toEqual(['8080', 'true'])
  })

  it('is text when it is only a part of a value', () => {
    expect(fails(['max_sessions: 1${PORT}'], { env })).toBe(
      'a.yaml:1: max_sessions: the value of ${PORT} is not a number',
    )
  })

  it('is not read in values of the command line', () => {
    const extra = { mcpServers: { a: { command: 'sh', args: ['-c', 'echo ${HOME}'] } } }
    expect(load([], { extra }).config.upstreams[0]?.target.launch?.args).toEqual(['-c', 'echo ${HOME}'])
  })
})

describe('heartbeat bounds', () => {
  it.each([
    ['heartbeat_interval_seconds: 60', 5000, 60_000],
    ['heartbeat_interval_seconds: 2', 2000, 30_000],
    ['{heartbeat_interval_seconds: 2, adaptive_heartbeat: {max_interval_seconds: 3}}', 2000, 3000],
    ['{heartbeat_interval_seconds: 50, adaptive_heartbeat: {min_interval_seconds: 40}}', 40_000, 50_000],
  ])('that are not written make room: %s', (text, minIntervalMs, maxIntervalMs) => {
    expect(config(text).heartbeat.adaptive).toMatchObject({ minIntervalMs, maxIntervalMs })
  })

  it.each([
    ['{}', 2000, 5000],
    ['min_timeout_seconds: 8', 8000, 8000],
    ['max_timeout_seconds: 1', 1000, 1000],
    ['{min_timeout_seconds: 1, max_timeout_seconds: 20}', 1000, 20_000],
  ])('of time-outs make room as well: %s', (text, minTimeoutMs, maxTimeoutMs) => {
    expect(config(text).heartbeat).toMatchObject({ minTimeoutMs, maxTimeoutMs })
  })

  it('and misses to down can be those of one upstream', () => {
    const { upstreams } = config(`
heartbeat: {misses_to_down: 4, max_timeout_seconds: 6}
mcpServers: {one: {command: x, heartbeat: {misses_to_down: 1, min_timeout_seconds: 6}}, other: {command: x}}`)
    expect(upstreams.map(({ heartbeat }) => heartbeat)).toMatchObject([
      { missesToDown: 1, minTimeoutMs: 6000, maxTimeoutMs: 6000 },
      { missesToDown: 4, minTimeoutMs: 2000, maxTimeoutMs: 6000 },
    ])
  })

  it('do not matter unless the interval adapts', () => {
    const text = 'heartbeat_interval_seconds: 60\nadaptive_heartbeat: {enabled: false, max_interval_seconds: 30}'
    expect(config(text).heartbeat).toMatchObject({ intervalMs: 60_000, adaptive: { enabled: false } })
  })
})

describe('the transport', () => {
  it.each([
    ['{url: http://a/mcp}', 'http'],
    ['{url: http://a/sse}', 'sse'],
    ['{url: http://a/x/sse/?y=z}', 'sse'],
    ['{url: http://a/sse, type: streamableHttp}', 'http'],
    ['{url: http://a/mcp, transport: sse}', 'sse'],
    ['{httpUrl: http://a/sse}', 'http'],
    ['{serverUrl: http://a/sse}', 'sse'],
    ['{command: a, type: stdio}', 'stdio'],
  ])('of %s is %s', (entry, transport) => {
    expect(config(`mcpServers: {x: ${entry}}`).upstreams[0]?.target.transport).toBe(transport)
  })
})

it('has a default for everything', () => {
  const { config, notices } = load([''])
  expect(config).toMatchObject({
    listen: { host: '127.0.0.1', port: 7080 },
    adminListen: { host: '127.0.0.1', port: 9464 },
    auth: {},
    maxBodyBytes: 16_777_216,
    exposition: 'own',
    log: { level: 'info', format: 'auto' },
    heartbeat: { intervalMs: 10_000, adaptive: { enabled: true, minIntervalMs: 5000, maxIntervalMs: 30_000 } },
    upstreams: [],
  })
  expect(notices).toEqual(['a.yaml:1: no server is enabled: there is nothing to watch'])
})

it('reads JSON as the clients write it: tabs, and a comma too many', () => {
  expect(config('{\n\t"mcpServers": {\n\t\t"a": { "command": "x" },\n\t},\n}').upstreams).toHaveLength(1)
})

it('tells what a heartbeat block of one upstream cannot change', () => {
  const { notices } = load([
    'mcpServers: {a: {command: x, heartbeat: {cleanup_interval_seconds: 60, logging: {structured_logging: false}}}}',
  ])
  const why = 'has no effect for one upstream; set it in the main heartbeat block'
  expect(notices).toEqual([
    `a.yaml:1: mcpServers.a.heartbeat.cleanup_interval_seconds: ${why}`,
    `a.yaml:1: mcpServers.a.heartbeat.logging.structured_logging: ${why}`,
  ])
})

it('tells that a permission has no effect beside a token', () => {
  const { notices } = load(['auth: {bearer_file: t}\nallow_unauthenticated: true\nmcpServers: {a: {command: x}}'], {
    secrets: { t: 'canary' },
  })
  expect(notices).toEqual([
    'a.yaml:2: allow_unauthenticated: has no effect: auth.bearer_file is set, so a token is required',
  ])
})

it('tells that a limit of sessions above that of all has no effect', () => {
  const { notices } = load([
    'max_sessions: 10\nmax_sessions_per_client: 11\nmcpServers: {a: {command: x, max_sessions: 12}, b: {command: x, max_sessions: 10}}',
  ])
  expect(notices).toEqual([
    'a.yaml:2: max_sessions_per_client: 11 has no effect: max_sessions is 10',
    'a.yaml:3: mcpServers.a.max_sessions: 12 has no effect: max_sessions of all is 10',
  ])
})

it('takes limits of sessions from those of all where none is given', () => {
  const { maxSessionsPerClient, upstreams } = config(
    'max_sessions: 7\nmax_session_seconds: 60\nmcpServers: {a: {command: x}, b: {command: x, max_session_seconds: 0}}',
  )
  expect(maxSessionsPerClient).toBe(7)
  expect(upstreams).toMatchObject([
    { maxSessions: 7, maxSessionMs: 60_000 },
    { maxSessions: 7, maxSessionMs: Infinity },
  ])
})

/** Values that may stand or be missing, each on its own. */
const anyFile = fc.record(
  {
    listen: fc.constantFrom('127.0.0.1:0', '[::1]:8080', 'localhost:1'),
    max_sessions: fc.integer({ min: 1, max: 100_000 }),
    exposition: fc.constantFrom('own', 'stock'),
    allowed_hosts: fc.array(fc.domain(), { maxLength: 3 }),
    log: fc.record({ level: fc.constantFrom('debug', 'info', 'warn', 'error') }, { requiredKeys: [] }),
    heartbeat: fc.record(
      {
        heartbeat_interval_seconds: fc.integer({ min: 1, max: 86_400 }),
        session_timeout_seconds: fc.integer({ min: 1, max: 604_800 }),
        logging: fc.record({ include_client_info: fc.boolean() }, { requiredKeys: [] }),
      },
      { requiredKeys: [] },
    ),
    mcpServers: fc.dictionary(
      fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,20}$/),
      fc.oneof(
        fc.record(
          { command: fc.constant('npx'), args: fc.array(fc.stringMatching(/^[^$\0]*$/)) },
          { requiredKeys: ['command'] },
        ),
        fc.record({ url: fc.webUrl(), disabled: fc.boolean() }, { requiredKeys: ['url'] }),
      ),
      { maxKeys: 3 },
    ),
  },
  { requiredKeys: [] },
)

describe('whatever subset of values is given', () => {
  it('each comes out as it went in, from YAML and JSON alike', () => {
    fc.assert(
      fc.property(anyFile, (file) => {
        const loaded = config(stringify(file))
        expect(loaded).toEqual(config(JSON.stringify(file)))
        expect(loaded.maxSessions).toBe(file.max_sessions ?? 100)
        expect(loaded.exposition).toBe(file.exposition ?? 'own')
        expect(loaded.heartbeat.intervalMs).toBe((file.heartbeat?.heartbeat_interval_seconds ?? 10) * 1000)
        expect(loaded.heartbeat.logging.clientInfo).toBe(file.heartbeat?.logging?.include_client_info ?? true)
        expect(loaded.upstreams.map(({ name }) => name).toSorted()).toEqual(
          Object.keys(file.mcpServers ?? {}).toSorted(),
        )
        for (const { name, target } of loaded.upstreams) {
          const entry = file.mcpServers?.[name]
          const given = entry && 'command' in entry ? (entry.args ?? []) : undefined
          expect(target.transport === 'stdio' ? target.launch.args : undefined).toEqual(given)
        }
      }),
      { numRuns: 50 },
    )
  })

  it('a file over itself changes nothing', () => {
    fc.assert(
      fc.property(anyFile, (file) => {
        expect(config(stringify(file), stringify(file))).toEqual(config(stringify(file)))
      }),
      { numRuns: 30 },
    )
  })
})

it('either accepts or refuses whatever stands where a value should, and never breaks', () => {
  const keys = ['listen', 'auth', 'log', 'heartbeat', 'mcpServers', 'a', 'url', 'command', 'args', 'env', 'headers']
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(null, true, 0, -1.5, '', 'text', ':1', 'http://a', '${A}', '${', '[::1]:0'),
      fc.dictionary(fc.constantFrom(...keys), tie('tree'), { maxKeys: 4 }),
      fc.array(tie('tree'), { maxLength: 2 }),
    ),
  }))
  fc.assert(
    fc.property(tree, tree, (servers, rest) => {
      const text = stringify({ mcpServers: { a: servers, b: { command: 'x', env: rest } }, heartbeat: rest })
      try {
        load([text, stringify(rest)], { env: { A: '1' } })
      } catch (error) {
        expect(error).toMatchObject({ code: 'config_invalid' })
      }
    }),
    { numRuns: 300 },
  )
})

describe('a secret', () => {
  const places = ['args', 'env', 'headers', 'url', 'auth', 'name', 'token', 'variable'] as const
  const junk = fc.constantFrom(
    '',
    ' ',
    '\n',
    '\0',
    '"',
    "'",
    '{',
    '[',
    '\t',
    '@',
    '#',
    '?',
    '/',
    ': ',
    '$$',
    '*',
    '!',
    'é',
  )

  // Always wrong elsewhere too, so that there is a message to look at.
  const wrong = 'max_sessions: 0\n'
  const entry = `${wrong}mcpServers:\n  a:\n    command: x\n    resident: no\n`
  const texts: Readonly<Record<(typeof places)[number], (value: string) => string>> = {
    args: (value) => `${entry}    args: ${value}\n`,
    env: (value) => `${entry}    env:\n      TOKEN: ${value}\n`,
    headers: (value) => `${entry}    headers:\n      Authorization: ${value}\n`,
    url: (value) => `${entry}    url: ftp://localhost/mcp?${value}\n`,
    auth: (value) => `${wrong}auth: ${value}\n`,
    name: (value) => `${wrong}auth:\n  bearer_file: ${value}\n`,
    token: () => `${wrong}auth:\n  bearer_file: t\n`,
    variable: () => 'exposition: ${SECRET}\nlisten: "x${SECRET}"\nmax_sessions: ${SECRET}\n',
  }

  it('is in no message, however the file around it is wrong', () => {
    fc.assert(
      fc.property(fc.constantFrom(...places), junk, junk, fc.boolean(), (place, before, after, quoted) => {
        const value = `${before}canary${after}`
        // On a line of its own and before a colon it is a key, and keys are shown.
        fc.pre(quoted || before !== '\n')
        const text = texts[place](quoted ? JSON.stringify(value) : value)
        expect(fails([text], { env: { SECRET: value }, secrets: { t: `${value} x y` } })).not.toContain('canary')
      }),
      { numRuns: 300 },
    )
  })
})

it('doubts an action for an alert whose name is nearly one of ours', () => {
  const alerts = { receive: { bearer_file: 'token', actions: { McpUpstreamDwn: 'restart', HighLatency: 'drain' } } }
  const text = JSON.stringify({ alerts, mcpServers: { x: { command: 'x' } } })
  const readFile = (path: string) => (path === 'a.json' ? text : 'token')
  expect(loadConfig({ files: ['a.json'], env: {}, readFile }).notices).toEqual([
    'a.json:1: alerts.receive.actions.McpUpstreamDwn: is no alert that ships here; did you mean McpUpstreamDown?',
  ])
})

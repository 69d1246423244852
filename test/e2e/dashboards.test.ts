/** Every query of every dashboard, asked of a real Prometheus that scraped real servers under load and faults. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type Server, createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { type TestContext, afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ruleFiles } from '../../dashboards/src/rules.ts'
import { sleep, systemClock } from '../../src/clock.ts'
import { shippedDashboards } from '../dashboards/shipped.ts'
import { type Viewer, chosen, gaps, shown, untilNone } from '../dashboards/viewer.ts'
import { connectV1 } from '../peers/clients.ts'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import type { RunningProcess } from '../peers/spawn.ts'
import { debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { type RunningPrometheus, needed, startPrometheus } from '../support/prometheus.ts'
import { type TinyServer, tinyServer } from '../support/tiny-server.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const heartbeat = {
  heartbeat_interval_seconds: 0.5,
  adaptive_heartbeat: { enabled: false },
  session_ping_seconds: 1,
  ping_forwarded_sessions: true,
  client_ping_seconds: 1,
}

/** Prints what is no JSON-RPC before it serves, as careless servers do. */
const noisyStdio = {
  command: 'sh',
  args: ['-c', 'echo "starting ..."; exec "$0" "$@"', everythingStdio.command, ...everythingStdio.args],
  resident: 'always',
}

const load = new AbortController()
let loads: Promise<unknown> = Promise.resolve()
let vitals: RunningVitals
let prometheus: RunningPrometheus | undefined
let peers: readonly RunningProcess<string>[] = []
let tiny: TinyServer
let locked: Server
let webhook: Server
let upstreamNames: readonly string[] = []
let directory = ''

beforeAll(async () => {
  locked = createServer((_, response) => void response.writeHead(401).end())
  webhook = createServer((_, response) => void response.end())
  const [sse, http] = await Promise.all([startEverything('sse'), startEverything('streamableHttp')])
  peers = [sse, http]
  tiny = await tinyServer(['good', 'bad'])
  const mcpServers = {
    stdio: noisyStdio,
    sse: { url: sse.ready },
    http: { url: http.ready },
    modern: { url: tiny.url },
    locked: { url: `http://127.0.0.1:${await listenOn(locked)}/mcp` },
    dead: { url: `http://127.0.0.1:${await freePort()}/mcp` },
  }
  upstreamNames = Object.keys(mcpServers)
  const alerts = {
    for_seconds: 0,
    keep_firing_for_seconds: 1,
    webhook: { url: `http://127.0.0.1:${await listenOn(webhook)}/` },
    receive: { bearer_file: await tokenFile(), actions: { McpUpstreamDown: 'probe_now' } },
  }
  vitals = await startVitals({ config: { heartbeat, alerts, mcpServers } })
}, 60_000)

afterAll(async () => {
  load.abort()
  await loads
  await prometheus?.stop()
  await vitals?.stop()
  await Promise.all(peers.map((peer) => peer.stop()))
  await tiny?.close()
  await Promise.all([locked, webhook].map(stopped))
  await rm(directory, { recursive: true })
}, 30_000)

/** The Prometheus that scrapes from before the load begins: the first test starts both. */
async function scraping(context: TestContext): Promise<Viewer> {
  const program = needed(context, 'prometheus')
  if (prometheus) return { from: prometheus, servers: upstreamNames }
  // Every second, those that look back for days too.
  const groups = ruleFiles.flatMap((file) => file.groups.map(({ name, rules }) => ({ name, rules })))
  const started = await startPrometheus(program, vitals.adminUrl, { groups })
  prometheus = started
  const viewer = { from: started, servers: upstreamNames }
  await eventually(async () => (await shown(viewer, 'count_over_time(up[1m]) >= 2', true)).length > 0, {
    what: 'two scrapes',
  })
  loads = Promise.all([
    ...['/stdio/mcp', '/http/mcp', '/http/sse', '/sse/sse'].map(stay),
    again(1000, () => visit('/http/mcp')),
    again(300, callTools),
    again(500, () => post('/dead/mcp', 'tools/list')),
    again(500, () => post('/nobody/mcp', 'tools/list')),
    again(1000, alertComesIn),
    again(5000, kill),
  ])
  return viewer
}

/** Does it until the test is over, whatever comes of it. */
async function again(pauseMs: number, what: () => Promise<unknown>): Promise<void> {
  while (!load.signal.aborted) {
    await what().catch(() => undefined)
    await sleep(systemClock, pauseMs, load.signal)
  }
}

/** A client whose session is idle but for a call now and then, so that heartbeats go inside it. */
async function stay(path: string): Promise<void> {
  await again(100, async () => {
    const client = await connectV1(`${vitals.dataUrl}${path}`)
    try {
      while (!load.signal.aborted) {
        await client.callTool({ name: 'echo', arguments: { message: 'hello' } })
        await sleep(systemClock, 3000, load.signal)
      }
    } finally {
      await client.close()
    }
  })
}

/** A client that comes and goes. */
async function visit(path: string): Promise<void> {
  const client = await connectV1(`${vitals.dataUrl}${path}`)
  await client.listTools()
  if (client.transport instanceof StreamableHTTPClientTransport) await client.transport.terminateSession()
  await client.close()
}

/** Calls that succeed, that fail, and to a tool that there is not. */
async function callTools(): Promise<void> {
  await post('/modern/mcp', 'tools/call', { name: 'good' })
  await post('/modern/mcp', 'tools/call', { name: 'bad', arguments: { fail: true } })
  await post('/modern/mcp', 'tools/call', { name: 'bad', arguments: { code: -32_603 } })
  await post('/modern/mcp', 'tools/call', { name: 'made_up' })
}

async function post(path: string, method: string, params: object = {}): Promise<void> {
  const answer = await fetch(`${vitals.dataUrl}${path}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    signal: load.signal,
  })
  await answer.arrayBuffer()
}

/** All processes of the stdio server die: our resident one, and that of each session. */
async function kill(): Promise<void> {
  const { process: running } = await debugUpstream(vitals, 'stdio')
  for (const { pid } of running?.all ?? []) process.kill(pid, 'SIGKILL')
}

const token = 'of-alertmanager'

/** The token that Alertmanager brings, in a file. */
async function tokenFile(): Promise<string> {
  directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-dashboards-'))
  const file = join(directory, 'token')
  await writeFile(file, token)
  return file
}

/** Alertmanager asks for a probe of the server that is gone. */
async function alertComesIn(): Promise<void> {
  const alert = {
    status: 'firing',
    labels: { alertname: 'McpUpstreamDown', upstream: 'dead' },
    annotations: {},
    startsAt: new Date(0).toISOString(),
    endsAt: '0001-01-01T00:00:00Z',
    generatorURL: '',
    fingerprint: '0123456789abcdef',
  }
  await fetch(`${vitals.adminUrl}/alerts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ version: '4', status: 'firing', receiver: 'mcp-vitals', alerts: [alert] }),
    signal: load.signal,
  })
}

describe('the dashboards', { timeout: 90_000 }, () => {
  // Those that a healthy fleet leaves empty, too: this one is not healthy.
  it.for(shippedDashboards)(
    '$name shows something for every query and label',
    async ({ name, ...dashboard }, context) => {
      const viewer = await scraping(context)
      for (const panel of dashboard.shown) await untilNone(`${name}: ${panel.title}`, () => gaps(viewer, panel))
    },
  )

  it.for(shippedDashboards)('$name marks what happened', async ({ name, annotations }, context) => {
    const viewer = await scraping(context)
    // mcp-vitals does not start anew here: that it would be marked is asked of another series that changed.
    const asked = annotations.list.map(({ name: what, expr }) => ({
      what,
      expr: expr.replace('changes(process_start_time_seconds', 'changes(process_cpu_seconds_total'),
    }))
    await untilNone(`annotations of ${name}`, async () => {
      const answers = await Promise.all(asked.map(({ expr }) => shown(viewer, expr, false)))
      return asked.filter((_, index) => answers[index]?.length === 0).map(({ what }) => what)
    })
  })

  it('lead from their dots to traces', async (context) => {
    const viewer = await scraping(context)
    const dotted = shippedDashboards.flatMap(({ name, shown: panels }) =>
      panels.flatMap(({ title, targets }) =>
        targets.filter(({ exemplar }) => exemplar).map(({ expr }) => ({ what: `${name}: ${title}`, expr })),
      ),
    )
    expect(dotted.length).toBeGreaterThan(3)
    await untilNone('exemplars', async () => {
      const found = await Promise.all(dotted.map(({ expr }) => traceIds(viewer, expr)))
      return dotted.filter((_, index) => found[index]?.length === 0).map(({ what }) => what)
    })
  })

  it('let the user choose what there is', async (context) => {
    const { from, servers } = await scraping(context)
    for (const { name, templating } of shippedDashboards) {
      for (const variable of templating.list.filter(({ type }) => type === 'query')) {
        const [, selector = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(variable.definition ?? '') ?? []
        const match = chosen(selector, servers)[0] ?? ''
        const found = await from.api(`label/${label}/values`, { 'match[]': match })
        const expected = {
          job: ['mcp-vitals'],
          instance: [new URL(vitals.adminUrl).host],
          upstream: upstreamNames.toSorted(),
        }[variable.name]
        expect([name, variable.name, found]).toEqual([name, variable.name, expected])
      }
    }
  })

  it('say first what needs action, and why', async (context) => {
    const viewer = await scraping(context)
    const query = shippedDashboards.find(({ name }) => name === 'fleet')?.shown[0]?.targets[0]?.expr ?? ''
    const rows = async () =>
      (await shown(viewer, query, true)).map(
        ({ metric: { upstream, alert, evidence, gen_ai_tool_name: tool = '' }, value }) =>
          `${value?.[1]} ${upstream} ${alert} ${tool}: ${evidence}`,
      )
    const wanted = [
      /^3 dead McpUpstreamDown : not up: it never answered$/,
      /^2 locked McpUpstreamNeedsAuth : refuses our credentials$/,
      /^2 modern McpToolErrorRateHigh bad: 100 % of the calls failed in 10 minutes$/,
      /^1 modern McpVitalsLabelOverflow : \d+(\.\d)? requests without the name of their tool in the last hour$/,
    ]
    await untilNone('what needs action', async () => {
      const all = await rows()
      return wanted.filter((row) => !all.some((one) => row.test(one))).map(String)
    })
  })
})

/** The traces that exemplars of a query lead to. */
async function traceIds({ from, servers }: Viewer, expr: string): Promise<string[]> {
  const answers = await Promise.all(
    chosen(expr, servers).map((query) => from.api('query_exemplars', { query, start: '0', end: '9999999999' })),
  )
  const series = answers.flat() as { exemplars: { labels: Record<string, string> }[] }[]
  const ids = series.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels['trace_id'] ?? ''))
  return ids.filter((id) => /^[0-9a-f]{32}$/.test(id))
}

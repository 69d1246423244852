/** The metrics of the real program, as promtool and a real Prometheus read them. */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isAnswered, isFailure, outcomes } from '../../src/heartbeat/classify.ts'
import { states } from '../../src/heartbeat/verdict.ts'
import { labelName, liveMetrics, metrics } from '../../src/telemetry/names.ts'
import { restartReasons } from '../../src/upstreams/upstream.ts'
import { connectV1 } from '../peers/clients.ts'
import { jsonLine, repoRoot } from '../peers/spawn.ts'
import { debugReport } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { type Sample, checkMetrics, needed, samplesOf, startPrometheus } from '../support/prometheus.ts'
import { type TinyServer, tinyServer } from '../support/tiny-server.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const openMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8'
const textType = 'text/plain; version=0.0.4; charset=utf-8'

const quick = {
  heartbeat_interval_seconds: 0.5,
  heartbeat_log_interval_seconds: 0.1,
  adaptive_heartbeat: { enabled: false },
}
const stdio = {
  command: process.execPath,
  args: [join(repoRoot, 'node_modules/@modelcontextprotocol/server-everything/dist/index.js'), 'stdio'],
}

async function scrape({ adminUrl }: RunningVitals, accept = '*/*'): Promise<{ type: string; body: string }> {
  const { headers, body } = await request(`${adminUrl}/metrics`, { headers: { accept } })
  return { type: String(headers['content-type']), body: await body.text() }
}

async function samples(vitals: RunningVitals, accept?: string): Promise<Sample[]> {
  return samplesOf((await scrape(vitals, accept)).body)
}

/** What cannot be delivered whatever the transport. */
const dropsOfAll = ['message_too_long', 'client_gone', 'no_request', 'no_stream']

/** The sum of all samples with that name and these labels; undefined without any. */
function sum(all: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const found = all.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  )
  return found.length === 0 ? undefined : found.reduce((total, { value }) => total + value, 0)
}

async function untilUp(vitals: RunningVitals, ...names: string[]): Promise<void> {
  for (const name of names) {
    await eventually(async () => (await request(`${vitals.adminUrl}/-/ready/${name}`)).statusCode === 200, {
      what: `${name} is up`,
    })
  }
}

/** Calls a tool of the stdio server with an official client, well and badly, and leaves. */
async function someTraffic({ dataUrl }: RunningVitals): Promise<void> {
  const client = await connectV1(`${dataUrl}/files/mcp`)
  await client.listTools()
  await client.callTool({ name: 'echo', arguments: { message: 'hello' } })
  await client.callTool({ name: 'echo', arguments: {} })
  await client.close()
}

describe('the metrics of the running program', { timeout: 60_000 }, () => {
  let tiny: TinyServer
  let vitals: RunningVitals

  beforeAll(async () => {
    tiny = await tinyServer(['add'])
    const config = {
      heartbeat: quick,
      mcpServers: {
        files: stdio,
        tiny: { url: tiny.url },
        quiet: { url: tiny.url },
        dead: { url: `http://127.0.0.1:${await freePort()}/mcp` },
      },
    }
    vitals = await startVitals({ config })
    await untilUp(vitals, 'files', 'tiny', 'quiet')
  }, 60_000)

  afterAll(async () => {
    await vitals?.stop()
    await tiny?.close()
  })

  it('start every counter with closed labels at 0, so that increase() sees the first event', async () => {
    const all = await samples(vitals)
    const of = (name: string, upstream = 'quiet') =>
      all.filter((sample) => sample.name === name && sample.labels['upstream'] === upstream)
    const reasons = (name: string, upstream: string) => of(name, upstream).map(({ labels }) => labels['reason'])
    expect(reasons('mcp_upstream_restarts_total', 'files')).toEqual(restartReasons)
    expect(reasons('mcp_upstream_restarts_total', 'quiet')).toEqual([])
    expect(reasons('mcp_vitals_dropped_messages_total', 'files')).toEqual(expect.arrayContaining(dropsOfAll))
    expect(reasons('mcp_vitals_dropped_messages_total', 'quiet')).toEqual(dropsOfAll)
    for (const name of ['mcp_upstream_restarts_total', 'mcp_vitals_dropped_messages_total']) {
      expect(sum(all, name)).toBe(0)
    }
    for (const name of ['inventory_changes', 'unavailable_seconds']) {
      expect(of(`mcp_upstream_${name}_total`).map(({ value }) => value)).toEqual([0])
    }
    for (const name of ['label_overflow', 'unparsed_messages']) {
      expect(of(`mcp_vitals_${name}_total`).map(({ value }) => value)).toEqual([0])
    }
    const beats = of('mcp_heartbeats_total')
    expect(new Set(beats.map(({ labels }) => labels['leg']))).toEqual(new Set(['upstream']))
    expect(beats.map(({ labels }) => labels['outcome'])).toEqual(expect.arrayContaining(['ok', 'timeout', 'refused']))
    expect(beats.filter(({ value }) => value > 0).map(({ labels }) => labels['outcome'])).toEqual(['ok'])
    const changes = of('mcp_upstream_state_changes_total')
    expect(changes.filter(({ value }) => value > 0).map(({ labels }) => `${labels['from']} ${labels['to']}`)).toEqual([
      'starting healthy',
    ])
    expect(changes.length).toBeGreaterThan(20)
    const refusals = all.filter(({ name }) => name === 'mcp_vitals_rejected_requests_total')
    expect(refusals.length).toBeGreaterThan(10)
    expect(refusals.every(({ value }) => value === 0)).toBe(true)
  })

  it('name the trace of a heartbeat in its exemplar as in its log line', async () => {
    const seen = (await samples(vitals, openMetricsType)).filter(
      ({ name, exemplar }) => name === 'mcp_heartbeat_duration_seconds_bucket' && exemplar,
    )
    const logged = (sample: Sample) => logLine(vitals, sample.exemplar?.labels['trace_id'] ?? '')
    // Of two successes in a moment only the first has a line; a failure always has one.
    const failed = seen.filter(({ labels }) => labels['upstream'] === 'dead')
    expect(failed.length).toBeGreaterThan(0)
    await eventually(() => failed.every(logged), { what: 'a log line for the exemplar of each failure' })
    const both = seen.flatMap((sample) => {
      const line = logged(sample)
      return line ? [{ ...sample, line }] : []
    })
    // A later success without a line may have taken the place of one, so not every upstream needs to be among them.
    expect(both.map(({ labels }) => labels['outcome'])).toEqual(expect.arrayContaining(['ok', 'refused']))
    for (const { labels, exemplar, line } of both) {
      const { upstream, transport, leg, method, outcome } = line
      expect({ upstream, transport, leg, method, outcome, le: labels['le'] }).toEqual(labels)
      expect(line['response_time_ms']).toBeCloseTo(1000 * (exemplar?.value ?? NaN), 1)
      expect(exemplar?.labels['span_id']).toMatch(/^[0-9a-f]{16}$/)
    }
  })

  it('agree with /debug/heartbeat, which follows its schema', async () => {
    await eventually(
      async () => {
        const before = await debugReport(vitals)
        const all = await samples(vitals)
        const after = await debugReport(vitals)
        // A heartbeat in between would spoil the comparison.
        if (before.overall_metrics.total_heartbeats !== after.overall_metrics.total_heartbeats) return false
        const counted = all.filter(({ name, labels }) => name === 'mcp_heartbeats_total' && labels['leg'] !== 'client')
        const total = (matches: (outcome: (typeof outcomes)[number]) => boolean) =>
          outcomes
            .filter(matches)
            .reduce((all, outcome) => all + (sum(counted, 'mcp_heartbeats_total', { outcome }) ?? 0), 0)
        expect(before.overall_metrics).toMatchObject({
          total_heartbeats: total(() => true),
          successful_heartbeats: total(isAnswered),
          failed_heartbeats: total(isFailure),
          total_sessions: sum(all, 'mcp_sessions_active'),
        })
        expect(total(isFailure)).toBeGreaterThan(0)
        expect(sum(all, 'mcp_heartbeat_duration_seconds_count')).toBe(total(() => true))
        for (const [upstream, { state, heartbeats, interval_seconds, tools }] of Object.entries(before.upstreams)) {
          expect(sum(counted, 'mcp_heartbeats_total', { upstream })).toBe(heartbeats.total)
          expect(sum(all, 'mcp_upstream_state', { upstream, state })).toBe(1)
          expect(sum(all, 'mcp_upstream_state', { upstream })).toBe(1)
          expect(sum(all, 'mcp_heartbeat_interval_seconds', { upstream })).toBeCloseTo(interval_seconds, 3)
          expect(sum(all, 'mcp_upstream_tools', { upstream })).toBe(tools ?? undefined)
        }
        return true
      },
      { what: 'two reports without a heartbeat in between agree with the metrics between them' },
    )
  })

  it('never count a heartbeat as an operation', async () => {
    const mcp = `${vitals.dataUrl}/tiny/mcp`
    const before = sum(await samples(vitals), 'mcp_server_operation_duration_seconds_count', { upstream: 'tiny' }) ?? 0
    const asked = tiny.count('server/discover')
    await eventually(() => tiny.count('server/discover') >= asked + 4, { what: 'heartbeats of tiny and quiet' })
    for (let id = 1; id <= 3; id++) await post(mcp, { id, method: 'server/discover' })
    const all = await samples(vitals)
    for (const side of ['server', 'client']) {
      const count = `mcp_${side}_operation_duration_seconds_count`
      expect(sum(all, count, { upstream: 'tiny' })).toBe(before + 3)
      expect(sum(all, count, { upstream: 'tiny', mcp_method_name: 'server/discover' })).toBe(3)
      expect(sum(all, count, { upstream: 'quiet' })).toBeUndefined()
    }
    expect(sum(all, 'mcp_heartbeats_total', { upstream: 'quiet' })).toBeGreaterThan(1)
  })

  it('come in the format that is asked for (RFC 9110 §12.5.1), with those of the process', async () => {
    const asked = [
      [undefined, textType],
      ['*/*', textType],
      ['text/plain', textType],
      ['text/plain;version=0.0.4', textType],
      ['application/openmetrics-text', openMetricsType],
      [
        'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
        openMetricsType,
      ],
      ['application/openmetrics-text;q=0.2,text/plain;q=0.9', textType],
      ['text/html,application/xhtml+xml,*/*;q=0.8', textType],
    ] as const
    for (const [accept, type] of asked) {
      const answer = await scrape(vitals, accept)
      expect([accept, answer.type]).toEqual([accept, type])
      expect(answer.body.endsWith('\n# EOF\n')).toBe(type === openMetricsType)
      expect(answer.body.includes(' # {trace_id="')).toBe(type === openMetricsType)
      const names = new Set(samplesOf(answer.body).map(({ name }) => name))
      for (const name of [
        'process_cpu_seconds_total',
        'process_resident_memory_bytes',
        'nodejs_eventloop_lag_p99_seconds',
      ]) {
        expect(names).toContain(name)
      }
    }
  })

  it('have HELP and TYPE for every family, and no label that is not documented', async () => {
    await someTraffic(vitals)
    const { body } = await scrape(vitals)
    for (const { family, kind, help } of liveMetrics()) {
      expect(body).toContain(`# HELP ${family} ${help}\n# TYPE ${family} ${kind}\n`)
    }
    const documented = new Map(
      liveMetrics().map(({ family, labels }) => [family, new Set([...labels.map(labelName), 'le'])]),
    )
    for (const { name, labels } of samplesOf(body).filter((one) => one.name.startsWith('mcp_'))) {
      const family = documented.get(name) ?? documented.get(name.replace(/_(bucket|sum|count)$/, ''))
      expect([name, Object.keys(labels).filter((label) => !family?.has(label))]).toEqual([name, []])
    }
  })

  it('pass promtool check metrics without a finding', async (context) => {
    const promtool = needed(context, 'promtool')
    await someTraffic(vitals)
    expect(await checkMetrics(promtool, (await scrape(vitals)).body)).toEqual({ code: 0, output: '' })
    expect((await checkMetrics(promtool, '# TYPE bad_total gauge\nbad_total 1\n')).code).not.toBe(0)
  })

  it('are what a real Prometheus stores, exemplars included', async (context) => {
    const program = needed(context, 'prometheus')
    await someTraffic(vitals)
    const prometheus = await startPrometheus(program, vitals.adminUrl)
    try {
      const query = async (text: string) => {
        const { result } = (await prometheus.api('query', { query: text })) as {
          result: { metric: Record<string, string>; value: [number, string] }[]
        }
        return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }))
      }
      const exemplars = async (text: string) =>
        (await prometheus.api('query_exemplars', { query: text, start: '0', end: '9999999999' })) as {
          seriesLabels: Record<string, string>
          exemplars: { labels: Record<string, string>; value: string }[]
        }[]
      await eventually(async () => (await query('count_over_time(up[1m])'))[0]?.value === 3, { what: 'three scrapes' })

      const { activeTargets } = (await prometheus.api('targets')) as {
        activeTargets: { health: string; lastError: string }[]
      }
      expect(activeTargets).toMatchObject([{ health: 'up', lastError: '' }])
      const upstreams = Object.fromEntries(
        (await query('mcp_upstream_up')).map(({ metric, value }) => [metric['upstream'], value]),
      )
      expect(upstreams).toEqual({ files: 1, tiny: 1, quiet: 1, dead: 0 })

      const stored = (await prometheus.api('label/__name__/values')) as string[]
      const sent = new Set((await samples(vitals, openMetricsType)).map(({ name }) => name))
      expect([...sent].filter((name) => !stored.includes(name))).toEqual([])
      expect(stored).toEqual(
        expect.arrayContaining([
          'mcp_heartbeat_duration_seconds_bucket',
          'mcp_server_operation_duration_seconds_bucket',
        ]),
      )
      // A series sent twice in one scrape would be counted here.
      const own = samplesOf(await prometheus.ownMetrics())
      for (const fault of ['duplicate_timestamp', 'out_of_order', 'out_of_bounds']) {
        expect(sum(own, `prometheus_target_scrapes_sample_${fault}_total`)).toBe(0)
      }
      const [calls] = await query('mcp_server_operation_duration_seconds_count{gen_ai_tool_name="echo",error_type=""}')
      expect(calls?.value).toBeGreaterThan(0)
      const [median] = await query(
        'histogram_quantile(0.5, sum by (le) (mcp_heartbeat_duration_seconds_bucket{outcome="ok"}))',
      )
      expect(median?.value).toBeGreaterThan(0)

      const metadata = (await prometheus.api('metadata')) as Record<string, { type: string; help: string }[]>
      for (const { family, kind, help } of liveMetrics()) {
        expect([family, metadata[family] ?? metadata[family.replace(/_total$/, '')]]).toEqual([
          family,
          [expect.objectContaining({ type: kind, help })],
        ])
      }

      const mine = new Set((await samples(vitals, openMetricsType)).map(({ exemplar }) => exemplar?.labels['trace_id']))
      for (const name of [
        'mcp_heartbeat_duration_seconds_bucket',
        'mcp_heartbeats_total',
        'mcp_server_operation_duration_seconds_bucket',
      ]) {
        const series = await exemplars(name)
        expect([name, series.length > 0]).toEqual([name, true])
        const ids = series.flatMap((one) => one.exemplars.map(({ labels }) => labels['trace_id']))
        expect(ids.every((id) => /^[0-9a-f]{32}$/.test(id ?? ''))).toBe(true)
        if (name.includes('operation')) expect(ids.filter((id) => !mine.has(id))).toEqual([])
      }
    } finally {
      await prometheus.stop()
    }
  })
})

describe('two real Prometheus servers', { timeout: 90_000 }, () => {
  it('that scrape at different intervals see the same, and what /debug says', async (context) => {
    const program = needed(context, 'prometheus')
    const tiny = await tinyServer(['add'])
    const config = { heartbeat: quick, mcpServers: { tiny: { url: tiny.url } } }
    const vitals = await startVitals({ config })
    const [often, seldom] = await Promise.all([
      startPrometheus(program, vitals.adminUrl),
      startPrometheus(program, vitals.adminUrl, { everySeconds: 3 }),
    ])
    const ask = async (prometheus: typeof often, query: string) => {
      const answer = (await prometheus.api('query', { query })) as {
        result: { metric: Record<string, string>; value: [number, string] }[]
      }
      return new Map(answer.result.map(({ metric, value }) => [JSON.stringify(metric), Number(value[1])]))
    }
    try {
      await untilUp(vitals, 'tiny')
      const before = await debugReport(vitals)
      expect(before.upstreams['tiny']?.state).toBe('healthy')
      const mcp = `${vitals.dataUrl}/tiny/mcp`
      for (let id = 1; id <= 20; id++) await post(mcp, { id, method: 'tools/call', params: { name: 'add' } })
      await eventually(async () => (await debugReport(vitals)).overall_metrics.total_heartbeats >= 5, {
        what: 'five heartbeats',
      })
      await fetch(`${vitals.adminUrl}/debug/heartbeat/tiny/pause?minutes=10`, { method: 'POST' })
      const total = 'sum(mcp_heartbeats_total) + sum(mcp_server_operation_duration_seconds_count)'
      const expected = async () => (await debugReport(vitals)).overall_metrics.total_heartbeats + 20
      for (const prometheus of [often, seldom]) {
        await eventually(async () => (await ask(prometheus, total)).get('{}') === (await expected()), {
          what: 'the last scrape has it all',
          timeoutMs: 30_000,
        })
      }
      // What time itself changes, and what a scrape changes, is not among these.
      const settled =
        '{__name__=~"mcp_(heartbeat|heartbeats|server|client|upstream_state|upstream_up|upstream_tools|upstream_restarts|upstream_unavailable|vitals_label).*"}'
      await eventually(
        async () => {
          const [one, other] = [await ask(often, settled), await ask(seldom, settled)]
          expect(one.size).toBeGreaterThan(50)
          return isDeepStrictEqual(one, other)
        },
        { what: 'both have scraped the same since the pause began', timeoutMs: 30_000 },
      )

      const tinyNow = (await debugReport(vitals)).upstreams['tiny']
      const of = (q: number) =>
        `histogram_quantile(${q}, sum by (le) (mcp_heartbeat_duration_seconds_bucket{upstream="tiny",leg!="client",outcome=~"ok|late|unsupported|unauthorized",method!~"initialize|process|traffic"})) * 1000`
      for (const [q, ms] of [
        [0.5, tinyNow?.response_time_ms.p50],
        [0.95, tinyNow?.response_time_ms.p95],
        [0.99, tinyNow?.response_time_ms.p99],
      ] as const) {
        expect([q, [...(await ask(often, of(q))).values()][0]]).toEqual([q, expect.closeTo(ms ?? NaN, 2)])
      }
      expect([...(await ask(often, 'sum(mcp_heartbeats_total{leg!="client"})')).values()]).toEqual([
        tinyNow?.heartbeats.total,
      ])
    } finally {
      await Promise.all([often.stop(), seldom.stop()])
      await vitals.stop()
      await tiny.close()
    }
  })
})

describe('what clients make up', { timeout: 60_000 }, () => {
  const listed = Array.from({ length: 300 }, (_, index) => `listed_${index}`)
  const agent = new Agent({ connections: 24 })
  let tiny: TinyServer
  let vitals: RunningVitals
  let mcp = ''

  beforeAll(async () => {
    tiny = await tinyServer(listed)
    vitals = await startVitals({ config: { heartbeat: quick, mcpServers: { tiny: { url: tiny.url } } } })
    mcp = `${vitals.dataUrl}/tiny/mcp`
    await untilUp(vitals, 'tiny')
    await eventually(async () => sum(await samples(vitals), 'mcp_upstream_tools') === 300, {
      what: 'the tools are known',
    })
  }, 60_000)

  afterAll(async () => {
    await agent.close()
    await vitals?.stop()
    await tiny?.close()
  })

  const call = (name: string, more: Readonly<Record<string, unknown>> = {}, version = '2026-07-28') =>
    post(mcp, { id: 1, method: 'tools/call', params: { name, ...more } }, { 'mcp-protocol-version': version }, agent)

  const series = async () => (await samples(vitals)).filter(({ name }) => name.includes('_operation_'))
  const overflows = async () =>
    sum(await samples(vitals), 'mcp_vitals_label_overflow_total', { upstream: 'tiny' }) ?? NaN

  it('is labelled _overflow beyond 200 names of tools, even if the server lists them', async () => {
    await all(listed, (name) => call(name))
    const names = new Set((await series()).map(({ labels }) => labels['gen_ai_tool_name']))
    expect(names.size).toBe(201)
    expect(names).toContain('_overflow')
    expect(await overflows()).toBe(100)
  })

  it('adds no series for 10,000 names of tools, and the overflow counter shows each', async () => {
    const before = (await series()).length
    const counted = await overflows()
    const requests = tiny.count('tools/call')
    await all(
      Array.from({ length: 10_000 }, (_, index) => `made_up_${index}`),
      (name) => call(name),
    )
    expect(tiny.count('tools/call') - requests).toBe(10_000)
    expect((await series()).length).toBe(before)
    expect(await overflows()).toBe(counted + 10_000)
    const measured = sum(await samples(vitals), 'mcp_server_operation_duration_seconds_count', {
      gen_ai_tool_name: '_overflow',
    })
    expect(measured).toBe(10_100)
  })

  const odd = (index: number) => `odd/${index}`
  it.each([
    ['methods', (index: number) => post(mcp, { id: 1, method: odd(index), params: {} }, {}, agent)],
    [
      'names of prompts',
      (index: number) => post(mcp, { id: 1, method: 'prompts/get', params: { name: odd(index) } }, {}, agent),
    ],
    ['protocol versions', (index: number) => call('listed_0', {}, `2099-01-${index}`)],
    ['error codes', (index: number) => call('listed_0', { arguments: { code: 100_000 + index } })],
    ['negative error codes', (index: number) => call('listed_0', { arguments: { code: -40_000 - index } })],
    [
      'user agents and clients',
      (index: number) =>
        post(
          mcp,
          {
            id: odd(index),
            method: 'ping',
            params: { _meta: { 'io.modelcontextprotocol/clientInfo': { name: odd(index), version: odd(index) } } },
          },
          { 'user-agent': odd(index) },
          agent,
        ),
    ],
    [
      'URIs',
      (index: number) => post(mcp, { id: 1, method: 'resources/read', params: { uri: `file:///${index}` } }, {}, agent),
    ],
  ])('adds one label set for all %s', async (_, send) => {
    await send(0)
    const before = (await series()).length
    await all(
      Array.from({ length: 300 }, (_, index) => index + 1),
      send,
    )
    expect((await series()).length).toBe(before)
    const after = await samples(vitals)
    expect(
      after.filter(({ labels }) => Object.values(labels).some((value) => /odd|2099|100\d{3}|-40\d{3}/.test(value))),
    ).toEqual([])
  })
})

describe('exposition: stock', { timeout: 60_000 }, () => {
  it("serves OpenTelemetry's own text under the same names and labels, which promtool accepts", async (context) => {
    const config = { heartbeat: quick, exposition: 'stock', mcpServers: { files: stdio } }
    const vitals = await startVitals({ config })
    try {
      await untilUp(vitals, 'files')
      await someTraffic(vitals)
      const { type, body } = await scrape(vitals, openMetricsType)
      expect(type).toBe(textType)
      const seen = samplesOf(body)
      const documented = new Set(liveMetrics().map(({ family }) => family))
      const unknown = seen
        .map(({ name }) => name)
        .filter(
          (name) =>
            name.startsWith('mcp_') &&
            !documented.has(name) &&
            !documented.has(name.replace(/_(bucket|sum|count)$/, '')),
        )
      expect(unknown).toEqual([])
      expect(sum(seen, 'mcp_upstream_up', { upstream: 'files', transport: 'stdio' })).toBe(1)
      expect(sum(seen, 'mcp_heartbeats_total', { upstream: 'files', outcome: 'ok' })).toBeGreaterThan(0)
      expect(sum(seen, 'mcp_server_operation_duration_seconds_count', { gen_ai_tool_name: 'echo' })).toBe(2)
      expect(sum(seen, 'process_cpu_seconds_total')).toBeGreaterThan(0)
      expect(sum(seen, 'mcp_upstream_state', { upstream: 'files' })).toBe(1)
      expect(seen.filter(({ name }) => name === 'mcp_upstream_state')).toHaveLength(states.length)
      expect(body).toContain(`# HELP ${metrics.upstreamUp.family} ${metrics.upstreamUp.help}\n`)
      expect(await checkMetrics(needed(context, 'promtool'), body)).toEqual({ code: 0, output: '' })
    } finally {
      await vitals.stop()
    }
  })
})

/** The heartbeat log line with that trace id, once it is written. */
function logLine(vitals: RunningVitals, traceId: string): Readonly<Record<string, unknown>> | undefined {
  const lines = vitals.output().split('\n').map(jsonLine)
  return lines.find((line) => line?.['msg'] === 'heartbeat' && line['trace_id'] === traceId)
}

async function post(
  url: string,
  message: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
  dispatcher?: Agent,
): Promise<void> {
  const answer = await request(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', ...message }),
    ...(dispatcher && { dispatcher }),
  })
  await answer.body.dump()
}

/** Runs `send` for every item, a few at a time. */
async function all<Item>(items: readonly Item[], send: (item: Item) => Promise<void>): Promise<void> {
  const left = [...items]
  const worker = async () => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await send(item)
  }
  await Promise.all(Array.from({ length: 24 }, worker))
}

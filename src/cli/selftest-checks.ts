import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { type DebugReport, debugReportSchema } from '../admin/debug.ts'
import { contentTypes } from '../telemetry/negotiate.ts'
import { liveMetrics } from '../telemetry/names.ts'
import { packageVersion } from '../version.ts'
import { type Answer, type Check, type Complaint, type Instance } from './selftest-instance.ts'
import { askAdmin, askData, bearer, untilFine } from './selftest-instance.ts'

const clientName = 'mcp-vitals-selftest'

/** Whether these servers answer. Only those that are still starting are waited for, all at once. */
export function upstreamChecks(instance: Instance, names: readonly string[]): readonly Check[] {
  const settled = async () => {
    const { upstreams } = await report(instance)
    const waiting = names.filter((name) => upstreams[name]?.state === 'starting')
    return waiting.length === 0 ? undefined : `${waiting.join(', ')} still starting`
  }
  let waited: Promise<Complaint> | undefined
  return names.map((name) => ({
    name: `upstream: ${name} is up or idle`,
    run: async () => {
      await (waited ??= untilFine(instance, settled))
      const { status, body } = await askAdmin(instance, `/-/ready/${encodeURIComponent(name)}`)
      // Idle is no complaint: nothing runs because nobody uses a server that is never resident.
      return status === 200 || body.includes('"state":"idle"') ? undefined : `${status} ${body}`
    },
  }))
}

/** Every path of the admin listener, and what both listeners refuse. */
export function endpointChecks(instance: Instance): readonly Check[] {
  const { server, config } = instance
  const admin = (path: string, status: number, holds: string) => async () =>
    unlike(await askAdmin(instance, path), status, holds)
  const stranger = { headers: { host: 'selftest.invalid' } }
  const mcp = `/${server}/mcp`
  const tooLong = { method: 'POST', headers: { 'content-length': config.maxBodyBytes + 1 } } as const
  return [
    { name: 'endpoints: / names the upstreams', run: admin('/', 200, `upstream=${server}`) },
    { name: 'endpoints: /-/healthy', run: admin('/-/healthy', 200, 'healthy') },
    { name: 'endpoints: /-/ready', run: admin('/-/ready', 200, 'ready') },
    { name: `endpoints: /-/ready/${server}`, run: admin(`/-/ready/${server}`, 200, '"state":') },
    { name: 'endpoints: /debug/heartbeat follows its schema', run: () => reportComplaint(instance) },
    {
      name: 'endpoints: an unknown upstream of the admin listener gets 404 and the names',
      run: admin('/-/ready/selftest.none', 404, `"${server}"`),
    },
    {
      name: 'endpoints: an unknown upstream of the data listener gets 404 and the names',
      run: async () => unlike(await askData(instance, '/selftest.none/mcp', { method: 'POST' }), 404, `"${server}"`),
    },
    {
      name: 'endpoints: the admin listener refuses a foreign Host with 403',
      run: async () => unlike(await askAdmin(instance, '/metrics', stranger), 403, 'host_not_allowed'),
    },
    {
      name: 'endpoints: the data listener refuses a foreign Host with 403',
      run: async () => unlike(await askData(instance, mcp, stranger), 403, 'host_not_allowed'),
    },
    {
      name: 'endpoints: a body above max_body_bytes gets 413',
      run: async () => unlike(await askData(instance, mcp, tooLong), 413, 'body_too_large'),
    },
  ]
}

function unlike({ status, body }: Answer, wanted: number, holds: string): Complaint {
  if (status !== wanted) return `answered ${status} instead of ${wanted}: ${shortened(body)}`
  return body.includes(holds) ? undefined : `does not hold ${JSON.stringify(holds)}: ${shortened(body)}`
}

function shortened(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

async function reportComplaint(instance: Instance): Promise<Complaint> {
  const { status, body } = await askAdmin(instance, '/debug/heartbeat')
  if (status !== 200) return `answered ${status} instead of 200`
  const issue = debugReportSchema.safeParse(JSON.parse(body)).error?.issues[0]
  return issue && `${issue.path.join('.')}: ${issue.message}`
}

async function report(instance: Instance): Promise<DebugReport> {
  return debugReportSchema.parse(JSON.parse((await askAdmin(instance, '/debug/heartbeat')).body))
}

/** Both expositions, complete, and figures that move. */
export function metricsChecks(instance: Instance): readonly Check[] {
  const { exposition } = instance.config
  const scrape = (accept: string) => askAdmin(instance, '/metrics', { headers: { accept } })
  const openMetrics: Check = {
    name: 'metrics: OpenMetrics has exemplars and an end',
    run: async () => {
      const { headers, body } = await scrape('application/openmetrics-text; version=1.0.0')
      if (headers['content-type'] !== contentTypes.openmetrics) return `is ${headers['content-type']}`
      if (!body.endsWith('\n# EOF\n')) return 'does not end with # EOF'
      return body.includes(' # {trace_id="') ? undefined : 'has no exemplar'
    },
  }
  return [
    {
      name: 'metrics: the text format has every family',
      run: async () => {
        const answer = await scrape('text/plain')
        if (answer.headers['content-type'] !== contentTypes.text) return `is ${answer.headers['content-type']}`
        return missingFamilies(answer.body, expectedFamilies(exposition))
      },
    },
    ...(exposition === 'own' ? [openMetrics] : []),
    {
      name: 'metrics: heartbeats are counted as they happen',
      run: async () => {
        const beats = () => figure(instance, 'mcp_heartbeats_total', [`upstream="${instance.server}"`, 'outcome="ok"'])
        const before = await beats()
        return untilFine(instance, async () =>
          (await beats()) > before ? undefined : `mcp_heartbeats_total stays ${before}`,
        )
      },
    },
  ]
}

/** Families that are there from the start; OpenTelemetry's own exporter leaves out what has no sample yet. */
function expectedFamilies(exposition: 'own' | 'stock'): readonly string[] {
  const runtime = ['process_cpu_seconds_total', 'nodejs_version_info']
  return exposition === 'own'
    ? [...liveMetrics().map(({ family }) => family), ...runtime]
    : ['mcp_upstream_up', 'mcp_heartbeats_total', 'mcp_heartbeat_duration_seconds', ...runtime]
}

function missingFamilies(text: string, families: readonly string[]): Complaint {
  const missing = families.filter(
    (family) => !text.includes(`# TYPE ${family} `) || !text.includes(`# HELP ${family} `),
  )
  return missing.length === 0 ? undefined : `lacks ${missing.join(', ')}`
}

/** The sum of a family's samples that carry all of these labels. */
async function figure(instance: Instance, family: string, labels: readonly string[]): Promise<number> {
  const { body } = await askAdmin(instance, '/metrics')
  const samples = body.split('\n').filter((line) => line.startsWith(`${family}{`))
  const wanted = samples.filter((line) => labels.every((label) => line.includes(label)))
  return wanted.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}

/** An official client's session with the temporary server, from its opening to its end. */
export function sessionChecks(instance: Instance): { readonly checks: readonly Check[]; close(): Promise<void> } {
  const { running, config, server, signal } = instance
  const transport = new StreamableHTTPClientTransport(new URL(running.upstreamUrls.get(server) ?? ''), {
    requestInit: { headers: bearer(config.auth) },
  })
  const client = new Client({ name: clientName, version: packageVersion() })
  const sessions = async () =>
    Object.values((await report(instance)).sessions).filter(({ upstream }) => upstream === server)
  const calls = () =>
    figure(instance, 'mcp_server_operation_duration_seconds_count', [`upstream="${server}"`, 'gen_ai_tool_name="echo"'])
  const beats = async () => (await report(instance)).upstreams[server]?.heartbeats.total ?? 0
  const checks: readonly Check[] = [
    {
      name: 'session: an official client connects and lists the tools',
      run: async () => {
        await client.connect(transport, { signal })
        const { tools } = await client.listTools(undefined, { signal })
        return tools.some(({ name }) => name === 'echo') ? undefined : 'the tool "echo" is not listed'
      },
    },
    {
      name: 'session: it is in /debug/heartbeat',
      run: async () => {
        const names = (await sessions()).map(({ client_name }) => client_name)
        return names.includes(clientName) ? undefined : `the clients there are ${JSON.stringify(names)}`
      },
    },
    {
      name: 'session: a tool call is answered and counted',
      run: async () => {
        const before = await calls()
        const { content } = await client.callTool({ name: 'echo', arguments: { message: 'hello' } }, undefined, {
          signal,
        })
        if (JSON.stringify(content) !== '[{"type":"text","text":"hello"}]')
          return `the answer is ${JSON.stringify(content)}`
        return untilFine(instance, async () =>
          (await calls()) === before + 1 ? undefined : `${await calls()} calls are counted, not ${before + 1}`,
        )
      },
    },
    {
      name: 'session: heartbeats go on beside it',
      run: async () => {
        const before = await beats()
        return untilFine(instance, async () =>
          (await beats()) > before ? undefined : `there are ${before} heartbeats still`,
        )
      },
    },
    {
      name: 'session: it ends when the client says so',
      run: async () => {
        await transport.terminateSession()
        return untilFine(instance, async () => ((await sessions()).length === 0 ? undefined : 'it is still there'))
      },
    },
  ]
  return { checks, close: () => client.close() }
}

/** A server process that is killed, as the out-of-memory killer would. */
export function recoveryChecks(instance: Instance): readonly Check[] {
  const { server } = instance
  const mine = [`upstream="${server}"`]
  const status = async () => (await report(instance)).upstreams[server]
  const healthy = async () => {
    const upstream = await status()
    const pid = upstream?.process?.pid ?? undefined
    return upstream?.state === 'healthy' ? pid : undefined
  }
  let killed: number | undefined
  return [
    {
      name: 'recovery: a kill -9 of the server is noticed',
      run: async () => {
        await untilFine(instance, async () => {
          killed = await healthy()
          return killed === undefined ? 'not healthy' : undefined
        })
        if (killed === undefined) return `there is no healthy process to kill; the state is ${(await status())?.state}`
        process.kill(killed, 'SIGKILL')
        const losses = () => figure(instance, 'mcp_upstream_state_changes_total', [...mine, 'to="down"'])
        return untilFine(instance, async () => ((await losses()) > 0 ? undefined : 'the state never was down'))
      },
    },
    {
      name: 'recovery: it is started again, counted and healthy',
      run: async () => {
        if (killed === undefined) return 'nothing was killed'
        return untilFine(instance, async () => {
          const pid = await healthy()
          if (pid === undefined || pid === killed) return `the state is ${(await status())?.state}`
          const restarts = await figure(instance, 'mcp_upstream_restarts_total', [...mine, 'reason="signal"'])
          return restarts > 0 ? undefined : 'mcp_upstream_restarts_total{reason="signal"} is 0'
        })
      },
    },
  ]
}

import { describe, expect, it } from 'vitest'
import { outcomes } from '../../src/heartbeat/classify.ts'
import { dropReasons } from '../../src/telemetry/instruments.ts'
import { restartReasons } from '../../src/upstreams/upstream.ts'
import { pipeline, toolCall, upstreamGauges } from './fixture.ts'

describe('recordOperation', () => {
  it('carries the attributes of the semantic conventions', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.labels.admit('files', 'tool', ['read_file'])
    recorder.recordOperation({ ...toolCall, errorType: 'tool_error' })
    expect((await samplesOf('mcp_server_operation_duration_seconds')).at(-1)).toBe(
      'mcp_server_operation_duration_seconds_count{upstream="files",mcp_method_name="tools/call",' +
        'gen_ai_tool_name="read_file",gen_ai_operation_name="execute_tool",error_type="tool_error",' +
        'mcp_protocol_version="2025-11-25",network_transport="tcp",network_protocol_name="http",' +
        'network_protocol_version="1.1"} 1',
    )
  })

  it('carries the address on the client side', async () => {
    const { recorder, samplesOf } = pipeline()
    const address = { serverAddress: 'localhost', serverPort: 8080 }
    recorder.recordOperation({ ...toolCall, ...address, side: 'client', method: 'tools/list', toolName: undefined })
    expect((await samplesOf('mcp_client_operation_duration_seconds')).at(-1)).toContain(
      'server_address="localhost",server_port="8080"} 1',
    )
    expect(await samplesOf('mcp_server_operation_duration_seconds')).toEqual([])
  })

  it('has no HTTP version on a pipe', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.recordOperation({
      side: 'server',
      upstream: 'files',
      method: 'ping',
      networkTransport: 'pipe',
      durationSeconds: 0.001,
      rpcStatusCode: -32601,
    })
    expect((await samplesOf('mcp_server_operation_duration_seconds')).at(-1)).toBe(
      'mcp_server_operation_duration_seconds_count{upstream="files",mcp_method_name="ping",' +
        'rpc_response_status_code="-32601",network_transport="pipe"} 1',
    )
  })

  it('makes one series of all that nobody announced', async () => {
    const { recorder, samplesOf } = pipeline()
    for (let index = 0; index < 500; index++) {
      recorder.recordOperation({ ...toolCall, toolName: `made_up_${index}`, protocolVersion: `v${index}` })
    }
    const counts = (await samplesOf('mcp_server_operation_duration_seconds')).filter((line) => line.includes('_count'))
    expect(counts).toHaveLength(1)
    expect(counts[0]).toMatch(/gen_ai_tool_name="_overflow".*mcp_protocol_version="_other".* 500$/)
  })

  it.each([
    ['a tool that nobody announced', 'tools/call', { toolName: 'made_up' }, 200, 1],
    ['a prompt that nobody announced', 'prompts/get', { promptName: 'made_up' }, 200, 1],
    ['a tool that nobody announced, where there is no room for its set', 'tools/call', { toolName: 'made_up' }, 0, 1],
    ['a request for whose set there is no room', 'tools/list', {}, 0, 1],
    ['a request like any other', 'tools/list', {}, 200, 0],
  ])('counts %s once, though it is measured on both sides', async (_, method, name, maxLabelsPerUpstream, times) => {
    const { recorder, samplesOf } = pipeline({ maxLabelsPerUpstream })
    recorder.initUpstream('files', { transport: 'http', hasProcess: false, isShared: false })
    const address = { serverAddress: 'localhost', serverPort: 8080 }
    const operation = { ...toolCall, toolName: undefined, ...name, method }
    recorder.recordOperation({ ...operation, ...address, side: 'client' })
    recorder.recordOperation({ ...operation, side: 'server' })
    expect(await samplesOf('mcp_vitals_label_overflow_total')).toEqual([
      `mcp_vitals_label_overflow_total{upstream="files"} ${times}`,
    ])
  })

  it('folds what exceeds ten sets per label into one, keeping the error', async () => {
    const { recorder, samplesOf } = pipeline({ maxLabelsPerUpstream: 2 })
    for (let code = 400; code < 500; code++) recorder.recordOperation({ ...toolCall, errorType: String(code) })
    for (let count = 0; count < 3; count++) recorder.recordOperation({ ...toolCall, errorType: '400' })
    const counts = (await samplesOf('mcp_server_operation_duration_seconds')).filter((line) => line.includes('_count'))
    const folded = counts.filter((line) => line.includes('mcp_method_name="_overflow"'))
    expect(counts.length - folded.length).toBe(20)
    expect(folded).toContain(
      'mcp_server_operation_duration_seconds_count{upstream="files",mcp_method_name="_overflow",error_type="499",network_transport="tcp"} 1',
    )
  })
})

describe('one operation after another', () => {
  it.each([
    ['method', { method: 'tools/list' }],
    ['tool', { toolName: 'write_file' }],
    ['prompt', { promptName: 'p' }],
    ['upstream', { upstream: 'search' }],
    ['error', { errorType: 'timeout' }],
    ['code', { rpcStatusCode: -32_603 }],
    ['revision', { protocolVersion: '2025-06-18' }],
    ['network', { networkTransport: 'pipe' }],
    ['HTTP version', { httpVersion: '2' }],
    ['address', { serverAddress: 'a.example' }],
    ['port', { serverPort: 81 }],
  ] as const)('of another %s is another series', async (_, other) => {
    const { recorder, samplesOf } = pipeline()
    for (const upstream of ['files', 'search']) {
      recorder.labels.admit(upstream, 'tool', ['read_file', 'write_file'])
      recorder.labels.admit(upstream, 'prompt', ['p'])
    }
    const call = { ...toolCall, side: 'client', serverAddress: 'b.example', serverPort: 80 } as const
    for (const one of [call, { ...call, ...other }, call, call]) recorder.recordOperation(one)
    const counts = await samplesOf('mcp_client_operation_duration_seconds')
    const totals = counts.filter((line) => line.includes('_count{')).map((line) => Number(line.split(' ').at(-1)))
    expect(totals.toSorted((one, another) => one - another)).toEqual([1, 3])
  })

  it('of a name that is announced only then gets it', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.recordOperation(toolCall)
    recorder.labels.admit('files', 'tool', ['read_file'])
    recorder.recordOperation(toolCall)
    const counts = (await samplesOf('mcp_server_operation_duration_seconds')).filter((line) => line.includes('_count{'))
    expect(counts.map((line) => /gen_ai_tool_name="([^"]+)"/.exec(line)?.[1])).toEqual(['_overflow', 'read_file'])
  })
})

describe('recordHeartbeat', () => {
  it('fills the histogram by method and the counter by outcome', async () => {
    const { recorder, samplesOf } = pipeline()
    const heartbeat = { upstream: 'files', transport: 'http', leg: 'upstream', method: 'ping', outcome: 'ok' } as const
    recorder.recordHeartbeat({ ...heartbeat, durationSeconds: 0.004 })
    recorder.recordHeartbeat({ ...heartbeat, method: 'server/discover', durationSeconds: 0.02 })
    expect(await samplesOf('mcp_heartbeats_total')).toEqual([
      'mcp_heartbeats_total{upstream="files",transport="http",leg="upstream",outcome="ok"} 2',
    ])
    expect(await samplesOf('mcp_heartbeat_duration_seconds')).toContain(
      'mcp_heartbeat_duration_seconds_bucket{upstream="files",transport="http",leg="upstream",method="ping",outcome="ok",le="0.005"} 1',
    )
  })

  it('is never counted as an operation', async () => {
    const { recorder, samplesOf } = pipeline()
    const heartbeat = { upstream: 'files', transport: 'http', leg: 'session', method: 'ping', outcome: 'ok' } as const
    recorder.recordHeartbeat({ ...heartbeat, durationSeconds: 0.004 })
    expect(await samplesOf('mcp_client_operation_duration_seconds')).toEqual([])
  })
})

it('records sessions with a bounded revision and error', async () => {
  const { recorder, samplesOf } = pipeline()
  const session = { upstream: 'files', networkTransport: 'tcp', durationSeconds: 200 } as const
  recorder.recordSession({ ...session, protocolVersion: 'x', errorType: 'y' })
  expect((await samplesOf('mcp_server_session_duration_seconds')).at(-1)).toBe(
    'mcp_server_session_duration_seconds_count{upstream="files",network_transport="tcp",mcp_protocol_version="_other",error_type="_OTHER"} 1',
  )
})

describe('counters', () => {
  it('count each under its labels', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.countStateChange('files', 'suspect', 'down')
    recorder.countRestart('files', 'exit')
    recorder.countInventoryChange('files')
    recorder.countDropped('files', 'noise')
    recorder.countRejected('too_many_sessions')
    expect(await samplesOf('mcp_upstream_state_changes_total')).toEqual([
      'mcp_upstream_state_changes_total{upstream="files",from="suspect",to="down"} 1',
    ])
    expect(await samplesOf('mcp_upstream_inventory_changes_total')).toEqual([
      'mcp_upstream_inventory_changes_total{upstream="files"} 1',
    ])
    expect(await samplesOf('mcp_vitals_dropped_messages_total')).toEqual([
      'mcp_vitals_dropped_messages_total{upstream="files",reason="noise"} 1',
    ])
    expect(await samplesOf('mcp_vitals_rejected_requests_total')).toContain(
      'mcp_vitals_rejected_requests_total{reason="too_many_sessions"} 1',
    )
  })

  const stdio = { transport: 'stdio', hasProcess: true, isShared: false } as const
  const behindUrl = { transport: 'http', hasProcess: false, isShared: false } as const

  it('start at 0 for every upstream, so that increase() sees the first event', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.initUpstream('files', stdio)
    const heartbeats = await samplesOf('mcp_heartbeats_total')
    expect(heartbeats.length).toBeGreaterThan(0)
    expect(heartbeats.every((line) => line.includes('leg="upstream"') && line.endsWith('} 0'))).toBe(true)
    expect(await samplesOf('mcp_upstream_restarts_total')).toHaveLength(restartReasons.length)
    expect(await samplesOf('mcp_upstream_state_changes_total')).toContain(
      'mcp_upstream_state_changes_total{upstream="files",from="suspect",to="down"} 0',
    )
    expect(await samplesOf('mcp_upstream_inventory_changes_total')).toHaveLength(1)
    expect(await samplesOf('mcp_vitals_unparsed_messages_total')).toHaveLength(1)
    expect(await samplesOf('mcp_vitals_label_overflow_total')).toHaveLength(1)
  })

  it('start at 0 only for what can happen to that upstream', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.initUpstream('files', stdio)
    recorder.initUpstream('team', { ...stdio, isShared: true })
    recorder.initUpstream('search', behindUrl)
    recorder.initUpstream('local', { ...behindUrl, hasProcess: true })
    const values = async (metric: string, upstream: string, name: string) =>
      (await samplesOf(metric))
        .filter((line) => line.includes(`upstream="${upstream}"`))
        .map((line) => new RegExp(`${name}="([^"]*)"`).exec(line)?.[1])
    const ended = (upstream: string) => values('mcp_heartbeats_total', upstream, 'outcome')
    expect(new Set([...(await ended('files')), ...(await ended('local'))])).toEqual(new Set(outcomes))
    expect(await ended('files')).not.toContain('refused')
    expect(await ended('search')).not.toContain('exited')
    expect(await ended('local')).toEqual(expect.arrayContaining(['refused', 'exited']))
    const dropped = (upstream: string) => values('mcp_vitals_dropped_messages_total', upstream, 'reason')
    expect(await dropped('team')).toEqual(dropReasons)
    expect(await dropped('files')).toEqual(['noise', 'message_too_long', 'client_gone', 'no_request', 'no_stream'])
    expect(await dropped('search')).toEqual(['message_too_long', 'client_gone', 'no_request', 'no_stream'])
    expect(await values('mcp_upstream_restarts_total', 'search', 'reason')).toEqual([])
    expect(await values('mcp_upstream_restarts_total', 'local', 'reason')).toEqual(restartReasons)
    const changed = (upstream: string) => values('mcp_upstream_state_changes_total', upstream, 'to')
    expect(await changed('local')).toEqual(expect.arrayContaining(['idle', 'crash_loop', 'starting']))
    expect((await changed('search')).filter((to) => to !== undefined && /idle|crash_loop|starting/.test(to))).toEqual(
      [],
    )
  })

  it('start at 0 inside sessions with the first of an upstream', async () => {
    const { recorder, samplesOf } = pipeline()
    recorder.initUpstream('files', stdio)
    for (let session = 0; session < 2; session++) recorder.initSession('files')
    recorder.initSession('removed')
    const lines = await samplesOf('mcp_heartbeats_total')
    const inSessions = lines.filter((line) => line.includes('leg="session"'))
    expect(inSessions.length).toBeGreaterThan(0)
    expect(inSessions).toHaveLength(lines.length / 2)
  })

  it('start at 0 for refusals as soon as there are instruments', async () => {
    const rejected = await pipeline().samplesOf('mcp_vitals_rejected_requests_total')
    expect(rejected).toContain('mcp_vitals_rejected_requests_total{reason="host_not_allowed"} 0')
    expect(rejected.join()).not.toMatch(/"(upstream_|internal|usage|config_invalid|listen_failed|cancelled)/)
  })
})

describe('gauges', () => {
  it('are read at each collection, and absent where nothing is known', async () => {
    const { upstreams, samplesOf } = pipeline()
    upstreams.push(upstreamGauges())
    expect(await samplesOf('mcp_upstream_up')).toEqual([])
    expect(await samplesOf('mcp_upstream_tools')).toEqual([])
    expect(await samplesOf('mcp_upstream_process_[a-z_]+')).toEqual([])
    expect(await samplesOf('mcp_heartbeat_last_success_timestamp_seconds')).toEqual([])
    upstreams[0] = upstreamGauges({
      up: 1,
      state: 'healthy',
      tools: 3,
      intervalSeconds: 12.5,
      timeoutSeconds: 2,
      lastSuccessTimestampSeconds: 1_767_225_600.5,
      processes: 1,
      usage: { cpuSeconds: 2.5, residentBytes: 4096, openFds: 7, threads: 3, children: 2, orphans: 1 },
      connections: { active: 1, idle: 2, pending: 0 },
    })
    expect(await samplesOf('mcp_upstream_up')).toEqual(['mcp_upstream_up{upstream="files",transport="stdio"} 1'])
    expect(await samplesOf('mcp_upstream_tools')).toEqual(['mcp_upstream_tools{upstream="files"} 3'])
    expect(await samplesOf('mcp_upstream_processes')).toEqual(['mcp_upstream_processes{upstream="files"} 1'])
    expect(await samplesOf('mcp_upstream_process_[a-z_]+')).toEqual([
      'mcp_upstream_process_resident_memory_bytes{upstream="files"} 4096',
      'mcp_upstream_process_cpu_seconds_total{upstream="files"} 2.5',
      'mcp_upstream_process_open_fds{upstream="files"} 7',
      'mcp_upstream_process_threads{upstream="files"} 3',
      'mcp_upstream_process_children{upstream="files"} 2',
      'mcp_upstream_process_orphans{upstream="files"} 1',
    ])
    expect(await samplesOf('mcp_heartbeat_interval_seconds')).toEqual([
      'mcp_heartbeat_interval_seconds{upstream="files",transport="stdio"} 12.5',
    ])
    expect(await samplesOf('mcp_heartbeat_last_success_timestamp_seconds')).toEqual([
      'mcp_heartbeat_last_success_timestamp_seconds{upstream="files",transport="stdio"} 1767225600.5',
    ])
    expect(await samplesOf('mcp_upstream_connections')).toEqual([
      'mcp_upstream_connections{upstream="files",state="active"} 1',
      'mcp_upstream_connections{upstream="files",state="idle"} 2',
      'mcp_upstream_connections{upstream="files",state="pending"} 0',
    ])
    expect(await samplesOf('mcp_upstream_state')).toEqual([
      'mcp_upstream_state{upstream="files",transport="stdio",state="starting"} 0',
      'mcp_upstream_state{upstream="files",transport="stdio",state="healthy"} 1',
      'mcp_upstream_state{upstream="files",transport="stdio",state="suspect"} 0',
      'mcp_upstream_state{upstream="files",transport="stdio",state="down"} 0',
      'mcp_upstream_state{upstream="files",transport="stdio",state="idle"} 0',
    ])
  })

  it('tell how much a server flaps as the penalty decays', async () => {
    const { upstreams, samplesOf } = pipeline()
    for (const flapPenalty of [1, 0.5]) {
      upstreams[0] = upstreamGauges({ flapPenalty })
      expect(await samplesOf('mcp_upstream_flap_penalty')).toEqual([
        `mcp_upstream_flap_penalty{upstream="files"} ${flapPenalty}`,
      ])
    }
  })

  it('let unavailable seconds advance while an outage lasts', async () => {
    const { upstreams, samplesOf } = pipeline()
    for (const unavailableSeconds of [0, 1.5, 4]) {
      upstreams[0] = upstreamGauges({ unavailableSeconds })
      expect(await samplesOf('mcp_upstream_unavailable_seconds_total')).toEqual([
        `mcp_upstream_unavailable_seconds_total{upstream="files"} ${unavailableSeconds}`,
      ])
    }
  })

  it('tell sessions, our load, the last reload and the build', async () => {
    const session = { upstream: 'files', transport: 'http', active: 2, withIssues: 1, messagesPending: 7 } as const
    const { render } = pipeline({ sources: { sessions: () => [session] } })
    const text = await render()
    expect(text).toContain('\nmcp_sessions_active{upstream="files",transport="http"} 2\n')
    expect(text).toContain('\nmcp_sessions_with_issues{upstream="files",transport="http"} 1\n')
    expect(text).toContain('\nmcp_session_messages_pending{upstream="files",transport="http"} 7\n')
    expect(text).toContain('\nmcp_vitals_load_ratio 0.25\n')
    expect(text).toContain('\nmcp_vitals_config_last_reload_successful 1\n')
    expect(text).toContain('\nmcp_vitals_config_last_reload_success_timestamp_seconds 1767225600\n')
    expect(text).toContain(`\nmcp_vitals_build_info{version="1.2.3",node_version="${process.versions.node}"} 1\n`)
  })
})

/**
 * Every metric that we export or will export. The OpenTelemetry names follow the semantic conventions for MCP where
 * those exist; liveness, intervals, restarts and availability are not covered there, so those names are ours. `family`
 * is what the OTLP → Prometheus translation makes of `instrument`, `unit` and `kind`, so a Collector gives the same
 * names as our own `/metrics`.
 */
export interface Metric {
  /** The OpenTelemetry instrument name. */
  readonly instrument: string
  /** The Prometheus family name. */
  readonly family: string
  readonly kind: 'histogram' | 'counter' | 'gauge'
  /** A UCUM unit; one in braces is a mere annotation, empty is none. */
  readonly unit: string
  /** Attribute keys; their Prometheus form is `labelName`. */
  readonly labels: readonly string[]
  readonly help: string
  /** Whether it is recorded today; only live metrics are created, exposed and documented. */
  readonly live: boolean
  /** Upper bounds of the buckets, for histograms. */
  readonly bounds?: readonly number[]
}

/** Our own attribute keys: already valid Prometheus label names. */
export const label = {
  upstream: 'upstream',
  transport: 'transport',
  leg: 'leg',
  method: 'method',
  outcome: 'outcome',
  state: 'state',
  from: 'from',
  to: 'to',
  reason: 'reason',
  what: 'what',
  version: 'version',
  nodeVersion: 'node_version',
  receiver: 'receiver',
  action: 'action',
} as const

/** Attribute keys of the OpenTelemetry semantic conventions (MCP, GenAI, RPC, network, errors). */
export const semconv = {
  method: 'mcp.method.name',
  protocolVersion: 'mcp.protocol.version',
  sessionId: 'mcp.session.id',
  resourceUri: 'mcp.resource.uri',
  requestId: 'jsonrpc.request.id',
  errorType: 'error.type',
  toolName: 'gen_ai.tool.name',
  promptName: 'gen_ai.prompt.name',
  genAiOperation: 'gen_ai.operation.name',
  rpcStatusCode: 'rpc.response.status_code',
  networkTransport: 'network.transport',
  networkProtocol: 'network.protocol.name',
  networkProtocolVersion: 'network.protocol.version',
  serverAddress: 'server.address',
  serverPort: 'server.port',
} as const

/** Buckets that the semantic conventions prescribe for operations and sessions, in seconds. */
export const operationBounds = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300] as const

/** Buckets of heartbeats, in seconds: finer at the low end, since a local stdio server answers within a millisecond. */
export const heartbeatBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10] as const

const operationLabels = [
  label.upstream,
  semconv.method,
  semconv.toolName,
  semconv.promptName,
  semconv.genAiOperation,
  semconv.errorType,
  semconv.rpcStatusCode,
  semconv.protocolVersion,
  semconv.networkTransport,
  semconv.networkProtocol,
  semconv.networkProtocolVersion,
] as const

const ofUpstream = [label.upstream, label.transport] as const

export const metrics = {
  serverOperationDuration: {
    instrument: 'mcp.server.operation.duration',
    family: 'mcp_server_operation_duration_seconds',
    kind: 'histogram',
    unit: 's',
    labels: operationLabels,
    bounds: operationBounds,
    live: true,
    help: 'Time from receiving an MCP request to the end of its answer, as its receiver sees it.',
  },
  clientOperationDuration: {
    instrument: 'mcp.client.operation.duration',
    family: 'mcp_client_operation_duration_seconds',
    kind: 'histogram',
    unit: 's',
    labels: [...operationLabels, semconv.serverAddress, semconv.serverPort],
    bounds: operationBounds,
    live: true,
    help: 'Time from sending an MCP request to the end of its answer, as its sender sees it.',
  },
  serverSessionDuration: {
    instrument: 'mcp.server.session.duration',
    family: 'mcp_server_session_duration_seconds',
    kind: 'histogram',
    unit: 's',
    labels: [label.upstream, semconv.networkTransport, semconv.protocolVersion, semconv.errorType],
    bounds: operationBounds,
    live: true,
    help: 'Length of ended client sessions.',
  },
  heartbeatDuration: {
    instrument: 'mcp.heartbeat.duration',
    family: 'mcp_heartbeat_duration_seconds',
    kind: 'histogram',
    unit: 's',
    labels: [label.upstream, label.transport, label.leg, label.method, label.outcome],
    bounds: heartbeatBounds,
    live: true,
    help: 'Round trip of heartbeats; one that was never answered counts with the time that it was waited for.',
  },
  heartbeats: {
    instrument: 'mcp.heartbeats',
    family: 'mcp_heartbeats_total',
    kind: 'counter',
    unit: '{heartbeat}',
    labels: [label.upstream, label.transport, label.leg, label.outcome],
    live: true,
    help: 'Heartbeats by what they came to.',
  },
  heartbeatInterval: {
    instrument: 'mcp.heartbeat.interval',
    family: 'mcp_heartbeat_interval_seconds',
    kind: 'gauge',
    unit: 's',
    labels: ofUpstream,
    live: true,
    help: 'Time between the starts of two heartbeats, as adapted now; absent while nobody is asked.',
  },
  heartbeatProbe: {
    instrument: 'mcp.heartbeat.probe.info',
    family: 'mcp_heartbeat_probe_info',
    kind: 'gauge',
    unit: '',
    labels: [...ofUpstream, label.method],
    live: true,
    help: 'Always 1; its method is the rung of the ladder in use: traffic while clients are answered, else what heartbeats ask, down to transport or process.',
  },
  heartbeatTimeout: {
    instrument: 'mcp.heartbeat.timeout',
    family: 'mcp_heartbeat_timeout_seconds',
    kind: 'gauge',
    unit: 's',
    labels: ofUpstream,
    live: true,
    help: 'Time that the next heartbeat is given to be answered.',
  },
  heartbeatLastSuccess: {
    instrument: 'mcp.heartbeat.last_success.timestamp',
    family: 'mcp_heartbeat_last_success_timestamp_seconds',
    kind: 'gauge',
    unit: 's',
    labels: ofUpstream,
    live: true,
    help: 'Unix time of the last answered heartbeat; absent before the first.',
  },
  upstreamUp: {
    instrument: 'mcp.upstream.up',
    family: 'mcp_upstream_up',
    kind: 'gauge',
    unit: '',
    labels: ofUpstream,
    live: true,
    help: '1 if the server answers, 0 if not; absent while idle, paused or disabled.',
  },
  upstreamSilentTogether: {
    instrument: 'mcp.upstream.silent_together',
    family: 'mcp_upstream_silent_together',
    kind: 'gauge',
    unit: '',
    labels: ofUpstream,
    live: true,
    help: '1 while the server is one of those that fell silent together (`mcp_vitals_correlated_failure`), else 0.',
  },
  upstreamState: {
    instrument: 'mcp.upstream.state',
    family: 'mcp_upstream_state',
    kind: 'gauge',
    unit: '',
    labels: [...ofUpstream, label.state],
    live: true,
    help: '1 for the state that the server is in, 0 for the others.',
  },
  upstreamUnavailable: {
    instrument: 'mcp.upstream.unavailable',
    family: 'mcp_upstream_unavailable_seconds_total',
    kind: 'counter',
    unit: 's',
    labels: [label.upstream],
    live: true,
    help: 'Time that the server was unavailable, back-dated to the first failed heartbeat of each outage.',
  },
  upstreamStateChanges: {
    instrument: 'mcp.upstream.state_changes',
    family: 'mcp_upstream_state_changes_total',
    kind: 'counter',
    unit: '{change}',
    labels: [label.upstream, label.from, label.to],
    live: true,
    help: 'Changes of state.',
  },
  upstreamFlapPenalty: {
    instrument: 'mcp.upstream.flap_penalty',
    family: 'mcp_upstream_flap_penalty',
    kind: 'gauge',
    unit: '',
    labels: [label.upstream],
    live: true,
    help: 'How much the server goes down and comes back: 1 for each outage, halved every five minutes.',
  },
  upstreamRestarts: {
    instrument: 'mcp.upstream.restarts',
    family: 'mcp_upstream_restarts_total',
    kind: 'counter',
    unit: '{restart}',
    labels: [label.upstream, label.reason],
    live: true,
    help: 'Processes that were started again, by reason.',
  },
  upstreamProcesses: {
    instrument: 'mcp.upstream.processes',
    family: 'mcp_upstream_processes',
    kind: 'gauge',
    unit: '{process}',
    labels: [label.upstream],
    live: true,
    help: 'Processes that we run for this server.',
  },
  processResidentMemory: {
    instrument: 'mcp.upstream.process.resident_memory',
    family: 'mcp_upstream_process_resident_memory_bytes',
    kind: 'gauge',
    unit: 'By',
    labels: [label.upstream],
    live: true,
    help: "Resident memory of the server's processes and all that they started; absent while none runs.",
  },
  processCpu: {
    instrument: 'mcp.upstream.process.cpu',
    family: 'mcp_upstream_process_cpu_seconds_total',
    kind: 'counter',
    unit: 's',
    labels: [label.upstream],
    live: true,
    help: "CPU time of the server's processes and all that they started, as of the last look before the end of each.",
  },
  processOpenFds: {
    instrument: 'mcp.upstream.process.open_fds',
    family: 'mcp_upstream_process_open_fds',
    kind: 'gauge',
    unit: '{fd}',
    labels: [label.upstream],
    live: true,
    help: "Open file descriptors of the server's processes and all that they started; absent while none runs.",
  },
  processThreads: {
    instrument: 'mcp.upstream.process.threads',
    family: 'mcp_upstream_process_threads',
    kind: 'gauge',
    unit: '{thread}',
    labels: [label.upstream],
    live: true,
    help: "Threads of the server's processes and all that they started; absent while none runs.",
  },
  processChildren: {
    instrument: 'mcp.upstream.process.children',
    family: 'mcp_upstream_process_children',
    kind: 'gauge',
    unit: '{process}',
    labels: [label.upstream],
    live: true,
    help: "What the server's processes started themselves and still runs; absent while none of them runs.",
  },
  processOrphans: {
    instrument: 'mcp.upstream.process.orphans',
    family: 'mcp_upstream_process_orphans',
    kind: 'gauge',
    unit: '{process}',
    labels: [label.upstream],
    live: true,
    help: 'Those of mcp_upstream_process_children whose own parent has gone; absent while none of its processes runs.',
  },
  upstreamConnections: {
    instrument: 'mcp.upstream.connections',
    family: 'mcp_upstream_connections',
    kind: 'gauge',
    unit: '{connection}',
    labels: [label.upstream, label.state],
    live: true,
    help: 'Connections to the server; pending are requests that wait for one.',
  },
  upstreamRequestsInFlight: {
    instrument: 'mcp.upstream.requests_in_flight',
    family: 'mcp_upstream_requests_in_flight',
    kind: 'gauge',
    unit: '{request}',
    labels: [label.upstream],
    live: true,
    help: 'Requests whose clients wait for the server.',
  },
  upstreamQueueLength: {
    instrument: 'mcp.upstream.queue_length',
    family: 'mcp_upstream_queue_length',
    kind: 'gauge',
    unit: '{request}',
    labels: [label.upstream],
    live: true,
    help: 'Requests that wait for their turn.',
  },
  upstreamCircuit: {
    instrument: 'mcp.upstream.circuit.state',
    family: 'mcp_upstream_circuit_state',
    kind: 'gauge',
    unit: '',
    labels: [label.upstream, label.state],
    live: true,
    help: '1 for the state of the circuit breaker in front of the server, 0 for the others.',
  },
  upstreamCircuitOpened: {
    instrument: 'mcp.upstream.circuit.opened',
    family: 'mcp_upstream_circuit_opened_total',
    kind: 'counter',
    unit: '',
    labels: [label.upstream],
    live: true,
    help: 'Times that the circuit breaker began to refuse requests to the server.',
  },
  upstreamTools: {
    instrument: 'mcp.upstream.tools',
    family: 'mcp_upstream_tools',
    kind: 'gauge',
    unit: '{tool}',
    labels: [label.upstream],
    live: true,
    help: 'Tools that the server lists; absent while unknown.',
  },
  upstreamInventoryChanges: {
    instrument: 'mcp.upstream.inventory_changes',
    family: 'mcp_upstream_inventory_changes_total',
    kind: 'counter',
    unit: '{change}',
    labels: [label.upstream],
    live: true,
    help: "Changes of the server's tool names or schemas.",
  },
  sessionsActive: {
    instrument: 'mcp.sessions.active',
    family: 'mcp_sessions_active',
    kind: 'gauge',
    unit: '{session}',
    labels: ofUpstream,
    live: true,
    help: "Client sessions that are open, by the client's transport.",
  },
  sessionsWithIssues: {
    instrument: 'mcp.sessions.with_issues',
    family: 'mcp_sessions_with_issues',
    kind: 'gauge',
    unit: '{session}',
    labels: ofUpstream,
    live: true,
    help: 'Client sessions of which one end stopped answering heartbeats, or whose server is unavailable.',
  },
  sessionMessagesPending: {
    instrument: 'mcp.session.messages_pending',
    family: 'mcp_session_messages_pending',
    kind: 'gauge',
    unit: '{message}',
    labels: ofUpstream,
    live: true,
    help: 'Messages of all sessions that wait to be delivered or answered.',
  },
  streamsOpen: {
    instrument: 'mcp.streams.open',
    family: 'mcp_streams_open',
    kind: 'gauge',
    unit: '{stream}',
    labels: ofUpstream,
    live: true,
    help: "Event streams that are open towards clients, by the client's transport.",
  },
  streamDuration: {
    instrument: 'mcp.stream.duration',
    family: 'mcp_stream_duration_seconds',
    kind: 'histogram',
    unit: 's',
    labels: [...ofUpstream, label.reason],
    bounds: operationBounds,
    live: true,
    help: 'How long event streams towards clients lasted, by why they ended: client_gone, client_behind (cut with 16 MiB unread), upstream_ended, upstream_error, replaced (by a newer one of its session), stalled (a time-out), shutdown.',
  },
  streamEvents: {
    instrument: 'mcp.stream.events',
    family: 'mcp_stream_events_total',
    kind: 'counter',
    unit: '{event}',
    labels: ofUpstream,
    live: true,
    help: 'Events that passed on these streams.',
  },
  buildInfo: {
    instrument: 'mcp_vitals.build_info',
    family: 'mcp_vitals_build_info',
    kind: 'gauge',
    unit: '',
    labels: [label.version, label.nodeVersion],
    live: true,
    help: 'Always 1; its labels tell what runs.',
  },
  configReloadSuccessful: {
    instrument: 'mcp_vitals.config.last_reload_successful',
    family: 'mcp_vitals_config_last_reload_successful',
    kind: 'gauge',
    unit: '',
    labels: [],
    live: true,
    help: '1 if the last attempt to load the configuration succeeded, else 0.',
  },
  configReloadTimestamp: {
    instrument: 'mcp_vitals.config.last_reload_success.timestamp',
    family: 'mcp_vitals_config_last_reload_success_timestamp_seconds',
    kind: 'gauge',
    unit: 's',
    labels: [],
    live: true,
    help: 'Unix time of the last successful load of the configuration.',
  },
  correlatedFailure: {
    instrument: 'mcp_vitals.correlated_failure',
    family: 'mcp_vitals_correlated_failure',
    kind: 'gauge',
    unit: '',
    labels: [],
    live: true,
    help: "1 while more than half of the servers fell silent together: the fault is ours or the network's, else 0.",
  },
  loadRatio: {
    instrument: 'mcp_vitals.load',
    family: 'mcp_vitals_load_ratio',
    kind: 'gauge',
    unit: '1',
    labels: [],
    live: true,
    help: 'Our own load, from 0 (none) to 1 (overloaded).',
  },
  shed: {
    instrument: 'mcp_vitals.shed',
    family: 'mcp_vitals_shed_total',
    kind: 'counter',
    unit: '{item}',
    labels: [label.what],
    live: true,
    help: 'What was given up because we were overloaded.',
  },
  labelOverflow: {
    instrument: 'mcp_vitals.label_overflow',
    family: 'mcp_vitals_label_overflow_total',
    kind: 'counter',
    unit: '{request}',
    labels: [label.upstream],
    live: true,
    help: 'Requests recorded as _overflow: their tool or prompt was never announced, or there are too many.',
  },
  unparsedMessages: {
    instrument: 'mcp_vitals.unparsed_messages',
    family: 'mcp_vitals_unparsed_messages_total',
    kind: 'counter',
    unit: '{message}',
    labels: [label.upstream],
    live: true,
    help: 'Messages that were forwarded, yet not measured: no JSON-RPC, too long a batch, an unknown encoding, or more requests at a time than are kept track of.',
  },
  forgotten: {
    instrument: 'mcp_vitals.forgotten',
    family: 'mcp_vitals_forgotten_total',
    kind: 'counter',
    unit: '{item}',
    labels: [label.what],
    live: true,
    help: 'What was not remembered, because so much of its kind was: sessions that are not kept track of (each of their requests counts), questions of servers that excuse no silence, ids of requests that were given up or cancelled, tools whose arguments headers repeat.',
  },
  rejectedRequests: {
    instrument: 'mcp_vitals.rejected_requests',
    family: 'mcp_vitals_rejected_requests_total',
    kind: 'counter',
    unit: '{request}',
    labels: [label.reason],
    live: true,
    help: 'Requests that a guard or a limit of ours refused, by error code.',
  },
  droppedSpans: {
    instrument: 'mcp_vitals.dropped_spans',
    family: 'mcp_vitals_dropped_spans_total',
    kind: 'counter',
    unit: '{span}',
    labels: [label.reason],
    live: true,
    help: 'Spans that never reached the collector: the queue was full, or the export failed.',
  },
  droppedMessages: {
    instrument: 'mcp_vitals.dropped_messages',
    family: 'mcp_vitals_dropped_messages_total',
    kind: 'counter',
    unit: '{message}',
    labels: [label.upstream, label.reason],
    live: true,
    help: 'Messages that could not be delivered because a limit was reached.',
  },
  notifications: {
    instrument: 'mcp_vitals.notifications',
    family: 'mcp_vitals_notifications_total',
    kind: 'counter',
    unit: '{notification}',
    labels: [label.receiver, label.outcome],
    live: true,
    help: 'Alerts sent to a receiver, by what came of it: sent, failed (tried again), rejected (given up), or dropped (no room, or no time).',
  },
  receivedAlerts: {
    instrument: 'mcp_vitals.received_alerts',
    family: 'mcp_vitals_received_alerts_total',
    kind: 'counter',
    unit: '{alert}',
    labels: [label.outcome],
    live: true,
    help: 'Alerts that came in at /alerts: recovery (see the next), or nothing to do: resolved, no_action (its name has none), or no_upstream (its label names none of ours).',
  },
  recoveries: {
    instrument: 'mcp_vitals.recoveries',
    family: 'mcp_vitals_recoveries_total',
    kind: 'counter',
    unit: '{recovery}',
    labels: [label.upstream, label.action, label.outcome],
    live: true,
    help: 'Recoveries that alerts asked for: started, refused (it cannot be done), limited (too soon after the last), or repeated (done for this alert already).',
  },
  notificationDuration: {
    instrument: 'mcp_vitals.notification.duration',
    family: 'mcp_vitals_notification_duration_seconds',
    kind: 'histogram',
    unit: 's',
    labels: [label.receiver],
    bounds: operationBounds,
    live: true,
    help: 'Time that a receiver of alerts took to answer a request, or was waited for.',
  },
  notificationQueueLength: {
    instrument: 'mcp_vitals.notification.queue_length',
    family: 'mcp_vitals_notification_queue_length',
    kind: 'gauge',
    unit: '{notification}',
    labels: [label.receiver],
    live: true,
    help: 'Alerts that wait to be sent to a receiver, those under way included; absent where there is no such receiver.',
  },
} as const satisfies Record<string, Metric>

/** The metrics that are created and exposed, in the order of exposition. */
export function liveMetrics(): readonly Metric[] {
  return Object.values<Metric>(metrics).filter((metric) => metric.live)
}

/** The Prometheus label that an attribute key becomes. Ours need only their dots replaced; a user's may hold anything. */
export function labelName(attributeKey: string): string {
  return attributeKey.replaceAll(/[^a-zA-Z0-9_]/g, '_').replace(/^(?=\d)/, '_')
}

/** The unit as Prometheus spells it, `undefined` for counts and flags. */
export function unitName(metric: Metric): string | undefined {
  return new Map([
    ['s', 'seconds'],
    ['By', 'bytes'],
    ['1', 'ratio'],
  ]).get(metric.unit)
}

/** The live metrics as the table of the README. */
export function metricsTable(): string {
  const rows = liveMetrics().map((metric) => {
    const labels = metric.labels.map((key) => `\`${labelName(key)}\``).join(' ')
    return `| \`${metric.family}\` | ${metric.kind} | ${unitName(metric) ?? ''} | ${labels} | ${metric.help} |`
  })
  return ['| name | type | unit | labels | meaning |', '|---|---|---|---|---|', ...rows].join('\n') + '\n'
}

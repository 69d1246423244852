import { z } from 'zod'
import { ownLabels } from '../alerts/messages.ts'
import { defaults } from '../defaults.ts'
import { probeMethods, probeModes } from '../heartbeat/probe.ts'
import { recoveryActions } from '../telemetry/instruments.ts'
import { restartPolicies } from '../upstreams/upstream.ts'
import { isHost, parseAddress } from './address.ts'

/** What the heartbeat block says where a file says nothing. */
export const heartbeatDefaults = {
  probe: 'active',
  probe_method: 'auto',
  heartbeat_interval_seconds: defaults.heartbeat.intervalSeconds,
  misses_to_down: defaults.heartbeat.missesToDown,
  min_timeout_seconds: defaults.heartbeat.minTimeoutMs / 1000,
  max_timeout_seconds: defaults.heartbeat.maxTimeoutMs / 1000,
  hang_idle_seconds: defaults.hang.silentMs / 1000,
  hang_spinning_seconds: defaults.hang.spinningMs / 1000,
  session_ping_seconds: defaults.heartbeat.sessionPingSeconds,
  ping_forwarded_sessions: false,
  client_ping_seconds: 0,
  session_timeout_seconds: defaults.heartbeat.sessionTimeoutSeconds,
  cleanup_interval_seconds: defaults.heartbeat.cleanupIntervalSeconds,
  heartbeat_log_interval_seconds: defaults.heartbeat.logIntervalSeconds,
  performance_monitoring: {
    enabled: true,
    response_time_threshold_ms: defaults.heartbeat.responseTimeThresholdMs,
    error_rate_threshold_percent: defaults.heartbeat.errorRateThresholdPercent,
  },
  adaptive_heartbeat: {
    enabled: true,
    min_interval_seconds: defaults.heartbeat.minIntervalSeconds,
    max_interval_seconds: defaults.heartbeat.maxIntervalSeconds,
    load_based_adjustment: true,
    error_based_adjustment: true,
  },
  logging: { enhanced_heartbeat_logging: true, include_client_info: true, structured_logging: true },
} as const

/** What the rest of a file says where it says nothing. */
export const fileDefaults = {
  listen: defaults.listen,
  admin_listen: defaults.adminListen,
  allow_unauthenticated: false,
  allowed_hosts: [] as readonly string[],
  allowed_origins: [] as readonly string[],
  max_body_bytes: defaults.maxBodyBytes,
  max_sessions: defaults.maxSessions,
  max_session_seconds: 0,
  stream_keep_alive_seconds: defaults.streamKeepAliveMs / 1000,
  config_check_seconds: defaults.configCheckMs / 1000,
  exposition: 'own',
  log: { level: 'info', format: 'auto' },
} as const

/** What the alerts block says where a file says nothing. */
export const alertsDefaults = {
  for_seconds: defaults.notifications.forSeconds,
  keep_firing_for_seconds: defaults.notifications.keepFiringForSeconds,
  labels: {} as Readonly<Record<string, string>>,
} as const

/** What the receive block says where a file says nothing. */
export const receiveDefaults = {
  min_interval_seconds: defaults.recoveries.minIntervalSeconds,
  drain_seconds: defaults.recoveries.drainSeconds,
} as const

export const upstreamDefaults = {
  resident: 'when_idle',
  process: 'per_session',
  spare_processes: 0,
  restart: 'always',
  max_memory_mb: 0,
  upstream_host: 'auto',
  stall_timeout_seconds: defaults.requests.stallTimeoutMs / 1000,
  request_timeout_seconds: defaults.requests.requestTimeoutMs / 1000,
  max_in_flight: defaults.requests.maxInFlight,
  max_queue: defaults.requests.maxQueue,
  queue_timeout_seconds: defaults.requests.queueTimeoutMs / 1000,
  max_connections: defaults.requests.maxConnections,
  circuit_breaker: defaults.requests.hasBreaker,
  inject_traceparent: false,
  disabled: false,
} as const

/** Keys of other programs that we cannot leave to the client, each with the reason. */
export const refusedKeys: Readonly<Record<string, string>> = {
  envFile: 'is not read; put its variables under env, as values or as ${VAR}',
  enabled: 'is not read; write disabled: true to leave a server alone',
}

/** Keys that a client reads from the same file: accepted, without any effect here. */
export const clientKeys = [
  'autoApprove',
  'alwaysAllow',
  'disabledTools',
  'includeTools',
  'excludeTools',
  'trust',
  'timeout',
  'description',
] as const

const day = 86_400
const week = 7 * day

/** An optional key; `preset` is only shown, resolve.ts fills it in once all files are merged. */
function setting<T extends z.ZodType>(type: T, description: string, preset?: unknown): z.ZodExactOptional<T> {
  return z.exactOptional(type).meta(preset === undefined ? { description } : { description, default: preset })
}

/** A text that `fault` finds nothing wrong with; a fault reads as the end of "`value` …". */
function text(fault: (value: string) => string | undefined): z.ZodString {
  return z.string().superRefine((value, context) => {
    const message = fault(value)
    if (message !== undefined) context.addIssue({ code: 'custom', message })
  })
}

const noNul = (value: string) => (value.includes('\0') ? 'holds a NUL character' : undefined)
const plain = text(noNul)
const nonEmpty = text((value) => (value.trim() === '' ? 'is empty' : noNul(value)))
const seconds = (most: number) => z.number().min(0.1).max(most)
/** A duration that 0 turns off; what waits for it looks at the time once a second. */
const coarseSeconds = (most: number) =>
  z
    .number()
    .min(0)
    .max(most)
    .refine((value) => value === 0 || value >= 1, 'is between 0 (off) and 1 second; write 0, or 1 or more')

const addressForm = 'is not an address: write host:port, [ipv6]:port, :port (every interface) or port (loopback)'
const address = text((value) => (parseAddress(value) ? undefined : addressForm))
const host = text((value) => (isHost(value) ? undefined : 'is not a host name: write it without scheme, port and path'))
const origin = text((value) =>
  URL.canParse(value) && new URL(value).origin === value.toLowerCase()
    ? undefined
    : 'is not an origin: write scheme://host or scheme://host:port, without a path (there is no wildcard)',
)
const url = text((value) => urlFault(value))
/** Of somebody whom we tell of alerts. */
const receiverUrl = text((value) => urlFault(value, 'bearer_file'))

const publicUrl = text(
  (value) => urlFault(value) ?? (value.includes('?') ? 'has a ?query, which no path can follow' : undefined),
)

function urlFault(value: string, place = 'headers instead (Authorization)'): string | undefined {
  const parsed = URL.canParse(value) ? new URL(value) : undefined
  if (parsed?.protocol !== 'http:' && parsed?.protocol !== 'https:') return 'is not an http:// or https:// URL'
  if (parsed.username !== '' || parsed.password !== '') {
    return `holds a user name or password: send credentials with ${place}`
  }
  return value.includes('#') ? 'has a #fragment, which is never sent to a server' : undefined
}

/** Fields that we set ourselves, or whose value is another hop's business. */
const ownHeaders = new Set([
  'connection',
  'content-length',
  'host',
  'keep-alive',
  'mcp-protocol-version',
  'mcp-session-id',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

// RFC 9110 §5.6.2 (token) and §5.5 (field values: visible characters, space, tab and obs-text).
const headerName = text((value) => {
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(value)) return 'holds a name that HTTP does not allow (RFC 9110 §5.6.2)'
  if (value.toLowerCase() === 'host') return 'sets Host: use upstream_host for that'
  return ownHeaders.has(value.toLowerCase()) ? `sets ${value}, which belongs to the connection` : undefined
})
const headerValue = text((value) =>
  /^[\t\x20-\x7e\x80-\xff]*$/.test(value) && value.trim() === value
    ? undefined
    : 'holds a character that HTTP does not allow in a header, or a space at either end (RFC 9110 §5.5)',
)
const variableName = text((value) =>
  /^[^=\0]+$/.test(value) ? undefined : 'holds a variable whose name is empty or has "=" or NUL in it',
)

// Prometheus, "Metric names and labels"; names that begin with __ are its own.
const alertLabel = text((value) => {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(value) || value.startsWith('__')) {
    return 'is not a name for a label: a letter or "_", then letters, digits and "_"'
  }
  return ownLabels.some((label) => label === value) ? 'sets a label that every alert has already' : undefined
})

const upstreamName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, {
  error: 'is not a name for an upstream: a letter or digit, then up to 62 of letters, digits, ".", "_" and "-"',
})

const heartbeatShape = {
  probe: setting(
    z.enum(probeModes),
    'Whether a server is asked: active; passive, where only what clients ask counts; or off, without any verdict.',
    heartbeatDefaults.probe,
  ),
  probe_method: setting(
    z.enum(probeMethods),
    'What it is asked: auto (server/discover, ping, else tools/list), tools/list, or transport (no MCP at all).',
    heartbeatDefaults.probe_method,
  ),
  heartbeat_interval_seconds: setting(
    seconds(day),
    'Seconds from the start of one probe to the start of the next; where the adaptive interval begins.',
    heartbeatDefaults.heartbeat_interval_seconds,
  ),
  misses_to_down: setting(
    z.int().min(1).max(100),
    'A server is down after so many missed heartbeats in a row.',
    heartbeatDefaults.misses_to_down,
  ),
  min_timeout_seconds: setting(
    seconds(300),
    'The shortest time-out of a heartbeat, however fast the server answers. Unless given it is at most max_timeout_seconds.',
    heartbeatDefaults.min_timeout_seconds,
  ),
  max_timeout_seconds: setting(
    seconds(300),
    'The longest, doubled while the server is down. Unless given it is at least min_timeout_seconds.',
    heartbeatDefaults.max_timeout_seconds,
  ),
  hang_idle_seconds: setting(
    seconds(day),
    'A process of ours hangs that answers no heartbeat, gives no output for this long and uses no processor: it is started again.',
    heartbeatDefaults.hang_idle_seconds,
  ),
  hang_spinning_seconds: setting(
    seconds(day),
    'The same where it uses the processor, without a client that waits for it.',
    heartbeatDefaults.hang_spinning_seconds,
  ),
  session_ping_seconds: setting(
    coarseSeconds(day),
    'A server behind a URL is asked inside a bridged session that was idle for this long; 0 never asks.',
    heartbeatDefaults.session_ping_seconds,
  ),
  ping_forwarded_sessions: setting(
    z.boolean(),
    "Whether that is done in forwarded sessions too, with the client's own credentials.",
    heartbeatDefaults.ping_forwarded_sessions,
  ),
  client_ping_seconds: setting(
    coarseSeconds(day),
    'A legacy client that holds a stream open is asked after its session was idle for this long; 0 never asks.',
    heartbeatDefaults.client_ping_seconds,
  ),
  session_timeout_seconds: setting(
    seconds(week),
    'A session without traffic, open stream or request under way for this long is ended.',
    heartbeatDefaults.session_timeout_seconds,
  ),
  cleanup_interval_seconds: setting(
    seconds(day),
    'How often forwarded sessions that were idle for that long are forgotten; one value for all upstreams.',
    heartbeatDefaults.cleanup_interval_seconds,
  ),
  heartbeat_log_interval_seconds: setting(
    seconds(day),
    'Routine successes are logged at most once per target in this time; failures always.',
    heartbeatDefaults.heartbeat_log_interval_seconds,
  ),
  performance_monitoring: setting(
    z.strictObject({
      enabled: setting(
        z.boolean(),
        'Whether slow answers and error rates count towards the verdict.',
        heartbeatDefaults.performance_monitoring.enabled,
      ),
      response_time_threshold_ms: setting(
        z.number().min(1).max(600_000),
        'An answer that takes longer than this is slow.',
        heartbeatDefaults.performance_monitoring.response_time_threshold_ms,
      ),
      error_rate_threshold_percent: setting(
        z.number().min(0.01).max(100),
        'An error rate above this is a sign of trouble.',
        heartbeatDefaults.performance_monitoring.error_rate_threshold_percent,
      ),
    }),
    'What counts as slow or failing.',
  ),
  adaptive_heartbeat: setting(
    z.strictObject({
      enabled: setting(
        z.boolean(),
        'Whether the interval follows the readings; otherwise it is fixed.',
        heartbeatDefaults.adaptive_heartbeat.enabled,
      ),
      min_interval_seconds: setting(
        seconds(day),
        'The interval under suspicion. Unless given it is at most heartbeat_interval_seconds.',
        heartbeatDefaults.adaptive_heartbeat.min_interval_seconds,
      ),
      max_interval_seconds: setting(
        seconds(day),
        'The interval when all is well. Unless given it is at least heartbeat_interval_seconds.',
        heartbeatDefaults.adaptive_heartbeat.max_interval_seconds,
      ),
      load_based_adjustment: setting(
        z.boolean(),
        'Whether slow answers shorten the interval, and our own overload lengthens it.',
        heartbeatDefaults.adaptive_heartbeat.load_based_adjustment,
      ),
      error_based_adjustment: setting(
        z.boolean(),
        'Whether failures shorten the interval.',
        heartbeatDefaults.adaptive_heartbeat.error_based_adjustment,
      ),
    }),
    'Between which bounds, and by what, the interval adapts.',
  ),
  logging: setting(
    z.strictObject({
      enhanced_heartbeat_logging: setting(
        z.boolean(),
        'Whether routine successes are logged too; failures and changes always are.',
        heartbeatDefaults.logging.enhanced_heartbeat_logging,
      ),
      include_client_info: setting(
        z.boolean(),
        'Whether heartbeat lines name the client (address and user agent).',
        heartbeatDefaults.logging.include_client_info,
      ),
      structured_logging: setting(
        z.boolean(),
        'Whether the log may be JSON; otherwise it is logfmt, whatever log.format says. One value for all upstreams.',
        heartbeatDefaults.logging.structured_logging,
      ),
    }),
    'What the heartbeat log lines hold.',
  ),
}

/** The keys of the heartbeat block, which may also stand bare at the top of a file. */
export const heartbeatKeys: readonly string[] = Object.keys(heartbeatShape)

const commandShape = {
  args: setting(z.array(plain), 'The arguments of the command; no shell reads them.'),
  env: setting(z.record(variableName, plain), 'Variables for the command, added to our own environment.'),
  cwd: setting(nonEmpty, 'The working directory of the command, relative to this file.'),
}

const clientSetting = setting(z.unknown(), 'For clients that read the same file; it has no effect here.')

const bearer = z.strictObject({
  bearer_file: setting(nonEmpty, 'A file that holds the token, and nothing else, relative to this file.'),
})

const oauth = z.strictObject({
  client_id: setting(nonEmpty, 'The name of our account at the authorization server.'),
  issuer: setting(url, 'The URL of the authorization server, which alone gets to see our secret.'),
  client_secret_file: setting(nonEmpty, 'A file that holds the secret of the account, relative to this file.'),
  private_key_file: setting(
    nonEmpty,
    'Instead of a secret, the key that signs for the account (PEM, without a passphrase, relative to this file).',
  ),
  scope: setting(nonEmpty, 'What we ask to be allowed, as words with spaces between them.'),
})

const upstream = z.strictObject({
  command: setting(nonEmpty, 'The program of a stdio server, found by PATH.'),
  ...commandShape,
  url: setting(url, 'The http or https address of a server that speaks Streamable HTTP or HTTP+SSE.'),
  httpUrl: setting(url, 'Same as url with type http.'),
  serverUrl: setting(url, 'Same as url.'),
  type: setting(
    z.enum(['stdio', 'sse', 'http', 'streamable-http', 'streamableHttp']),
    'The transport. Without it a command is stdio, a URL whose path ends in /sse is sse, any other is http.',
  ),
  transport: setting(z.enum(['stdio', 'sse', 'http', 'streamable-http', 'streamableHttp']), 'Same as type.'),
  headers: setting(
    z.record(headerName, headerValue),
    'Sent with every request to a url, in place of headers of the same name from the client.',
  ),
  heartbeat: setting(z.strictObject(heartbeatShape), 'What differs for this server from the heartbeat block above.'),
  resident: setting(
    z.enum(['always', 'when_idle', 'never']),
    'When a process of our own, for heartbeats and modern requests, runs beside the sessions (command only).',
    upstreamDefaults.resident,
  ),
  process: setting(
    z.enum(['per_session', 'shared']),
    'Whether each legacy client session has a process of its own, or all use the resident one (command only).',
    upstreamDefaults.process,
  ),
  spare_processes: setting(
    z.int().min(0).max(16),
    'How many processes to start ahead, so that a client’s initialize need not wait for one (command only).',
    upstreamDefaults.spare_processes,
  ),
  restart: setting(
    z.enum(restartPolicies),
    'Whether our process is started again when it ended: always; on_failure, unless it exited with code 0; or never (command or launch only).',
    upstreamDefaults.restart,
  ),
  max_memory_mb: setting(
    z.number().min(0).max(1_048_576),
    'A process of ours that uses more MiB of memory than this, with all that it started, is replaced; 0 is no limit (command or launch only).',
    upstreamDefaults.max_memory_mb,
  ),
  max_sessions: setting(
    z.int().min(1).max(100_000),
    'How many of the bridged sessions may be with this server. Unless given, max_sessions of all.',
  ),
  max_session_seconds: setting(
    coarseSeconds(week),
    'How old a bridged session with this server may get; 0 lets it last. Unless given, max_session_seconds of all.',
  ),
  upstream_host: setting(
    z.enum(['auto', 'client', 'upstream']),
    'Which Host header the server sees; auto is the client’s for loopback URLs, else that of the url (url only).',
    upstreamDefaults.upstream_host,
  ),
  stall_timeout_seconds: setting(
    coarseSeconds(day),
    'A request is given up when the server gives no sign for this long: no byte of the answer when it is forwarded, no message when it is bridged; 0 waits for ever.',
    upstreamDefaults.stall_timeout_seconds,
  ),
  request_timeout_seconds: setting(
    coarseSeconds(week),
    'A request is given up when its answer is not complete after this time; 0 waits for ever.',
    upstreamDefaults.request_timeout_seconds,
  ),
  max_in_flight: setting(
    z.int().min(1).max(100_000),
    'How many requests the server works on at the same time, those of all sessions together.',
    upstreamDefaults.max_in_flight,
  ),
  max_queue: setting(
    z.int().min(0).max(100_000),
    'How many more requests wait for their turn.',
    upstreamDefaults.max_queue,
  ),
  queue_timeout_seconds: setting(
    seconds(600),
    'How long a request waits for its turn before it is refused.',
    upstreamDefaults.queue_timeout_seconds,
  ),
  max_connections: setting(
    z.int().min(1).max(1_000_000),
    'How many connections to the server may be in use, streams included, before requests and streams are refused (url only).',
    upstreamDefaults.max_connections,
  ),
  circuit_breaker: setting(
    z.boolean(),
    'Whether requests are refused at once for a while after several before them failed.',
    upstreamDefaults.circuit_breaker,
  ),
  inject_traceparent: setting(
    z.boolean(),
    'Whether requests name our span in their `_meta`, so that what the server traces belongs to it. Changes the body.',
    upstreamDefaults.inject_traceparent,
  ),
  auth: setting(
    z.strictObject({
      bearer_file: setting(
        nonEmpty,
        'A file that holds the token, and nothing else, relative to this file; read again as it changes.',
      ),
      oauth: setting(oauth, 'The account by which we get tokens for ourselves (OAuth client credentials).'),
    }),
    'What we send to the server as Authorization, in place of the client’s (url only).',
  ),
  tls: setting(
    z.strictObject({
      ca_file: setting(nonEmpty, 'The certificates to trust, in place of the usual ones (PEM, relative to this file).'),
      cert_file: setting(nonEmpty, 'The certificate that we show, with its chain (PEM, relative to this file).'),
      key_file: setting(nonEmpty, 'The key of that certificate, without a passphrase (PEM, relative to this file).'),
      servername: setting(host, 'The name that the certificate must bear, in place of the host of the url.'),
    }),
    'How an https server and we recognise each other (url only).',
  ),
  launch: setting(
    z.strictObject({ command: setting(nonEmpty, 'The program, found by PATH.'), ...commandShape }),
    'The command that serves the url, for us to start and supervise (url only).',
  ),
  disabled: setting(z.boolean(), 'Whether to leave this server alone.', upstreamDefaults.disabled),
  autoApprove: clientSetting,
  alwaysAllow: clientSetting,
  disabledTools: clientSetting,
  includeTools: clientSetting,
  excludeTools: clientSetting,
  trust: clientSetting,
  timeout: clientSetting,
  description: clientSetting,
})

const receiver = z.strictObject({
  url: setting(receiverUrl, 'Where it is: the base URL of Alertmanager, the whole one of a webhook.'),
  bearer_file: setting(nonEmpty, 'A file that holds the token to send, and nothing else, relative to this file.'),
})

const alertName = text((value) =>
  /^[A-Za-z_:][A-Za-z0-9_:.-]{0,199}$/.test(value) ? undefined : 'is not a name for an alert',
)

const receive = z.strictObject({
  bearer_file: setting(
    nonEmpty,
    'A file that holds the token that POST /alerts must bring, and nothing else, relative to this file.',
  ),
  actions: setting(
    z.record(alertName, z.enum(recoveryActions)),
    'What to do to the server that an alert of this name is about.',
  ),
  min_interval_seconds: setting(
    z.number().min(1).max(day),
    'The least time between two starts of the same action on the same server.',
    receiveDefaults.min_interval_seconds,
  ),
  drain_seconds: setting(
    z.number().min(1).max(day),
    'How long a server that is drained gets nothing new.',
    receiveDefaults.drain_seconds,
  ),
})

const alerts = z.strictObject({
  for_seconds: setting(
    z.number().min(0).max(3600),
    'How long something must be wrong before anybody is told.',
    alertsDefaults.for_seconds,
  ),
  keep_firing_for_seconds: setting(
    z.number().min(0).max(3600),
    'How long it must be well again before the alert is over; what comes back sooner is the same alert.',
    alertsDefaults.keep_firing_for_seconds,
  ),
  labels: setting(z.record(alertLabel, nonEmpty), 'Labels to add to every alert.', alertsDefaults.labels),
  runbook_url: setting(url, 'Where the runbooks are; "/<alert name>.md" is added. Without it alerts name none.'),
  external_url: setting(
    publicUrl,
    'The URL under which people reach the admin listener, for links in alerts. Unless given, its address.',
  ),
  alertmanager: setting(receiver, 'The Alertmanager to tell, by its API (v2).'),
  webhook: setting(receiver, 'A webhook to tell as Alertmanager would.'),
  receive: setting(receive, 'Lets alerts come in at POST /alerts of the admin listener, and what they may do.'),
})

/** One configuration file, or several merged. */
export const fileSchema = z
  .strictObject({
    $schema: setting(z.string(), 'The JSON Schema of this file, for editors.'),
    listen: setting(address, 'Where MCP clients connect. Off loopback it needs auth.', fileDefaults.listen),
    admin_listen: setting(
      address,
      'Where metrics, health and debug pages are served. Off loopback it needs admin_auth.',
      fileDefaults.admin_listen,
    ),
    public_url: setting(
      publicUrl,
      'The URL under which clients reach the data listener; servers that want OAuth tokens are then known by it, and clients over HTTP+SSE POST below its path.',
    ),
    auth: setting(bearer, 'Who may use the data listener.'),
    allow_unauthenticated: setting(
      z.boolean(),
      'Lets anybody who reaches the data listener use every server, even off loopback. A stdio server is a program on this machine.',
      fileDefaults.allow_unauthenticated,
    ),
    admin_auth: setting(bearer, 'Who may use the admin listener, except for metrics and health.'),
    allowed_hosts: setting(
      z.array(host),
      'Host names that clients may use for us besides loopback names and the listen address.',
      fileDefaults.allowed_hosts,
    ),
    allowed_origins: setting(
      z.array(origin),
      'Origins of web pages that may call us besides our own.',
      fileDefaults.allowed_origins,
    ),
    max_body_bytes: setting(
      z
        .int()
        .min(1024)
        .max(1024 ** 3),
      'The longest request body that is accepted.',
      fileDefaults.max_body_bytes,
    ),
    max_sessions: setting(
      z.int().min(1).max(100_000),
      'How many bridged client sessions may be open at the same time, each with a process or connection of its own. Of several servers, none gets the last quarter while others have few.',
      fileDefaults.max_sessions,
    ),
    max_sessions_per_client: setting(
      z.int().min(1).max(100_000),
      'How many of them the clients of one address may have. Unless given, max_sessions.',
    ),
    max_session_seconds: setting(
      coarseSeconds(week),
      'A bridged session that is this old takes no new requests and ends after the last one under way; 0 lets it last.',
      fileDefaults.max_session_seconds,
    ),
    stream_keep_alive_seconds: setting(
      coarseSeconds(3600),
      'A client’s event stream that was silent for this long gets a comment, which clients ignore; 0 adds nothing.',
      fileDefaults.stream_keep_alive_seconds,
    ),
    config_check_seconds: setting(
      coarseSeconds(3600),
      'How often the files of the configuration are looked at; one that changed is loaded again. 0 never looks.',
      fileDefaults.config_check_seconds,
    ),
    exposition: setting(
      z.enum(['own', 'stock']),
      'Who writes /metrics: we (with exemplars), or OpenTelemetry’s own exporter.',
      fileDefaults.exposition,
    ),
    log: setting(
      z.strictObject({
        level: setting(
          z.enum(['debug', 'info', 'warn', 'error']),
          'The least important lines to write.',
          fileDefaults.log.level,
        ),
        format: setting(
          z.enum(['auto', 'json', 'logfmt']),
          'The form of a line; auto is logfmt on a terminal, else json.',
          fileDefaults.log.format,
        ),
      }),
      'Our own log.',
    ),
    alerts: setting(alerts, 'Whom to tell when servers fail, without Prometheus.'),
    heartbeat: setting(z.strictObject(heartbeatShape), 'How servers are heartbeated.'),
    ...heartbeatShape,
    mcpServers: setting(z.record(upstreamName, upstream), 'The servers, as in the configuration of any MCP client.'),
  })
  .meta({ title: 'mcp-vitals configuration' })

export type FileConfig = z.output<typeof fileSchema>
export type UpstreamEntry = z.output<typeof upstream>
export type OauthEntry = z.output<typeof oauth>
export type AlertsEntry = z.output<typeof alerts>
export type HeartbeatBlock = NonNullable<FileConfig['heartbeat']>

/** The keys of an upstream that bound what its server is asked at a time, and for how long. */
export type LimitKey =
  | 'stall_timeout_seconds'
  | 'request_timeout_seconds'
  | 'max_in_flight'
  | 'max_queue'
  | 'queue_timeout_seconds'
  | 'max_connections'
  | 'circuit_breaker'

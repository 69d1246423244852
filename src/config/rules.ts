import { alertNames } from '../alerts/names.ts'
import { formatAddress, isLoopback, parseAddress } from './address.ts'
import {
  type AlertsEntry,
  clientKeys,
  fileDefaults,
  type FileConfig,
  type HeartbeatBlock,
  type OauthEntry,
  type UpstreamEntry,
} from './schema.ts'
import { mergeHeartbeat } from './heartbeat.ts'
import { nearest } from './suggest.ts'
import type { Path } from './tree.ts'

/** What a rule over several values has to say. */
export interface Finding {
  readonly path: Path
  readonly message: string
  /** The parts it judged: if one of them is faulty already, the finding may be a consequence and is not told. */
  readonly reads: readonly Path[]
}

/** Everything that no single value shows to be wrong. */
export function findings(file: FileConfig): readonly Finding[] {
  return [
    ...listenerFindings(file),
    ...receiverFindings(file.alerts ?? {}),
    ...receiveFindings(file.alerts ?? {}),
    ...heartbeatFindings(file.heartbeat ?? {}, ['heartbeat'], [['heartbeat']]),
    ...Object.entries(file.mcpServers ?? {}).flatMap(([name, entry]) => upstreamFindings(name, entry, file)),
  ]
}

/** What is worth telling although nothing is wrong. */
export function remarks(file: FileConfig): readonly Finding[] {
  const upstreams = Object.entries(file.mcpServers ?? {})
  const found = upstreams.flatMap(([name, entry]) => upstreamRemarks(name, entry))
  if (file.auth?.bearer_file !== undefined && file.allow_unauthenticated === true) {
    found.push(remark(['allow_unauthenticated'], 'has no effect: auth.bearer_file is set, so a token is required'))
  }
  const { max_sessions: all = fileDefaults.max_sessions, max_sessions_per_client: perClient = 0 } = file
  if (perClient > all)
    found.push(remark(['max_sessions_per_client'], `${perClient} has no effect: max_sessions is ${all}`))
  for (const [name, { max_sessions: most = 0 }] of upstreams) {
    if (most > all)
      found.push(remark(['mcpServers', name, 'max_sessions'], `${most} has no effect: max_sessions of all is ${all}`))
  }
  if (file.auth?.bearer_file !== undefined && file.public_url !== undefined) {
    found.push(
      remark(['public_url'], 'has no effect: auth.bearer_file is set, so clients cannot show tokens to the servers'),
    )
  }
  for (const key of ['alertmanager', 'webhook'] as const) {
    const { url, bearer_file } = file.alerts?.[key] ?? {}
    if (url === undefined || bearer_file === undefined || !isOpenToListeners(new URL(url))) continue
    found.push(remark(['alerts', key], 'has a url that is not https: our token crosses the network in clear text'))
  }
  for (const name of Object.keys(file.alerts?.receive?.actions ?? {})) {
    const meant = alertNames.some((known) => known === name) ? undefined : nearest(name, alertNames)
    if (meant !== undefined) {
      found.push(remark(['alerts', 'receive', 'actions', name], `is no alert that ships here; did you mean ${meant}?`))
    }
  }
  if (upstreams.every(([, entry]) => entry.disabled === true)) {
    found.push(remark([], 'no server is enabled: there is nothing to watch'))
  }
  return found
}

function upstreamRemarks(name: string, entry: UpstreamEntry): Finding[] {
  const path = ['mcpServers', name]
  const ignored = clientKeys.filter((key) => entry[key] !== undefined)
  const found = ignored.map((key) => remark([...path, key], 'is left to the client; it has no effect here'))
  if (entry.env !== undefined && entry.command === undefined) {
    found.push(
      remark([...path, 'env'], 'has no effect beside a url; put it under launch if we are to start the server'),
    )
  }
  const issuer = entry.auth?.oauth?.issuer
  if (issuer !== undefined && isOpenToListeners(new URL(issuer))) {
    found.push(
      remark([...path, 'auth'], 'has an issuer that is not https: our secret crosses the network in clear text'),
    )
  }
  return [
    ...found,
    ...globalOnly(entry).map((key) =>
      remark([...path, 'heartbeat', ...key], 'has no effect for one upstream; set it in the main heartbeat block'),
    ),
  ]
}

function isOpenToListeners({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && !isLoopback({ host: hostname.replace(/^\[|\]$/g, ''), port: 0 })
}

/** What an upstream's heartbeat block sets although there is only one of it. */
function globalOnly({ heartbeat }: UpstreamEntry): Path[] {
  const found: Path[] = []
  if (heartbeat?.cleanup_interval_seconds !== undefined) found.push(['cleanup_interval_seconds'])
  if (heartbeat?.logging?.structured_logging !== undefined) found.push(['logging', 'structured_logging'])
  return found
}

function remark(path: Path, message: string): Finding {
  return { path, message, reads: [] }
}

function receiverFindings(alerts: AlertsEntry): readonly Finding[] {
  return (['alertmanager', 'webhook'] as const).flatMap((key) => {
    const path = ['alerts', key]
    const receiver = alerts[key]
    return receiver && receiver.url === undefined ? [{ path, message: 'has no url', reads: [path] }] : []
  })
}

function receiveFindings({ receive }: AlertsEntry): readonly Finding[] {
  const path = ['alerts', 'receive']
  if (!receive) return []
  const found: Finding[] = []
  if (receive.bearer_file === undefined) {
    const message = 'has no bearer_file: whoever reaches the admin listener could restart servers'
    found.push({ path, message, reads: [path] })
  }
  if (Object.keys(receive.actions ?? {}).length === 0) {
    found.push({ path, message: 'has no actions: nothing would follow from any alert', reads: [path] })
  }
  return found
}

function listenerFindings(file: FileConfig): readonly Finding[] {
  const listen = parseAddress(file.listen ?? fileDefaults.listen)
  const admin = parseAddress(file.admin_listen ?? fileDefaults.admin_listen)
  if (!listen || !admin) return []
  const found: Finding[] = []
  if (!isLoopback(listen) && file.auth?.bearer_file === undefined && file.allow_unauthenticated !== true) {
    found.push({
      path: ['listen'],
      message:
        `"${formatAddress(listen)}" is not a loopback address: set auth.bearer_file, or allow_unauthenticated: true` +
        ' (an open stdio server on a network is remote code execution)',
      reads: [['listen'], ['auth'], ['allow_unauthenticated']],
    })
  }
  if (!isLoopback(admin) && file.admin_auth?.bearer_file === undefined) {
    found.push({
      path: ['admin_listen'],
      message:
        `"${formatAddress(admin)}" is not a loopback address: set admin_auth.bearer_file` +
        ' (anybody on the network could see every session)',
      reads: [['admin_listen'], ['admin_auth']],
    })
  }
  if (listen.port !== 0 && formatAddress(listen) === formatAddress(admin)) {
    found.push({
      path: file.listen === undefined ? ['admin_listen'] : ['listen'],
      message: `"${formatAddress(listen)}" is the address of the data listener and of the admin listener; give each its own`,
      reads: [['listen'], ['admin_listen']],
    })
  }
  return found
}

/** Only bounds that were written can contradict: the others give way (see `mergeHeartbeat`). */
function heartbeatFindings(
  block: HeartbeatBlock,
  path: Path,
  reads: readonly Path[],
  below: HeartbeatBlock = {},
): readonly Finding[] {
  return [...timeoutFindings(block, path, reads, below), ...intervalFindings(block, path, reads, below)]
}

function timeoutFindings(
  block: HeartbeatBlock,
  path: Path,
  reads: readonly Path[],
  below: HeartbeatBlock,
): readonly Finding[] {
  const { min_timeout_seconds: min, max_timeout_seconds: max } = mergeHeartbeat([below, block])
  if (min <= max) return []
  const key = block.min_timeout_seconds === undefined ? 'max_timeout_seconds' : 'min_timeout_seconds'
  return [{ path: [...path, key], message: `min_timeout_seconds ${min} is above max_timeout_seconds ${max}`, reads }]
}

function intervalFindings(
  block: HeartbeatBlock,
  path: Path,
  reads: readonly Path[],
  below: HeartbeatBlock,
): readonly Finding[] {
  const { heartbeat_interval_seconds: interval, adaptive_heartbeat: adaptive } = mergeHeartbeat([below, block])
  if (!adaptive.enabled) return []
  const { min_interval_seconds: min, max_interval_seconds: max } = adaptive
  const own = block.adaptive_heartbeat
  const blamed = (key: 'min_interval_seconds' | 'max_interval_seconds') =>
    own?.[key] === undefined ? [...path, 'heartbeat_interval_seconds'] : [...path, 'adaptive_heartbeat', key]
  if (min > max) {
    const key = own?.min_interval_seconds === undefined ? 'max_interval_seconds' : 'min_interval_seconds'
    return [{ path: blamed(key), message: `min_interval_seconds ${min} is above max_interval_seconds ${max}`, reads }]
  }
  if (interval < min) {
    const message = `heartbeat_interval_seconds ${interval} is below min_interval_seconds ${min}`
    return [{ path: blamed('min_interval_seconds'), message, reads }]
  }
  if (interval > max) {
    const message = `heartbeat_interval_seconds ${interval} is above max_interval_seconds ${max}`
    return [{ path: blamed('max_interval_seconds'), message, reads }]
  }
  return []
}

function upstreamFindings(name: string, entry: UpstreamEntry, file: FileConfig): readonly Finding[] {
  const path = ['mcpServers', name]
  const reads = [path]
  const found = addressFaults(entry).map(([key, message]) => ({
    path: key === '' ? path : [...path, key],
    message,
    reads,
  }))
  if (!entry.heartbeat) return found
  const both = [path, ['heartbeat']]
  return [...found, ...heartbeatFindings(entry.heartbeat, [...path, 'heartbeat'], both, file.heartbeat)]
}

type Fault = readonly [key: keyof UpstreamEntry | '', message: string]

function addressFaults(entry: UpstreamEntry): readonly Fault[] {
  const urls = (['url', 'httpUrl', 'serverUrl'] as const).filter((key) => entry[key] !== undefined)
  const [first, second] = urls
  if (second !== undefined) return [[second, `is given beside ${first}; both are the address, keep one`]]
  if (first === undefined && entry.command === undefined) return [['', 'has neither command nor url; give one of them']]
  if (first === undefined) return commandFaults(entry)
  if (entry.command === undefined) return urlFaults(entry, first)
  return [
    [
      '',
      `has both command and ${first}; keep one, or put the command under launch for us to start what serves the url`,
    ],
  ]
}

function commandFaults(entry: UpstreamEntry): readonly Fault[] {
  const misplaced = (['headers', 'auth', 'tls', 'upstream_host', 'max_connections', 'launch'] as const).filter(
    (key) => entry[key] !== undefined,
  )
  return [
    ...misplaced.map((key): Fault => [key, 'is for a server with a url; this one has a command']),
    ...typeFaults(entry, (type) => (type === 'stdio' ? undefined : `"${type}" needs a url; this server has a command`)),
    ...processFaults(entry),
  ]
}

function processFaults({ process, resident, spare_processes: spares = 0 }: UpstreamEntry): readonly Fault[] {
  if (process !== 'shared') return []
  const faults: Fault[] = []
  if (resident === 'never') {
    faults.push(['resident', '"never" contradicts process: shared, in which the resident process serves the clients'])
  }
  if (spares > 0) {
    faults.push(['spare_processes', `${spares} contradicts process: shared, in which no session gets a process`])
  }
  return faults
}

function urlFaults(entry: UpstreamEntry, key: 'url' | 'httpUrl' | 'serverUrl'): readonly Fault[] {
  const faults: Fault[] = [
    ...(['args', 'cwd'] as const)
      .filter((name) => entry[name] !== undefined)
      .map((name): Fault => [name, 'belongs to a command; with a url it goes under launch']),
    ...typeFaults(entry, (type) => {
      if (type === 'stdio') return '"stdio" needs a command; this server has a url'
      return type === 'sse' && key === 'httpUrl' ? '"sse" contradicts httpUrl, which means http; use url' : undefined
    }),
    ...headerFaults(entry.headers ?? {}),
    ...credentialFaults(entry, new URL(entry[key] ?? '')),
  ]
  for (const name of ['resident', 'process', 'spare_processes'] as const) {
    if (entry[name] !== undefined) faults.push([name, 'is for a server with a command; this one has a url'])
  }
  for (const name of ['restart', 'max_memory_mb'] as const) {
    if (entry.launch || entry[name] === undefined) continue
    faults.push([name, 'is for a server that we start; this one has no launch'])
  }
  if (entry.launch && entry.launch.command === undefined) faults.push(['launch', 'has no command to start'])
  return faults
}

function credentialFaults({ auth, tls, headers = {} }: UpstreamEntry, url: URL): readonly Fault[] {
  const faults: Fault[] = []
  const isGiven = Object.keys(headers).some((name) => name.toLowerCase() === 'authorization')
  if ((auth?.bearer_file !== undefined || auth?.oauth) && isGiven) {
    faults.push(['auth', 'is given beside the header Authorization; keep one'])
  }
  if (auth?.bearer_file !== undefined && auth.oauth) faults.push(['auth', 'has bearer_file and oauth; keep one'])
  if (auth?.oauth) faults.push(...accountFaults(auth.oauth).map((message): Fault => ['auth', message]))
  if (tls && url.protocol !== 'https:') faults.push(['tls', 'is for an https url'])
  if ((tls?.cert_file === undefined) !== (tls?.key_file === undefined)) {
    faults.push(['tls', 'has only one of cert_file and key_file; a certificate needs its key'])
  }
  return faults
}

function accountFaults({ client_id, issuer, client_secret_file, private_key_file }: OauthEntry): readonly string[] {
  const faults: string[] = []
  if (client_id === undefined) faults.push('has an oauth block without client_id')
  if (issuer === undefined) faults.push('has an oauth block without issuer, the URL of the authorization server')
  if ((client_secret_file === undefined) === (private_key_file === undefined)) {
    faults.push('has an oauth block that needs either client_secret_file or private_key_file')
  }
  return faults
}

function typeFaults(entry: UpstreamEntry, fault: (type: string) => string | undefined): readonly Fault[] {
  if (entry.type !== undefined && entry.transport !== undefined) {
    return [['transport', 'is given beside type; both are the transport, keep one']]
  }
  const key = entry.type === undefined ? 'transport' : 'type'
  const given = entry[key]
  const message = given === undefined ? undefined : fault(given)
  return message === undefined ? [] : [[key, message]]
}

/** Names of headers do not differ by case (RFC 9110 §5.1), keys of a mapping do. */
function headerFaults(headers: Readonly<Record<string, string>>): readonly Fault[] {
  const names = Object.keys(headers).map((name) => name.toLowerCase())
  const repeated = names.find((name, index) => names.indexOf(name) !== index)
  return repeated === undefined ? [] : [['headers', `${repeated} is given twice; case makes no difference`]]
}

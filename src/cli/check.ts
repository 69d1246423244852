import { parseArgs } from 'node:util'
import { formatAddress } from '../config/address.ts'
import type { AlertsConfig, AuthConfig, Config, ReceiveConfig, UpstreamConfig } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { showUrl } from '../config/show.ts'
import { errorMessage, KnownError } from '../errors.ts'

export interface CheckIo {
  readonly stdout: (line: string) => void
  readonly stderr: (line: string) => void
  readonly env: Readonly<Record<string, string | undefined>>
}

const usage = 'usage: mcp-vitals check --config file [--config file …]'

/** `mcp-vitals check`: tells what a configuration comes to, or everything that is wrong with it. Gives the exit code. */
export function runCheck(argv: readonly string[], io: CheckIo): number {
  const files = configFiles(argv)
  if (files.kind === 'wrong') {
    io.stderr(files.message)
    io.stderr(usage)
    return 2
  }
  try {
    const { config, notices } = loadConfig({ files: files.files, env: io.env })
    for (const line of [...notices.map((notice) => `notice: ${notice}`), ...summary(config)]) io.stdout(line)
    io.stdout('configuration is valid')
    return 0
  } catch (error) {
    if (!(error instanceof KnownError)) throw error
    for (const line of error.message.split('\n')) io.stderr(line)
    return 1
  }
}

function configFiles(
  argv: readonly string[],
): { kind: 'files'; files: readonly string[] } | { kind: 'wrong'; message: string } {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { config: { type: 'string', multiple: true, short: 'c' } },
    })
    const files = values.config ?? []
    return files.length > 0 ? { kind: 'files', files } : { kind: 'wrong', message: 'no --config is given' }
  } catch (error) {
    return { kind: 'wrong', message: errorMessage(error).toLowerCase() }
  }
}

/** What a configuration comes to, without its secrets. */
export function summary(config: Config): readonly string[] {
  return [
    `data listener: ${formatAddress(config.listen)}, ${access(config.auth)}`,
    `admin listener: ${formatAddress(config.adminListen)}, ${access(config.adminAuth)}`,
    ...alertLines(config.alerts),
    ...config.upstreams.map(upstreamLine),
  ]
}

function alertLines({ alertmanager, webhook, receive }: AlertsConfig): readonly string[] {
  return [
    ...(alertmanager ? [`alerts go to Alertmanager at ${showUrl(alertmanager.url)}`] : []),
    ...(webhook ? [`alerts go to a webhook at ${new URL(webhook.url).origin}`] : []),
    ...(receive ? [`alerts that come in: ${actionsText(receive)}`] : []),
  ]
}

function actionsText({ actions }: ReceiveConfig): string {
  return Object.entries(actions)
    .map(([alert, action]) => `${action} for ${alert}`)
    .join(', ')
}

function access(auth: AuthConfig): string {
  return auth.bearerToken === undefined ? 'no token needed' : 'token needed'
}

function upstreamLine(upstream: UpstreamConfig): string {
  const { target, heartbeat, name } = upstream
  const where = target.transport === 'stdio' ? target.launch.command : showUrl(target.url.href)
  if (upstream.disabled) return `${name}: ${target.transport} ${where}, disabled`
  if (heartbeat.probe === 'passive') return `${name}: ${target.transport} ${where}, judged by what its clients meet`
  if (heartbeat.probe === 'off') return `${name}: ${target.transport} ${where}, no heartbeats`
  const { enabled, minIntervalMs, maxIntervalMs } = heartbeat.adaptive
  const range = enabled ? ` (adaptive ${minIntervalMs / 1000}–${maxIntervalMs / 1000} s)` : ''
  return `${name}: ${target.transport} ${where}, heartbeat every ${heartbeat.intervalMs / 1000} s${range}`
}

/** The real Alertmanager. */
import { createServer } from 'node:http'
import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { listenOn, stopped } from './mcp-server.ts'
import { startRealServer } from './real-server.ts'

export interface RunningAlertmanager {
  readonly url: string
  /** The answer of its HTTP API: `api('alerts')`. */
  api(path: string, parameters?: Readonly<Record<string, string>>): Promise<unknown>
  /** The end of what it has logged so far. */
  readonly output: () => string
  stop(): Promise<void>
}

/** One alert of `api('alerts')`. */
export interface ShownAlert {
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly startsAt: string
  readonly endsAt: string
  readonly fingerprint: string
  readonly generatorURL?: string
}

/** Tells nobody of anything. */
const silent = { route: { receiver: 'nobody' }, receivers: [{ name: 'nobody' }] }

/** Starts an Alertmanager, alone, with this configuration (an object, as its YAML). */
export async function startAlertmanager(program: string, config: object = silent): Promise<RunningAlertmanager> {
  const { url, get, output, stop } = await startRealServer({
    name: 'alertmanager',
    program,
    // YAML reads JSON.
    files: { 'alertmanager.yml': JSON.stringify(config) },
    args: (directory) => [
      `--config.file=${join(directory, 'alertmanager.yml')}`,
      `--storage.path=${join(directory, 'data')}`,
      '--cluster.listen-address=',
      '--log.level=debug',
    ],
  })
  const api = async (path: string, parameters: Readonly<Record<string, string>> = {}) =>
    (await get(`/api/v2/${path}?${new URLSearchParams(parameters).toString()}`)).json()
  return { url, api, output, stop }
}

/** One alert of a notification. */
export interface Notified {
  readonly status: 'firing' | 'resolved'
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** When it came, monotonic. */
  readonly atMs: number
}

export interface WebhookReceiver {
  /** A configuration for `startAlertmanager` that tells it of every alert at once. */
  readonly config: object
  /** In the order they came. */
  readonly notified: readonly Notified[]
  readonly stop: () => Promise<void>
}

/** Somebody whom an Alertmanager tells. */
export async function webhookReceiver(): Promise<WebhookReceiver> {
  const notified: Notified[] = []
  const http = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      const { alerts } = JSON.parse(body) as { alerts: Omit<Notified, 'atMs'>[] }
      notified.push(...alerts.map((alert) => ({ ...alert, atMs: systemClock.now() })))
      response.end()
    })
  })
  const url = `http://127.0.0.1:${await listenOn(http)}/`
  return {
    config: {
      route: { receiver: 'test', group_by: ['...'], group_wait: '0s', group_interval: '1s', repeat_interval: '1h' },
      receivers: [{ name: 'test', webhook_configs: [{ url, send_resolved: true }] }],
    },
    notified,
    stop: () => stopped(http),
  }
}

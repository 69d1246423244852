/** The real Alertmanager. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { eventually } from './eventually.ts'
import { listenOn, stopped } from './mcp-server.ts'
import { freePort } from './processes.ts'

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

/**
 * Starts an Alertmanager, alone, with this configuration (an object, as its YAML). It cannot choose its own port, so it
 * may need a second try.
 */
export async function startAlertmanager(program: string, config: object = silent): Promise<RunningAlertmanager> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(program, config)
    } catch (error) {
      if (attempt === 3) throw error
    }
  }
}

async function startOnce(program: string, config: object): Promise<RunningAlertmanager> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-alertmanager-'))
  const file = join(directory, 'alertmanager.yml')
  // YAML reads JSON.
  await writeFile(file, JSON.stringify(config))
  const address = `127.0.0.1:${await freePort()}`
  const child = spawn(
    program,
    [
      `--config.file=${file}`,
      `--storage.path=${join(directory, 'data')}`,
      `--web.listen-address=${address}`,
      '--cluster.listen-address=',
      '--log.level=debug',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  // Whoever ends without waiting for it leaves nothing behind.
  const end = () => void child.kill('SIGTERM')
  process.once('exit', end)
  let output = ''
  child.stderr.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-64 * 1024)))
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const stop = async () => {
    process.off('exit', end)
    child.kill('SIGTERM')
    await exited
    await rm(directory, { recursive: true, force: true })
  }
  const get = (path: string) => fetch(`http://${address}${path}`)
  try {
    await eventually(() => (child.exitCode === null ? get('/-/ready').then(({ ok }) => ok) : Promise.reject(output)), {
      what: `alertmanager is ready; it says: ${output}`,
    })
  } catch (error) {
    await stop()
    throw error
  }
  return {
    url: `http://${address}`,
    api: async (path, parameters = {}) =>
      (await get(`/api/v2/${path}?${new URLSearchParams(parameters).toString()}`)).json(),
    output: () => output,
    stop,
  }
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

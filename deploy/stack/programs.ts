/** Starts mcp-vitals, Alertmanager and Prometheus, each with what ships for it, and waits until it answers. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { z } from 'zod'
import { notificationReceiver } from './notifications.ts'
import type { Parts } from './parts.ts'
import { portNear } from './ports.ts'
import { alertmanagerConfig, prometheusConfig } from './shipped-config.ts'
import { logEvent } from './vitals-log.ts'
import { unlessAborted, until, untilOk } from './waiting.ts'

const root = join(import.meta.dirname, '../..')
const demo = join(root, 'deploy/demo/mcp-vitals.yaml')

export interface Context {
  readonly parts: Parts
  /** For everything that is written; it goes with the stack. */
  readonly folder: string
  readonly print: (line: string) => void
  /** Aborts when the stack is to stop. */
  readonly signal: AbortSignal
}

export interface Vitals {
  readonly adminUrl: string
  readonly upstreamUrls: ReadonlyMap<string, string>
}

/**
 * The demo where people expect it, on other ports where those are taken; or these configurations, whose ports are their
 * own business.
 */
export async function startVitals(context: Context, configs: readonly string[] | undefined): Promise<Vitals> {
  const { parts, folder, print, signal } = context
  // Its log is how we learn where it listens.
  const logging = join(folder, 'log.yaml')
  await writeFile(logging, 'log: { format: json }\nheartbeat: { logging: { structured_logging: true } }\n')
  const upstreamUrls = new Map<string, string>()
  const { promise: listening, resolve: isListening } = Promise.withResolvers<string>()
  parts.start({
    name: 'mcp-vitals',
    command: process.execPath,
    args: [
      join(root, 'src/cli/main.ts'),
      'serve',
      ...[...(configs ?? [demo]), logging].flatMap((file) => ['--config', file]),
    ],
    env: { PATH: ownNodeFirst(), ...(configs === undefined && (await demoPorts())) },
    onLine: (line) => {
      const event = logEvent(line)
      if (event.kind === 'listening') isListening(event.adminUrl)
      if (event.kind === 'upstream') upstreamUrls.set(event.name, event.url)
      if (event.kind === 'news') print(`mcp-vitals: ${event.text}`)
    },
  })
  const adminUrl = await unlessAborted(listening, signal)
  await untilOk(`${adminUrl}/-/ready`, signal)
  return { adminUrl, upstreamUrls }
}

async function demoPorts(): Promise<Record<string, string>> {
  return {
    MCP_VITALS_LISTEN: `127.0.0.1:${await portNear(7080)}`,
    MCP_VITALS_ADMIN_LISTEN: `127.0.0.1:${await portNear(9464)}`,
    DEMO_HTTP_PORT: String(await portNear(7101)),
    DEMO_SSE_PORT: String(await portNear(7102)),
    DEMO_MODERN_PORT: String(await portNear(7103)),
  }
}

/** The demo's `node` is the one that runs us. */
function ownNodeFirst(): string {
  return [dirname(process.execPath), process.env['PATH']].filter(Boolean).join(delimiter)
}

/** Resolves with its address; what it notifies of is printed. */
export async function startAlertmanager(context: Context, command: string): Promise<string> {
  const { parts, folder, print, signal } = context
  const receiver = await notificationReceiver(0, (line) => print(`alertmanager → ${line}`))
  signal.addEventListener('abort', receiver.close)
  const file = join(folder, 'alertmanager.yml')
  const shipped = await readFile(join(root, 'deploy/alertmanager/alertmanager.yml'), 'utf8')
  await writeFile(file, alertmanagerConfig(shipped, receiver.url))
  const address = `127.0.0.1:${await portNear(9093)}`
  parts.start({
    name: 'alertmanager',
    command,
    args: [
      `--config.file=${file}`,
      `--storage.path=${join(folder, 'alertmanager')}`,
      `--web.listen-address=${address}`,
      `--web.external-url=http://${address}/`,
      '--cluster.listen-address=',
      '--log.level=warn',
    ],
    onLine: (line) => print(`alertmanager: ${line}`),
  })
  await untilOk(`http://${address}/-/ready`, signal)
  return `http://${address}`
}

export interface Scraped {
  readonly adminUrl: string
  readonly alertmanagerUrl: string | undefined
  readonly wrappersFolder: string
}

/** Resolves with its address, once it has scraped mcp-vitals. */
export async function startPrometheus(context: Context, command: string, scraped: Scraped): Promise<string> {
  const { parts, folder, print, signal } = context
  const { adminUrl, alertmanagerUrl, wrappersFolder } = scraped
  await mkdir(wrappersFolder)
  const file = join(folder, 'prometheus.yml')
  const shipped = await readFile(join(root, 'deploy/prometheus/prometheus.yml'), 'utf8')
  const config = prometheusConfig(shipped, {
    admin: new URL(adminUrl).host,
    alertmanager: alertmanagerUrl === undefined ? undefined : new URL(alertmanagerUrl).host,
    rules: join(root, 'dashboards/rules/*.yaml'),
    wrappers: join(wrappersFolder, '*.json'),
  })
  await writeFile(file, config)
  const address = `127.0.0.1:${await portNear(9090)}`
  parts.start({
    name: 'prometheus',
    command,
    args: [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(folder, 'prometheus')}`,
      `--web.listen-address=${address}`,
      `--web.external-url=http://${address}/`,
      '--enable-feature=exemplar-storage',
      '--log.level=warn',
    ],
    onLine: (line) => print(`prometheus: ${line}`),
  })
  await untilOk(`http://${address}/-/ready`, signal)
  await until('Prometheus has scraped mcp-vitals', () => hasScraped(`http://${address}`, signal), signal)
  return `http://${address}`
}

const queryAnswer = z.object({ data: z.object({ result: z.array(z.unknown()) }) })

async function hasScraped(prometheusUrl: string, signal: AbortSignal): Promise<boolean> {
  const query = new URLSearchParams({ query: 'up{job="mcp-vitals"} == 1' })
  const answer = await fetch(`${prometheusUrl}/api/v1/query?${query.toString()}`, { signal })
  return queryAnswer.parse(await answer.json()).data.result.length > 0
}

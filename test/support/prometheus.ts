/** The real Prometheus and its promtool, and what a scrape says. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { TestContext } from 'vitest'
import type { RuleGroup } from '../../dashboards/src/rule.ts'
import { findExecutable } from '../../src/upstreams/executable.ts'
import { startRealServer } from './real-server.ts'

/** The Debian package that has each program. */
const packages = {
  prometheus: 'prometheus',
  promtool: 'prometheus',
  'prometheus-alertmanager': 'prometheus-alertmanager',
  amtool: 'prometheus-alertmanager',
} as const

/** Where a program is. Without it the test is skipped, saying what to install; in CI it fails. */
export function needed(context: TestContext, program: keyof typeof packages): string {
  const found = findExecutable(program, { path: process.env.PATH })
  if (found.kind === 'found') return found.path
  const advice = `${program} is not installed: apt-get install ${packages[program]}`
  if (process.env.CI) throw new Error(advice)
  process.stderr.write(`skipped: ${advice}\n`)
  return context.skip(advice)
}

/** What `promtool check metrics` says of a scrape; 0 and nothing is approval. */
export function checkMetrics(promtool: string, scrape: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(promtool, ['check', 'metrics'], { stdio: ['pipe', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output }))
    child.stdin.end(scrape)
  })
}

export interface RunningPrometheus {
  /** The `data` of an answer of its HTTP API: `api('query', { query: 'up' })`; its error is thrown. */
  api(path: string, parameters?: Readonly<Record<string, string>>): Promise<unknown>
  /** Its own metrics. */
  ownMetrics(): Promise<string>
  stop(): Promise<void>
}

export interface PrometheusOptions {
  /** How often it scrapes, and evaluates rules. */
  readonly everySeconds?: number
  readonly groups?: readonly RuleGroup[]
  /** The URL of the Alertmanager that it tells. */
  readonly alertmanager?: string
}

/** Starts a Prometheus that scrapes one target. */
export async function startPrometheus(
  program: string,
  target: string,
  { everySeconds = 1, groups = [], alertmanager }: PrometheusOptions = {},
): Promise<RunningPrometheus> {
  const every = `${everySeconds}s`
  const staticTarget = (url: string) => [{ targets: [new URL(url).host] }]
  const config = {
    global: { scrape_interval: every, scrape_timeout: '1s', evaluation_interval: every },
    scrape_configs: [{ job_name: 'mcp-vitals', static_configs: staticTarget(target) }],
    rule_files: ['rules.yml'],
    alerting: { alertmanagers: alertmanager === undefined ? [] : [{ static_configs: staticTarget(alertmanager) }] },
  }
  const { get, stop } = await startRealServer({
    name: 'prometheus',
    program,
    // YAML reads JSON.
    files: { 'prometheus.yml': JSON.stringify(config), 'rules.yml': JSON.stringify({ groups }) },
    args: (directory) => [
      `--config.file=${join(directory, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      '--enable-feature=exemplar-storage',
      '--log.level=error',
    ],
  })
  return {
    api: async (path, parameters = {}) => {
      const answer = await get(`/api/v1/${path}?${new URLSearchParams(parameters).toString()}`)
      const { data, error } = (await answer.json()) as { data?: unknown; error?: string }
      if (error !== undefined) throw new Error(`${path}: ${error}`)
      return data
    },
    ownMetrics: async () => (await get('/metrics')).text(),
    stop,
  }
}

/** One sample of a scrape. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  readonly exemplar?: { readonly labels: Readonly<Record<string, string>>; readonly value: number }
}

/** The samples of a scrape in either format. Label values of ours hold no escapes. */
export function samplesOf(scrape: string): Sample[] {
  return scrape.split('\n').flatMap((line) => {
    if (line === '' || line.startsWith('#')) return []
    const [, name = '', pairs = '', value, exemplarPairs, exemplarValue] =
      /^(\w+)(?:\{(.*?)\})? (\S+)(?: # \{(.*?)\} (\S+).*)?$/.exec(line) ?? []
    if (name === '') throw new Error(`no sample: ${line}`)
    const exemplar =
      exemplarPairs === undefined ? undefined : { labels: labelsOf(exemplarPairs), value: Number(exemplarValue) }
    return [{ name, labels: labelsOf(pairs), value: Number(value), ...(exemplar && { exemplar }) }]
  })
}

function labelsOf(pairs: string): Record<string, string> {
  return Object.fromEntries([...pairs.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]))
}

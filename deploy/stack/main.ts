/**
 * `npm run stack`: the demo servers behind mcp-vitals, a Prometheus with the shipped configuration and rules that
 * scrapes it, and an Alertmanager with the shipped routes whose notifications are printed. `-- --config FILE` runs
 * servers of yours in place of the demo's.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { errorMessage } from '../../src/errors.ts'
import { findExecutable } from '../../src/upstreams/executable.ts'
import { Parts } from './parts.ts'
import { type Context, startAlertmanager, startPrometheus, startVitals } from './programs.ts'
import { welcome } from './welcome.ts'

/** Why the stack ends, and with which exit code. */
interface End {
  readonly why: string
  readonly code: 0 | 1
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { config: { type: 'string', multiple: true, short: 'c' } } })
  const ending = new AbortController()
  const { promise: ended, resolve: end } = Promise.withResolvers<End>()
  onStopSignal((signal) => end({ why: `${signal}: stopping everything`, code: 0 }))
  const parts = new Parts((why) => end({ why: `${why}: stopping everything else`, code: 1 }))
  const folder = await mkdtemp(join(tmpdir(), 'mcp-vitals-stack-'))
  const running = started({ parts, folder, print, signal: ending.signal }, values.config).then(
    print,
    (error: unknown) => end({ why: errorMessage(error), code: 1 }),
  )
  const { why, code } = await ended
  print(`\n${why}`)
  ending.abort()
  await running
  await parts.stop()
  await rm(folder, { recursive: true, force: true })
  print('everything has stopped')
  return code
}

/** Starts what is installed; resolves with what to tell once all of it answers. */
async function started(context: Context, configs: readonly string[] | undefined): Promise<string> {
  const prometheus = installed('prometheus')
  // Debian calls it by the first name.
  const alertmanager = installed('prometheus-alertmanager') ?? installed('alertmanager')
  const wrappersFolder = join(context.folder, 'targets')
  const { adminUrl, upstreamUrls } = await startVitals(context, configs)
  const alertmanagerUrl = alertmanager === undefined ? undefined : await startAlertmanager(context, alertmanager)
  const prometheusUrl =
    prometheus === undefined
      ? undefined
      : await startPrometheus(context, prometheus, { adminUrl, alertmanagerUrl, wrappersFolder })
  return welcome({ adminUrl, upstreamUrls, prometheusUrl, alertmanagerUrl, wrappersFolder })
}

function installed(name: string): string | undefined {
  const found = findExecutable(name, { path: process.env['PATH'] })
  return found.kind === 'found' ? found.path : undefined
}

/** The first SIGINT, SIGTERM or SIGHUP stops the stack; a second one ends us at once, and the parts die with us. */
function onStopSignal(stop: (signal: NodeJS.Signals) => void): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      stop(signal)
      process.on(signal, () => process.exit(130))
    })
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

if (import.meta.main) process.exitCode = await main()

import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { systemClock } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { endpointChecks, metricsChecks, recoveryChecks, sessionChecks, upstreamChecks } from './selftest-checks.ts'
import type { Check, Complaint, Instance } from './selftest-instance.ts'
import { serve } from './serve.ts'

export interface SelftestIo {
  readonly stdout: (line: string) => void
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Together with the end of the instance, which our own server does not hold up, less than 20 seconds. */
const budgetMs = 17_000

/** The same for servers of somebody else, which may take their 8 seconds to stop. */
const budgetWithFilesMs = 11_000

/**
 * `mcp-vitals selftest`: tries everything out on a temporary instance, with the user's own configuration if one is
 * named, and tells what came of it, a line each. Gives the exit code: 0 if all is well.
 */
export async function selftest(argv: readonly string[], io: SelftestIo): Promise<number> {
  const files = configFiles(argv)
  const clock = systemClock
  const endsMs = clock.now() + (files.length === 0 ? budgetMs : budgetWithFilesMs)
  const outOfTime = new AbortController()
  const timer = clock.after(endsMs - clock.now(), () => outOfTime.abort())
  const tally = new Tally(io.stdout, outOfTime.signal)
  await tally.run(configurationChecks(files, io.env))
  await tryInstance({ files, env: io.env, clock, endsMs, signal: outOfTime.signal, tally })
  timer.cancel()
  io.stdout(`${tally.passed}/${tally.all} passed`)
  return tally.passed === tally.all ? 0 : 1
}

function configFiles(argv: readonly string[]): readonly string[] {
  try {
    const options = { config: { type: 'string', multiple: true, short: 'c' } } as const
    return parseArgs({ args: [...argv], options }).values.config ?? []
  } catch (error) {
    throw new KnownError('usage', errorMessage(error), { cause: error })
  }
}

/** Runs checks one after the other and tells each one's result at once. */
class Tally {
  passed = 0
  all = 0
  readonly #tell: (line: string) => void
  readonly #signal: AbortSignal

  constructor(tell: (line: string) => void, signal: AbortSignal) {
    this.#tell = tell
    this.#signal = signal
  }

  async run(checks: readonly Check[]): Promise<void> {
    for (const check of checks) this.note(check.name, await this.#complaintOf(check))
  }

  note(name: string, complaint: Complaint): void {
    this.all += 1
    if (complaint === undefined) this.passed += 1
    this.#tell(complaint === undefined ? `PASS ${name}` : `FAIL ${name}: ${oneLine(complaint)}`)
  }

  async #complaintOf({ run }: Check): Promise<Complaint> {
    if (this.#signal.aborted) return 'not tried: what came before took too long'
    try {
      return await run()
    } catch (error) {
      return errorMessage(error)
    }
  }
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, '; ')
}

function configurationChecks(files: readonly string[], env: SelftestIo['env']): readonly Check[] {
  const load = (name: string, text: string) => loadConfig({ files: [name], env: {}, readFile: () => text }).config
  const checks: readonly Check[] = [
    {
      name: 'configuration: the defaults load',
      run: () => {
        const { heartbeat, listen } = loadConfig({ files: [], env: {} }).config
        const isDefault =
          heartbeat.intervalMs === defaults.heartbeat.intervalSeconds * 1000 && listen.host === '127.0.0.1'
        return isDefault ? undefined : `an interval of ${heartbeat.intervalMs} ms on ${listen.host}`
      },
    },
    {
      name: 'configuration: a mistake is refused with its line and path',
      run: () => {
        const message = refusal(() => load('bad.yaml', 'heartbeat:\n  heartbeat_interval_seconds: often\n'))
        const isExact = message?.startsWith('bad.yaml:2: heartbeat.heartbeat_interval_seconds') ?? false
        return isExact ? undefined : `the message is ${JSON.stringify(message)}`
      },
    },
    {
      name: 'configuration: a file with nothing but the heartbeat block is valid',
      run: () => {
        const { heartbeat } = load('heartbeat.json', '{"heartbeat_interval_seconds": 20}')
        return heartbeat.intervalMs === 20_000 ? undefined : `the interval is ${heartbeat.intervalMs} ms`
      },
    },
  ]
  const own = {
    name: `configuration: ${files.join(', ')} is valid`,
    run: () => refusal(() => loadConfig({ files, env })),
  }
  return files.length === 0 ? checks : [...checks, own]
}

function refusal(load: () => unknown): string | undefined {
  try {
    load()
    return undefined
  } catch (error) {
    return errorMessage(error)
  }
}

interface Trial extends Pick<Instance, 'clock' | 'endsMs' | 'signal'> {
  readonly files: readonly string[]
  readonly env: SelftestIo['env']
  readonly tally: Tally
}

/** Starts the instance, tries everything on it, and stops it whatever came of that. */
async function tryInstance(trial: Trial): Promise<void> {
  const { tally } = trial
  const instance = await start(trial).catch((error: unknown) => errorMessage(error))
  tally.note('instance: starts', typeof instance === 'string' ? instance : undefined)
  if (typeof instance === 'string') return
  const session = sessionChecks(instance)
  const { config, server } = instance
  const others = config.upstreams.filter(({ name, disabled }) => name !== server && !disabled).map(({ name }) => name)
  await tally.run(upstreamChecks(instance, [server]))
  await tally.run(endpointChecks(instance))
  await tally.run(session.checks)
  await tally.run(metricsChecks(instance))
  await tally.run(recoveryChecks(instance))
  await tally.run(upstreamChecks(instance, others))
  await session.close()
  const { problems } = await instance.running.stop()
  tally.note('instance: stops', problems[0])
}

async function start({ files, env, clock, endsMs, signal }: Trial): Promise<Instance> {
  const server = unusedName(files.length === 0 ? [] : loadConfig({ files, env }).config.upstreams)
  const { config } = loadConfig({ files, env, extra: temporarySettings(server) })
  // Spans of a trial are no news for whoever collects the real ones.
  const quiet = { env: { ...env, OTEL_SDK_DISABLED: 'true' }, log: pino({ level: 'silent' }) }
  const running = await serve({ config, clock, ...quiet })
  return { running, config, server, clock, endsMs, signal }
}

function unusedName(upstreams: Config['upstreams']): string {
  const taken = new Set(upstreams.map(({ name }) => name))
  const names = ['selftest', ...upstreams.map((_, index) => `selftest-${index + 2}`)]
  return names.find((name) => !taken.has(name)) ?? 'selftest'
}

const beatSeconds = 0.5

/** Free ports, and a server of ours whose heart beats fast enough to be watched. */
function temporarySettings(server: string): Readonly<Record<string, unknown>> {
  const script = fileURLToPath(new URL(`./selftest-server${extname(import.meta.url)}`, import.meta.url))
  const heartbeat = {
    heartbeat_interval_seconds: beatSeconds,
    adaptive_heartbeat: { enabled: false, min_interval_seconds: beatSeconds, max_interval_seconds: beatSeconds },
  }
  return {
    listen: '127.0.0.1:0',
    admin_listen: '127.0.0.1:0',
    mcpServers: { [server]: { command: process.execPath, args: [script], heartbeat } },
  }
}

import { closeSync, openSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { commandLineLayer } from '../config/command-line.ts'
import { type Loaded, loadConfig } from '../config/load.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { createLogger } from '../log.ts'
import { packageVersion } from '../version.ts'
import { runCheck } from './check.ts'
import { type Running, serve } from './serve.ts'

const usage = `mcp-vitals: the vital signs of MCP servers

  mcp-vitals serve --config FILE [--config FILE …]   run with one or more configuration files
  mcp-vitals --url [NAME=]URL [--url …]              run in front of servers that listen already
  mcp-vitals [--name NAME] -- COMMAND ARGS…          run in front of a stdio server
  mcp-vitals stdio [OPTIONS] -- COMMAND ARGS…        be that stdio server, for the client that starts us in its place
  mcp-vitals stdio [OPTIONS] --url URL               be a stdio server that is really behind that URL
  mcp-vitals check --config FILE                     say whether a configuration is valid, and what it comes to
  mcp-vitals selftest                                try everything out on a temporary instance
  mcp-vitals --version | --help

Options of serve, which is also what runs when no command is named:
  -c, --config FILE       YAML or JSON; later files win; \${VAR} comes from the environment
      --url [NAME=]URL    an upstream behind a URL; one that ends in /sse is HTTP+SSE
      --name NAME         what the server after -- is called
      --listen ADDR       the data listener (127.0.0.1:7080)
      --admin-listen ADDR the admin listener (127.0.0.1:9464)

Options of stdio:
      --type http|sse     of the URL; else sse if it ends in /sse
      --header 'N: VALUE' sent to the URL with every request; \${VAR} comes from the environment
      --upstream NAME     a server of the --config files, in place of a command or a URL
      --name NAME         what the server is called in metrics
      --admin-listen ADDR where its metrics are (127.0.0.1:0, a free port); --no-admin: nowhere
      --targets-dir DIR   where a file tells Prometheus that address (file_sd_configs)
      --log-file FILE     where our log goes; else warnings and errors go to stderr
      --log-level LEVEL   debug, info, warn or error
  -c, --config FILE       its heartbeat, log and admin_auth settings count, and its servers for --upstream
`

/** Runs one command; resolves with the exit code: 0, 1 when it failed, 2 when it was called wrongly. */
export async function run(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv
  try {
    if (asksForHelp(argv)) {
      process.stdout.write(usage)
      return 0
    }
    switch (command) {
      case 'check':
        return runCheck(rest, { stdout: out, stderr: err, env: process.env })
      case 'selftest': {
        const { selftest } = await import('./selftest.ts')
        return await selftest(rest, { stdout: out, env: process.env })
      }
      case 'stdio': {
        const { runStdio } = await import('./stdio.ts')
        process.exit(await runStdio(rest, process.env))
      }
      case 'serve':
        return await runServe(rest)
      case '--version':
      case '-v':
        out(packageVersion())
        return 0
      case undefined:
        process.stderr.write(usage)
        return 2
      default:
        return await runServe(argv)
    }
  } catch (error) {
    if (!(error instanceof KnownError)) throw error
    for (const line of error.message.split('\n')) err(line)
    return error.code === 'usage' ? 2 : 1
  }
}

/** Behind `--` a `--help` is for the server. */
function asksForHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  const own = end === -1 ? argv : argv.slice(0, end)
  return own[0] === 'help' || own.includes('--help') || own.includes('-h')
}

function out(line: string): void {
  process.stdout.write(`${line}\n`)
}

function err(line: string): void {
  process.stderr.write(`${line}\n`)
}

async function runServe(argv: readonly string[]): Promise<number> {
  const { config, notices, files } = configured(argv)
  const isTerminal = process.stdout.isTTY
  const { structured } = config.heartbeat.logging
  const format = structured ? config.log.format : 'logfmt'
  const log = createLogger({ level: config.log.level, format, isTerminal })
  // Signals are heard from here on: one that comes while we start must not end us without our servers being stopped.
  const stopSignal = untilSignal(() => {
    if (isTerminal && !hasTerminal()) return true
    void reload()
    return false
  })
  for (const notice of notices) log.warn(notice)
  const starting = serve({ config, files, load: () => configured(argv), env: process.env, log })
  const reload = () =>
    starting.then(
      (running) => running.reload('signal'),
      () => undefined, // It did not start, which is told below.
    )
  const running = await starting
  if (isTerminal) out(welcome(running))
  const signal = await stopSignal
  log.info({ signal }, 'stopping')
  const { problems } = await running.stop()
  for (const problem of problems) log.error({ problem }, 'a step of the shutdown failed')
  log.info('stopped')
  await new Promise<void>((resolve) => log.flush(() => resolve()))
  process.exit(problems.length === 0 ? 0 : 1)
}

function configured(argv: readonly string[]): Loaded {
  const { values, positionals } = parsed(argv)
  const words = argv.indexOf('--')
  const command = words === -1 ? [] : argv.slice(words + 1)
  if (positionals.length > command.length) {
    throw new KnownError('usage', `unknown command "${positionals[0] ?? ''}"; see mcp-vitals --help`)
  }
  const urls = values.url ?? []
  const given = values.config ?? []
  const isBare = given.length + urls.length + command.length === 0
  const files = isBare && values['default-config'] !== undefined ? [values['default-config']] : given
  if (files.length + urls.length + command.length === 0) {
    throw new KnownError('usage', 'nothing to run: give --config, --url or -- command; see mcp-vitals --help')
  }
  const settings = {
    ...(values.listen !== undefined && { listen: values.listen }),
    ...(values['admin-listen'] !== undefined && { admin_listen: values['admin-listen'] }),
  }
  const name = values.name === undefined ? {} : { name: values.name }
  return loadConfig({ files, env: process.env, extra: commandLineLayer({ urls, command, settings, ...name }) })
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        config: { type: 'string', multiple: true, short: 'c' },
        'default-config': { type: 'string' },
        url: { type: 'string', multiple: true },
        name: { type: 'string' },
        listen: { type: 'string' },
        'admin-listen': { type: 'string' },
      },
    })
  } catch (error) {
    throw new KnownError('usage', errorMessage(error), { cause: error })
  }
}

/** What a person at a terminal wants to know first. */
function welcome({ adminUrl, upstreamUrls }: Running): string {
  const width = Math.max(0, ...[...upstreamUrls.keys()].map((name) => name.length))
  const lines = [...upstreamUrls].map(([name, url]) => `  ${name.padEnd(width)}  ${url}`)
  return [
    '',
    'mcp-vitals is running. Point your MCP client at',
    ...lines,
    'and look at',
    `  ${adminUrl}/                  every upstream at a glance`,
    `  ${adminUrl}/metrics           for Prometheus`,
    `  ${adminUrl}/debug/heartbeat   everything that is known, as JSON`,
    '',
  ].join('\n')
}

/** Whether the terminal that we were started from is still there. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}

/**
 * Resolves with the first SIGTERM or SIGINT; a second one ends the program at once. `onHangUp` hears each SIGHUP, and
 * says whether that is a reason to stop, too.
 */
function untilSignal(onHangUp: () => boolean): Promise<string> {
  return new Promise((resolve) => {
    process.on('SIGHUP', () => {
      if (onHangUp()) resolve('SIGHUP')
    })
    let isFirst = true
    const onSignal = (signal: NodeJS.Signals) => {
      if (!isFirst) process.exit(130)
      isFirst = false
      resolve(signal)
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}

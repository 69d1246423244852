import { isatty } from 'node:tty'
import { parseArgs } from 'node:util'
import { nameOfCommand, nameOfUrl } from '../config/command-line.ts'
import type { Config, UpstreamConfig } from '../config/config.ts'
import { substitute } from '../config/environment.ts'
import { loadConfig } from '../config/load.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { type Logger, createLogger } from '../log.ts'
import { boundedStderr, logFile } from './wrapper-log.ts'

/** What `mcp-vitals stdio` was told. */
export interface StdioOptions {
  readonly config: Config
  /** The server: a command to run, or a URL. */
  readonly upstream: UpstreamConfig
  readonly hasAdmin: boolean
  readonly targetsFolder: string | undefined
  readonly log: Logger
}

/** Throws `usage` or `config_invalid`. */
export function stdioOptions(argv: readonly string[], env: NodeJS.ProcessEnv): StdioOptions {
  const end = argv.indexOf('--')
  const given = parsed(end === -1 ? argv : argv.slice(0, end))
  const { name, entry } = serverOf(given, end === -1 ? [] : argv.slice(end + 1), env)
  const settings = { admin_listen: given['admin-listen'] ?? '127.0.0.1:0' }
  const extra = entry ? { ...settings, mcpServers: { [name]: entry } } : settings
  const { config, notices } = loadConfig({ files: given.config ?? [], env, extra })
  const upstream = config.upstreams.find((one) => one.name === name)
  if (!upstream) throw new KnownError('usage', `--upstream is "${name}", which ${among(config)}`)
  if (upstream.disabled) throw new KnownError('usage', `the server "${name}" is disabled`)
  if (upstream.target.transport !== 'stdio' && upstream.target.launch) {
    throw new KnownError('usage', `the server "${name}" has a launch command, which only mcp-vitals serve runs`)
  }
  const log = stdioLog(given['log-level'], given['log-file'], config)
  for (const notice of notices) log.info(notice)
  return { config, upstream, hasAdmin: given['no-admin'] !== true, targetsFolder: given['targets-dir'], log }
}

type Given = ReturnType<typeof parsed>

function parsed(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string', multiple: true, short: 'c' },
        url: { type: 'string' },
        type: { type: 'string' },
        header: { type: 'string', multiple: true },
        upstream: { type: 'string' },
        name: { type: 'string' },
        'admin-listen': { type: 'string' },
        'no-admin': { type: 'boolean' },
        'targets-dir': { type: 'string' },
        'log-level': { type: 'string' },
        'log-file': { type: 'string' },
      },
    })
    return values
  } catch (error) {
    throw new KnownError('usage', errorMessage(error), { cause: error })
  }
}

interface NamedServer {
  readonly name: string
  /** As a file would have it; undefined when a file does. */
  readonly entry?: Readonly<Record<string, unknown>>
}

/** The one server that is meant: a command, a URL, or one of the files'. */
function serverOf(given: Given, [command, ...args]: readonly string[], env: NodeJS.ProcessEnv): NamedServer {
  const { url, upstream, type, header, name } = given
  const ways = [command, url, upstream].filter((way) => way !== undefined)
  if (ways.length === 0) {
    throw new KnownError('usage', 'the server is missing: give -- COMMAND ARGS…, --url URL or --upstream NAME')
  }
  if (ways.length > 1) throw new KnownError('usage', 'give only one of -- COMMAND ARGS…, --url URL and --upstream NAME')
  if (url === undefined && (type !== undefined || header !== undefined)) {
    throw new KnownError('usage', '--type and --header belong to --url')
  }
  if (command !== undefined) return { name: name ?? nameOfCommand(command, args), entry: { command, args } }
  if (url !== undefined) {
    const headers = header && { headers: Object.fromEntries(header.map((one) => headerOf(one, env))) }
    return { name: name ?? nameOfUrl(url), entry: { url, ...(type !== undefined && { type }), ...headers } }
  }
  if (name !== undefined) throw new KnownError('usage', '--name and --upstream cannot be given together')
  return { name: upstream ?? '' }
}

/** `Name: value`. Clients start us without a shell, so variables are ours to replace. */
function headerOf(text: string, env: NodeJS.ProcessEnv): [name: string, value: string] {
  const { name, value } = /^(?<name>[^\s:]+):\s*(?<value>.*)$/s.exec(text)?.groups ?? {}
  if (name === undefined || value === undefined) {
    throw new KnownError('usage', '--header is not of the form "Name: value"')
  }
  const replaced = substitute(value, env)
  const [unset] = replaced.unset
  if (unset !== undefined) throw new KnownError('usage', `--header ${name}: the environment has no ${unset}`)
  if (replaced.malformed) throw new KnownError('usage', `--header ${name}: a \${…} in it is no variable`)
  return [name, replaced.text]
}

function among({ upstreams }: Config): string {
  const names = upstreams.map(({ name }) => name)
  return names.length === 0 ? 'no --config file names' : `is none of ${names.join(', ')}`
}

const levels = ['debug', 'info', 'warn', 'error'] as const

/**
 * Stdout belongs to the server. Clients show stderr as the server's own, so we are sparing with it, and do not open it
 * as a stream: Node would make it non-blocking for the server too.
 */
function stdioLog(level: string | undefined, file: string | undefined, { log, heartbeat }: Config): Logger {
  const chosen = level === undefined ? (file === undefined ? 'warn' : log.level) : levels.find((one) => one === level)
  if (!chosen) throw new KnownError('usage', `--log-level is "${level ?? ''}": not one of ${levels.join(', ')}`)
  const format = heartbeat.logging.structured ? log.format : 'logfmt'
  const stderr = { level: chosen, format, isTerminal: isatty(2), write: boundedStderr() }
  if (file === undefined) return createLogger(stderr)
  try {
    return createLogger({ level: chosen, format, isTerminal: false, write: logFile(file) })
  } catch (error) {
    const logger = createLogger(stderr)
    logger.warn(`--log-file cannot be opened: ${errorMessage(error)}`)
    return logger
  }
}

import { basename } from 'node:path'

export interface CommandLine {
  /** Each `url` or `name=url`. */
  readonly urls: readonly string[]
  /** What follows `--`: a program and its arguments. */
  readonly command?: readonly string[]
  /** The name of the command's upstream, instead of one made from the command. */
  readonly name?: string
  /** Other keys of the file format, such as `listen`. */
  readonly settings?: Readonly<Record<string, unknown>>
}

/** The upstreams of a command line in the file format, for `loadConfig` to lay over the files as `extra`. */
export function commandLineLayer(options: CommandLine): Readonly<Record<string, unknown>> {
  const servers = new Map<string, unknown>()
  const add = (name: string, entry: unknown) => servers.set(unusedName(name, servers), entry)
  for (const given of options.urls) {
    const { name, url } = /^(?:(?<name>[A-Za-z0-9][\w.-]*)=)?(?<url>.*)$/s.exec(given)?.groups ?? {}
    add(name ?? nameOfUrl(url ?? given), { url: url ?? given })
  }
  const [command, ...args] = options.command ?? []
  if (command !== undefined) add(options.name ?? nameOfCommand(command, args), { command, args })
  return servers.size > 0 ? { ...options.settings, mcpServers: Object.fromEntries(servers) } : { ...options.settings }
}

function unusedName(name: string, taken: ReadonlyMap<string, unknown>): string {
  for (let count = 1; ; count++) {
    const candidate = count === 1 ? name : `${name}-${count}`
    if (!taken.has(candidate)) return candidate
  }
}

/** `http://localhost:3000/mcp` is called localhost-3000. */
export function nameOfUrl(url: string): string {
  return cleanName(URL.canParse(url) ? new URL(url).host : '')
}

const launchers = new Set(['bun', 'bunx', 'deno', 'node', 'npx', 'pnpx', 'python', 'python3', 'tsx', 'uvx'])
const valuelessFlags = new Set(['-y', '--yes', '-q', '--quiet', '-u', '-m'])

/**
 * A package or script says more than the launcher that runs it: `npx -y @scope/server-files@1.2` is called
 * server-files. Behind a flag that we do not know may stand a secret, so the launcher's own name is taken then.
 */
export function nameOfCommand(command: string, args: readonly string[]): string {
  const program = basename(command).replace(/\.(exe|cmd|bat)$/i, '')
  const first = launchers.has(program) ? args.find((arg) => !valuelessFlags.has(arg)) : undefined
  const subject = first === undefined || first.startsWith('-') ? program : basename(first).replace(/(?<=.)@.*$/, '')
  return cleanName(subject.replace(/\.(js|mjs|cjs|ts|mts|py|sh)$/, ''))
}

function cleanName(text: string): string {
  const clean = text.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replaceAll(/^[._-]+|-+$/g, '')
  return clean.slice(0, 60) || 'upstream'
}

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, delimiter, join } from 'node:path'
import { repoRoot } from '../peers/spawn.ts'
import { eventually } from './eventually.ts'
import { programFile } from './program.ts'

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: Buffer
  readonly stderr: Buffer
}

/** A process whose output is kept, whether it is a server or a wrapper in front of one. */
export interface Kept {
  readonly child: ChildProcessWithoutNullStreams
  readonly stdout: () => string
  readonly stderr: () => string
  /** Everything, once it has ended and its pipes are closed. */
  readonly ended: Promise<Ended>
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/** Runs a command as a client would. */
export function run([command = '', ...args]: readonly string[], { env = {}, cwd = repoRoot }: RunOptions = {}): Kept {
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter)
  const child = spawn(command, args, { cwd, env: { ...process.env, PATH: path, ...env } })
  child.stdin.on('error', () => {}) // It may end before it has read all.
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) =>
      resolve({ code, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) }),
    )
  })
  ended.catch(() => {}) // Told to whoever waits for it.
  return {
    child,
    ended,
    stdout: () => Buffer.concat(stdout).toString(),
    stderr: () => Buffer.concat(stderr).toString(),
  }
}

/** The command line of a wrapper around a command. */
export function wrapped(command: readonly string[], options: readonly string[] = []): string[] {
  return [process.execPath, programFile('src/cli/main.ts'), 'stdio', ...options, '--', ...command]
}

/** The command line of a wrapper in front of a URL. */
export function wrappedUrl(url: string, options: readonly string[] = []): string[] {
  return [process.execPath, programFile('src/cli/main.ts'), 'stdio', ...options, '--url', url]
}

/** A folder for a wrapper's files, with a configuration that lets hearts beat every second; `settings` are added to it. */
export function wrapperFolder(settings: Readonly<Record<string, unknown>> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-wrapper-'))
  const config = join(folder, 'config.yaml')
  const own = { heartbeat_interval_seconds: 1, adaptive_heartbeat: { enabled: false } }
  writeFileSync(config, JSON.stringify({ ...own, ...settings }))
  const targets = join(folder, 'targets')
  const files = () => readdirSync(targets).filter((name) => name.endsWith('.json'))
  return {
    folder,
    targets,
    options: ['--config', config, '--targets-dir', targets],
    files,
    /** Where the one wrapper that is announced shows its metrics, and the labels that it is announced with. */
    announced: () =>
      eventually(
        () => {
          const [file] = files()
          if (file === undefined) return undefined
          const [group] = JSON.parse(readFileSync(join(targets, file), 'utf8')) as {
            readonly targets: readonly string[]
            readonly labels: Readonly<Record<string, string>>
          }[]
          return group && { adminUrl: `http://${group.targets[0]}`, labels: group.labels }
        },
        { what: 'a scrape target is announced' },
      ),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

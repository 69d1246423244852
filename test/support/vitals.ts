import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { jsonLine, startProcess } from '../peers/spawn.ts'

/** A running mcp-vitals with its two addresses. */
export interface RunningVitals {
  /** Where clients connect: `${dataUrl}/<upstream>/mcp` or `/sse`. */
  readonly dataUrl: string
  readonly adminUrl: string
  readonly pid: number
  /** The end of what it has logged so far. */
  readonly output: () => string
  /** SIGTERM, then SIGKILL when it does not end in time. */
  readonly stop: () => Promise<void>
}

export interface VitalsOptions {
  /** The configuration as an object; both listeners default to a free port on loopback. */
  readonly config: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string>>
  /** More arguments after `serve --config FILE`. */
  readonly args?: readonly string[]
}

interface Addresses {
  readonly dataUrl: string
  readonly adminUrl: string
}

/** Starts the real program with the given configuration and waits until both of its listeners are bound. */
export async function startVitals({ config, env = {}, args = [] }: VitalsOptions): Promise<RunningVitals> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-test-'))
  const file = join(directory, 'config.yaml')
  await writeFile(file, stringify({ listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', ...config }))
  const removeDirectory = () => rm(directory, { recursive: true, force: true })
  try {
    const running = await startProcess({
      args: ['src/cli/main.ts', 'serve', '--config', file, ...args],
      env,
      ready: addressCollector(),
    })
    const stop = async () => {
      await running.stop()
      await removeDirectory()
    }
    return { ...running.ready, pid: running.pid, output: running.output, stop }
  } catch (error) {
    await removeDirectory()
    throw new Error('mcp-vitals did not start', { cause: error })
  }
}

/** Gathers the two addresses, whether one `listening` line names both or each listener logs its own. */
function addressCollector(): (line: string) => Addresses | undefined {
  let dataUrl: string | undefined
  let adminUrl: string | undefined
  return (line) => {
    const entry = jsonLine(line)
    if (entry?.msg !== 'listening') return undefined
    if (typeof entry.data_url === 'string') dataUrl = entry.data_url.replace(/\/$/, '')
    if (typeof entry.admin_url === 'string') adminUrl = entry.admin_url.replace(/\/$/, '')
    return dataUrl !== undefined && adminUrl !== undefined ? { dataUrl, adminUrl } : undefined
  }
}

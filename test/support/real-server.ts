/** Starts a real server program that is told by a file, cannot choose its own port, and says at /-/ready that it runs. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.ts'
import { freePort } from '../../deploy/stack/ports.ts'

export interface RealServer {
  readonly url: string
  readonly get: (path: string) => Promise<Response>
  /** The end of what it has logged so far. */
  readonly output: () => string
  readonly stop: () => Promise<void>
}

export interface RealServerOptions {
  readonly name: string
  readonly program: string
  /** What is to be written into its folder, by name. */
  readonly files: Readonly<Record<string, string>>
  /** Its arguments, given its folder; its address is added. */
  readonly args: (directory: string) => readonly string[]
}

const keptChars = 64 * 1024

/** Another program may take the port before it does, so it gets a second try, and a third. */
export async function startRealServer(options: RealServerOptions): Promise<RealServer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options)
    } catch (error) {
      if (attempt === 3) throw error
    }
  }
}

async function startOnce({ name, program, files, args }: RealServerOptions): Promise<RealServer> {
  const directory = await mkdtemp(join(tmpdir(), `mcp-vitals-${name}-`))
  for (const [file, text] of Object.entries(files)) await writeFile(join(directory, file), text)
  const address = `127.0.0.1:${await freePort()}`
  const child = spawn(program, [...args(directory), `--web.listen-address=${address}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  // Whoever ends without waiting for it leaves nothing behind.
  const end = () => void child.kill('SIGTERM')
  process.once('exit', end)
  let output = ''
  child.stderr.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-keptChars)))
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const stop = async () => {
    process.off('exit', end)
    child.kill('SIGTERM')
    await exited
    await rm(directory, { recursive: true, force: true })
  }
  const url = `http://${address}`
  const get = (path: string) => fetch(url + path)
  try {
    await eventually(() => (child.exitCode === null ? get('/-/ready').then(({ ok }) => ok) : Promise.reject(output)), {
      what: `${name} is ready`,
    })
  } catch (error) {
    await stop()
    throw new Error(`${name} did not start; it says: ${output}`, { cause: error })
  }
  return { url, get, output: () => output, stop }
}

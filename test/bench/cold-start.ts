import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../deploy/stack/ports.ts'
import { programFile } from '../support/program.ts'
import { median } from './load.ts'
import { processUsage } from './proc.ts'

/** A way to start a proxy in front of `upstream`. */
export interface Start {
  readonly name: string
  readonly args: (upstream: string, port: number) => readonly string[]
  readonly path: string
  readonly env: Readonly<Record<string, string>>
}

/** Medians over all rounds. */
export interface ColdStart {
  readonly name: string
  /** From the spawn to the first answered `initialize`. */
  readonly elapsedMs: number
  /** What the process had used by then; undefined without /proc. */
  readonly cpuMs: number | undefined
  /** `elapsedMs` over that of the first one in the same round. */
  readonly ratio: number
}

/** The least that a proxy in JavaScript needs: what `bare-pipe.ts` does, without types to strip. */
const pipeScript = `
const { createServer, request } = require('node:http')
const [upstream, port] = [new URL(process.argv[1]), Number(process.argv[2])]
createServer((incoming, outgoing) => {
  const { hostname: host, port: to, pathname: path } = upstream
  const { method, headers } = incoming
  const asked = request({ host, port: to, path, method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.rawHeaders)
    answer.pipe(outgoing)
  })
  incoming.pipe(asked)
}).listen(port, '127.0.0.1')`

function vitalsArgs(upstream: string, port: number): readonly string[] {
  const listen = ['--listen', `127.0.0.1:${port}`, '--admin-listen', '127.0.0.1:0']
  return [programFile('src/cli/main.ts'), '--url', `u=${upstream}`, ...listen]
}

/** The bare pipe, and mcp-vitals as it starts for the first time and then every time. `cache` is an empty folder. */
export function starts(cache: string): readonly Start[] {
  const vitals = { args: vitalsArgs, path: '/u/mcp' }
  return [
    {
      name: 'pipe',
      args: (upstream, port) => ['-e', pipeScript, upstream, String(port)],
      path: '/mcp',
      env: {},
    },
    { ...vitals, name: 'vitals, nothing cached', env: { NODE_DISABLE_COMPILE_CACHE: '1' } },
    { ...vitals, name: 'vitals', env: { XDG_CACHE_HOME: cache } },
  ]
}

/** Starts each one in turn, as often as there are rounds; the first round only warms up. */
export async function coldStarts(all: readonly Start[], upstream: string, rounds: number): Promise<ColdStart[]> {
  const measured = all.map((start) => ({ start, runs: new Array<Awaited<ReturnType<typeof firstAnswer>>>() }))
  for (let round = 0; round <= rounds; round++) {
    for (const { start, runs } of measured) {
      const run = await firstAnswer(start, upstream)
      await ended(run.child)
      if (round > 0) runs.push(run)
    }
  }
  const reference = measured[0]?.runs ?? []
  return measured.map(({ start, runs }) => {
    const cpu = runs.flatMap(({ cpuMs }) => (cpuMs === undefined ? [] : [cpuMs]))
    return {
      name: start.name,
      elapsedMs: median(runs.map(({ elapsedMs }) => elapsedMs)),
      cpuMs: cpu.length === 0 ? undefined : median(cpu),
      ratio: median(runs.map(({ elapsedMs }, round) => elapsedMs / (reference[round]?.elapsedMs ?? Number.NaN))),
    }
  })
}

const restMs = 10_000
const scrapeMs = 5000

/** What a start weighs ten seconds later, scraped meanwhile as Prometheus would; undefined without /proc. */
export async function residentAtRest(start: Start, upstream: string): Promise<number | undefined> {
  const { child, output } = await firstAnswer(start, upstream)
  try {
    const adminUrl = /"admin_url":"([^"]+)"/.exec(output())?.[1]
    for (let waitedMs = 0; waitedMs < restMs; waitedMs += scrapeMs) {
      await sleep(scrapeMs)
      if (adminUrl !== undefined) await (await fetch(`${adminUrl}/metrics`)).text()
    }
    return processUsage(child.pid ?? 0)?.residentBytes
  } finally {
    await ended(child)
  }
}

const patienceMs = 60_000

async function firstAnswer({ args, path, env }: Start, upstream: string) {
  const port = await freePort()
  let output = ''
  // Each has the cache that it is given, if any.
  const { NODE_COMPILE_CACHE: _ours, ...inherited } = process.env
  const startedMs = performance.now()
  const child = spawn(process.execPath, args(upstream, port), {
    env: { ...inherited, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  while (!(await isInitialized(`http://127.0.0.1:${port}${path}`))) {
    if (child.exitCode !== null || performance.now() - startedMs > patienceMs) throw new Error('it does not start')
    await sleep(1)
  }
  const elapsedMs = performance.now() - startedMs
  const cpuSeconds = processUsage(child.pid ?? 0)?.cpuSeconds
  return { child, elapsedMs, cpuMs: cpuSeconds === undefined ? undefined : cpuSeconds * 1000, output: () => output }
}

const initialize = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } },
})

async function isInitialized(url: string): Promise<boolean> {
  try {
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
    const response = await fetch(url, { method: 'POST', headers, body: initialize })
    return response.ok && (await response.text()).includes('"result"')
  } catch {
    return false // Nobody listens yet.
  }
}

/** By SIGTERM, on which the compile cache is written. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

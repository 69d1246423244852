import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { startProcess } from '../peers/spawn.ts'
import type { Target } from './matrix.ts'
import { sessionTarget, sseTarget } from './targets.ts'

/** Other people's proxies, as npm has them; none is a dependency of ours. */
const packages = { 'mcp-proxy': '6.7.19', 'mcp-hub': '4.2.1', supergateway: '4.0.0' } as const
export type PeerPackage = keyof typeof packages

/** Where a peer was installed, or why it was not. */
export type Installed =
  | { readonly kind: 'installed'; readonly directory: string }
  | { readonly kind: 'missing'; readonly name: PeerPackage; readonly reason: string }

/** Installs each into a folder of its own, so that one that cannot be had does not hinder the others. */
export async function installPeers(into: string): Promise<Map<PeerPackage, Installed>> {
  const found = new Map<PeerPackage, Installed>()
  for (const name of Object.keys(packages) as PeerPackage[]) {
    const directory = join(into, name)
    const wanted = `${name}@${packages[name]}`
    process.stderr.write(`npm install --no-save --prefix ${directory} ${wanted}\n`)
    const reason = await npmInstall(directory, wanted)
    found.set(name, reason === undefined ? { kind: 'installed', directory } : { kind: 'missing', name, reason })
  }
  return found
}

/** Resolves with the reason when it fails. */
async function npmInstall(directory: string, wanted: string): Promise<string | undefined> {
  await mkdir(directory, { recursive: true })
  const args = ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', directory, wanted]
  const npm = spawn('npm', args, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  npm.stderr.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-1000)))
  try {
    const [code] = (await once(npm, 'close')) as [number | null]
    return code === 0 ? undefined : `npm ended with ${code}: ${output.trim()}`
  } catch (error) {
    return `npm could not be run: ${String(error)}`
  }
}

/** The server that peers stand in front of. */
export type Behind =
  { readonly kind: 'stdio'; readonly script: string } | { readonly kind: 'http'; readonly url: string }

/** One way to run a peer; what the command line does not say is the peer's default. */
interface PeerWay {
  readonly name: string
  readonly package: PeerPackage
  readonly fronts: Behind['kind']
  readonly entry: string
  /** `home` is an empty folder. */
  readonly args: (behind: Behind, port: number, home: string) => Promise<readonly string[]>
  /** Its clients speak Streamable HTTP, or HTTP+SSE. */
  readonly open: (place: { name: string; pid: number; url: string }) => Promise<Target>
}

/** All that can be compared: mcp-proxy and supergateway turn stdio servers into HTTP ones, mcp-hub fronts both. */
const ways: readonly PeerWay[] = [
  {
    name: 'mcp-proxy',
    package: 'mcp-proxy',
    fronts: 'stdio',
    entry: 'dist/bin/mcp-proxy.mjs',
    args: async (behind, port) => ['--port', String(port), '--', ...commandOf(behind)],
    open: (place) => sessionTarget(place),
  },
  {
    // Without --stateful it starts a process for each request.
    name: 'supergateway',
    package: 'supergateway',
    fronts: 'stdio',
    entry: 'dist/index.js',
    args: async (behind, port) => gatewayArgs(behind, port),
    open: (place) => sessionTarget(place),
  },
  {
    name: 'supergateway --stateful',
    package: 'supergateway',
    fronts: 'stdio',
    entry: 'dist/index.js',
    args: async (behind, port) => [...gatewayArgs(behind, port), '--stateful'],
    open: (place) => sessionTarget(place),
  },
  ...(['stdio', 'http'] as const).map((fronts): PeerWay => ({
    // Its clients speak HTTP+SSE; tools are named after their server.
    name: 'mcp-hub',
    package: 'mcp-hub',
    fronts,
    entry: 'dist/cli.js',
    args: async (behind, port, home) => {
      const [command = '', ...args] = commandOf(behind)
      const echo = behind.kind === 'http' ? { url: behind.url } : { command, args }
      const config = join(home, 'config.json')
      await writeFile(config, JSON.stringify({ mcpServers: { echo } }))
      return ['--port', String(port), '--config', config]
    },
    open: (place) => sseTarget(place, 'echo__echo'),
  })),
]

function commandOf(behind: Behind): readonly string[] {
  return behind.kind === 'stdio' ? [process.execPath, behind.script] : []
}

function gatewayArgs(behind: Behind, port: number): readonly string[] {
  return ['--stdio', commandOf(behind).join(' '), '--outputTransport', 'streamableHttp', '--port', String(port)]
}

/** Starts every peer that can stand in front of that server. */
export async function startPeers(
  installed: ReadonlyMap<PeerPackage, Installed>,
  behind: Behind,
  stops: (() => Promise<void>)[],
): Promise<Target[]> {
  const targets: Target[] = []
  for (const way of ways.filter(({ fronts }) => fronts === behind.kind)) {
    const where = installed.get(way.package)
    if (where?.kind !== 'installed') continue
    const port = await freePort()
    const home = join(where.directory, `home-${port}`)
    await mkdir(home, { recursive: true })
    const script = join(where.directory, 'node_modules', way.package, way.entry)
    const running = await startProcess({
      args: [script, ...(await way.args(behind, port, home))],
      env: { HOME: home, XDG_STATE_HOME: home, XDG_CONFIG_HOME: home },
      ready: () => true,
      termGraceMs: 3000,
    })
    stops.push(running.stop)
    targets.push(await way.open({ name: way.name, pid: running.pid, url: `http://127.0.0.1:${port}/mcp` }))
  }
  return targets
}

/** A port that was free a moment ago; these programs cannot be told to take one themselves and say which. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

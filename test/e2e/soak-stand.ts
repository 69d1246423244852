/** Where the clients of the soak test connect: to servers behind mcp-vitals, or, as a control, to the servers alone. */
import { listeningUrl, repoRoot, startProcess } from '../peers/spawn.ts'
import { compileCache, programFile } from '../support/program.ts'
import type { Place } from '../support/uniform-client.ts'
import { dialects, type Dialect } from './soak-clients.ts'
import { type RawRoute, type Route, type Server, type Transport, servers, transports } from './soak-lanes.ts'

/** What clients find. */
export interface Stand {
  /** Undefined if there is no such way. */
  placeOf(client: Transport, server: Server): Place | undefined
}

/** How a server of the soak test is started; the tag tells its processes from all others. */
export function soakServer(transport: Transport | 'stdio-modern', tag: string) {
  return {
    command: process.execPath,
    args: ['test/peers/soak-server.ts', transport, tag],
    cwd: repoRoot,
    env: compileCache,
  }
}

/**
 * What a server does to a connection that is idle: nothing. On a machine where our event loop hangs for seconds, a POST
 * meets the moment at which a server closes one, and gets 502 (README, "Limits, and what is not there yet").
 */
const patientServer = { KEEP_ALIVE_MS: '0' } as const

/** Where the servers listen that mcp-vitals starts. */
export type Urls = Readonly<Record<'http' | 'sse', string>>

export interface VitalsSetup {
  readonly tag: string
  readonly urls: Urls
  readonly idleSeconds: number
  readonly stallTimeoutMs: number
}

/** A server over each transport, and one process for all clients in each era. */
export function configuration({ tag, urls, idleSeconds, stallTimeoutMs }: VitalsSetup): Record<string, unknown> {
  const limits = { stall_timeout_seconds: stallTimeoutMs / 1000 }
  const launched = (type: 'http' | 'sse') => ({
    type,
    url: urls[type],
    ...limits,
    launch: { ...soakServer(type, tag), env: { PORT: new URL(urls[type]).port, ...patientServer } },
  })
  return {
    max_sessions: 500,
    heartbeat: {
      heartbeat_interval_seconds: 5,
      session_timeout_seconds: idleSeconds,
      cleanup_interval_seconds: 5,
    },
    mcpServers: {
      http: launched('http'),
      sse: launched('sse'),
      stdio: { ...soakServer('stdio', tag), ...limits, resident: 'always' },
      shared: { ...soakServer('stdio', tag), ...limits, process: 'shared' },
      'shared-modern': { ...soakServer('stdio-modern', tag), ...limits, process: 'shared' },
    },
  }
}

/** The servers of that configuration behind mcp-vitals, and those behind its wrapper. */
export function vitalsStand(dataUrl: string, { tag, urls }: Pick<VitalsSetup, 'tag' | 'urls'>): Stand {
  const wrapper = (...args: readonly string[]) => ({
    command: process.execPath,
    args: [programFile('src/cli/main.ts'), 'stdio', '--no-admin', ...args],
  })
  return {
    placeOf: (client, server) => {
      if (client === 'http') return `${dataUrl}/${server}/mcp`
      if (client === 'sse') return `${dataUrl}/${server}/sse`
      if (server === 'http' || server === 'sse') return wrapper('--url', urls[server])
      if (server !== 'stdio') return undefined // Who starts a command has it alone.
      const { command, args } = soakServer('stdio', tag)
      return wrapper('--', command, ...args)
    },
  }
}

/** The servers alone: what goes wrong here is theirs, their clients' or the test's. `marks` as in soak-server.ts. */
export async function directStand(
  tag: string,
  marks: readonly string[] = [],
): Promise<Stand & { stop(): Promise<void> }> {
  const start = (transport: 'http' | 'sse') =>
    startProcess({
      args: [...soakServer(transport, tag).args, ...marks],
      env: { PORT: '0', ...patientServer },
      ready: listeningUrl,
      termGraceMs: 2000,
    })
  const http = await start('http')
  const sse = await start('sse').catch(async (error: unknown) => {
    await http.stop()
    throw error
  })
  const { command, args } = soakServer('stdio', tag)
  const places: Readonly<Record<Transport, Place>> = {
    http: http.ready,
    sse: sse.ready,
    stdio: { command, args: [...args, ...marks] },
  }
  return {
    placeOf: (client, server) => (client === server ? places[client] : undefined),
    stop: async () => void (await Promise.all([http.stop(), sse.stop()])),
  }
}

/** Every pair of client and server that the protocol allows, with every official client that speaks it. */
export function routesOf(stand: Stand): Route[] {
  return pairsOf(stand).flatMap(({ client, server, place }) => {
    const spoken = dialects.filter((dialect) => isSpoken(eraOf(dialect), client, server))
    return spoken.map((dialect) => {
      const isOwnProcess = server === 'stdio' && (client === 'stdio' || dialect !== 'v2 modern')
      return { lane: `${client}→${server} ${dialect}`, client, server, dialect, place, isOwnProcess }
    })
  })
}

/** The same for clients that speak HTTP by hand. */
export function rawRoutesOf(stand: Stand, kind: string): RawRoute[] {
  return pairsOf(stand).flatMap(({ client, server, place }) => {
    if (client === 'stdio' || typeof place !== 'string') return []
    const eras = (['legacy', 'modern'] as const).filter((era) => isSpoken(era, client, server))
    return eras.map((era) => ({ lane: `${client}→${server} ${era} ${kind}`, client, era, server, url: place }))
  })
}

function pairsOf(stand: Stand) {
  return servers.flatMap((server) =>
    transports.flatMap((client) => {
      const place = stand.placeOf(client, server)
      return place === undefined ? [] : [{ client, server, place }]
    }),
  )
}

function eraOf(dialect: Dialect): 'legacy' | 'modern' {
  return dialect === 'v2 modern' ? 'modern' : 'legacy'
}

/** 2026-07-28 knows no HTTP+SSE, and a process speaks one era with all of its clients. */
function isSpoken(era: 'legacy' | 'modern', client: Transport, server: Server): boolean {
  if (server === 'shared-modern') return era === 'modern' && client === 'http'
  return era === 'legacy' || (client !== 'sse' && server !== 'sse' && server !== 'shared')
}

/** The official server-everything (SDK v1, legacy era) in its HTTP modes, on a free loopback port. */
import { listeningUrl, startProcess, type RunningProcess } from './spawn.ts'

const serverEverything = 'node_modules/@modelcontextprotocol/server-everything/dist/index.js'

/** The command that serves it over stdio, for `mcpServers`. */
export const everythingStdio = { command: process.execPath, args: [serverEverything, 'stdio'] } as const

/** Starts `sse` (ready = its `/sse` URL) or `streamableHttp` (ready = its `/mcp` URL). */
export function startEverything(mode: 'sse' | 'streamableHttp'): Promise<RunningProcess<string>> {
  const preloads = ['./deploy/demo/loopback-only.mjs', './test/peers/announce-port.mjs']
  return startProcess({
    args: [...preloads.flatMap((file) => ['--import', file]), serverEverything, mode],
    env: { PORT: '0', ANNOUNCE_PATH: mode === 'sse' ? '/sse' : '/mcp' },
    ready: listeningUrl,
    termGraceMs: 2000,
  })
}

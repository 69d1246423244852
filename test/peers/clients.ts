/** Official clients of both SDK lines, and the official command-line inspector, as one-call helpers for tests. */
import { execFile } from 'node:child_process'
import {
  Client as ModernClient,
  SSEClientTransport as ModernSseTransport,
  StreamableHTTPClientTransport as ModernHttpTransport,
  type ClientOptions,
} from '@modelcontextprotocol/client'
import { Client as LegacyClient } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { ClientOptions as LegacyClientOptions } from '@modelcontextprotocol/sdk/client/index.js'
import { jsonLine, repoRoot } from './spawn.ts'

const clientInfo = { name: 'mcp-vitals-test', version: '1.0.0' }

/** Connects an SDK v1 client (legacy era only); `sse` URLs end in `/sse`, all others are Streamable HTTP. */
export async function connectV1(url: string, options: LegacyClientOptions = {}): Promise<LegacyClient> {
  const client = new LegacyClient(clientInfo, options)
  const target = new URL(url)
  const transport = isSseUrl(url) ? new SSEClientTransport(target) : new StreamableHTTPClientTransport(target)
  await client.connect(transport)
  return client
}

/** Which era an SDK v2 client speaks: `auto` asks `server/discover` first, `modern` accepts nothing but 2026-07-28. */
export type ClientEra = 'legacy' | 'auto' | 'modern'

/** Connects an SDK v2 client; an `/sse` URL only makes sense with `legacy`. */
export async function connectV2(url: string, era: ClientEra, options: ClientOptions = {}): Promise<ModernClient> {
  const mode = era === 'modern' ? { pin: '2026-07-28' } : era
  const client = new ModernClient(clientInfo, { ...options, versionNegotiation: { mode } })
  const target = new URL(url)
  await client.connect(isSseUrl(url) ? new ModernSseTransport(target) : new ModernHttpTransport(target))
  return client
}

function isSseUrl(url: string): boolean {
  return new URL(url).pathname.endsWith('/sse')
}

const inspector = 'node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js'

/**
 * Runs `mcp-inspector --cli` against a URL and returns the result it printed: `inspectorCli(url, ['--method',
 * 'tools/list'])`. The era is `auto` unless the arguments name a `--protocol-era`. Fails with the inspector's own error.
 */
export async function inspectorCli(url: string, args: readonly string[], timeoutMs = 30_000): Promise<unknown> {
  const transport = isSseUrl(url) ? 'sse' : 'http'
  const era = args.includes('--protocol-era') ? [] : ['--protocol-era', transport === 'sse' ? 'legacy' : 'auto']
  const command = [inspector, '--cli', url, '--transport', transport, ...era, '--quiet', '--format', 'json', ...args]
  const { stdout, stderr } = await run(command, timeoutMs)
  const envelope = jsonLine(stdout)
  if (!envelope || !('result' in envelope)) throw new Error(`mcp-inspector printed no result: ${stdout}${stderr}`)
  return envelope.result
}

function run(args: readonly string[], timeoutMs: number): Promise<{ stdout: string; stderr: string }> {
  const options = { cwd: repoRoot, timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 }
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, args, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`mcp-inspector failed: ${stderr.trim() || error.message}`, { cause: error }))
      else resolve({ stdout, stderr })
    })
    child.stdin?.end()
  })
}

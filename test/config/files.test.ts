import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { configJsonSchema } from '../../src/config/json-schema.ts'
import { loadConfig } from '../../src/config/load.ts'
import { parseFile } from '../../src/config/parse.ts'
import type { Tree } from '../../src/config/tree.ts'

const folder = join(import.meta.dirname, 'files')
const env = { HOME: '/home/ada', TOKEN: 'canary-token', CANARY: 'canary-value' }
const secret = (name: string) => readFileSync(join(folder, 'secrets', name), 'utf8')
const load = (...names: string[]) => loadConfig({ files: names.map((name) => join(folder, name)), env })

/** What a file that says nothing about them means. */
const limits = {
  stallTimeoutMs: 60_000,
  requestTimeoutMs: 600_000,
  maxInFlight: 1024,
  maxQueue: 128,
  queueTimeoutMs: 3000,
  maxConnections: 4096,
  hasBreaker: true,
}

describe('a good file', () => {
  it('gives every field', () => {
    const { config, notices, files } = load('good.yaml')
    const heartbeat = {
      probe: 'passive',
      probeMethod: 'tools/list',
      intervalMs: 20_000,
      missesToDown: 4,
      minTimeoutMs: 1500,
      maxTimeoutMs: 8000,
      hang: { silentMs: 90_000, spinningMs: 300_000 },
      sessionTimeoutMs: 600_000,
      sessionPingMs: 90_000,
      pingForwardedSessions: true,
      clientPingMs: 45_000,
      cleanupIntervalMs: 120_000,
      logIntervalMs: 30_000,
      performanceMonitoring: { enabled: false, responseTimeThresholdMs: 500, errorRateThresholdRatio: 0.025 },
      adaptive: { enabled: true, minIntervalMs: 10_000, maxIntervalMs: 60_000, loadBased: false, errorBased: false },
      logging: { enhanced: false, clientInfo: false, structured: false },
    }
    expect(config).toEqual({
      listen: { host: '::1', port: 7081 },
      adminListen: { host: '', port: 9465 },
      publicUrl: new URL('https://vitals.example.com/mcp-vitals'),
      auth: { bearerToken: 'canary-good-token' },
      allowUnauthenticated: false,
      adminAuth: { bearerToken: 'canary-good-token' },
      allowedHosts: ['vitals.example.com'],
      allowedOrigins: ['https://vitals.example.com'],
      maxBodyBytes: 1_048_576,
      maxSessions: 25,
      maxSessionsPerClient: 10,
      streamKeepAliveMs: Infinity,
      configCheckMs: Infinity,
      exposition: 'stock',
      log: { level: 'debug', format: 'json' },
      alerts: {
        forMs: 30_000,
        keepFiringForMs: 0,
        labels: { cluster: 'prod' },
        runbookUrl: 'https://wiki.example.com/runbooks',
        externalUrl: 'https://vitals.example.com',
        alertmanager: { url: 'http://127.0.0.1:9093/am', bearerToken: 'canary-good-token' },
        webhook: { url: 'http://hooks.example.com/T0001', bearerToken: 'canary-good-token' },
        receive: {
          bearerToken: 'canary-good-token',
          actions: { McpUpstreamDown: 'restart', HighLatency: 'drain' },
          minIntervalMs: 120_000,
          drainMs: 30_000,
        },
      },
      heartbeat,
      upstreams: [
        {
          name: 'files',
          disabled: true,
          heartbeat,
          supervision: { restart: 'on_failure', maxMemoryBytes: 536_870_912 },
          injectsTraceparent: false,
          maxSessions: 5,
          maxSessionMs: Infinity,
          target: {
            transport: 'stdio',
            launch: {
              command: 'npx',
              args: ['-y', '@modelcontextprotocol/server-filesystem', '/home/ada/files', '--port', '8080'],
              env: { TOKEN: 'canary-token', VERSION: '1.10', LITERAL: '${HOME}' },
              cwd: join(folder, 'work'),
            },
            resident: 'always',
            process: 'per_session',
            limits: { ...limits, stallTimeoutMs: 600_000 },
            spareProcesses: 2,
          },
        },
        {
          name: 'web',
          disabled: false,
          supervision: { restart: 'always', maxMemoryBytes: Infinity },
          injectsTraceparent: true,
          maxSessions: 25,
          maxSessionMs: 3_600_000,
          heartbeat: {
            ...heartbeat,
            intervalMs: 30_000,
            adaptive: { ...heartbeat.adaptive, enabled: false },
            logging: { ...heartbeat.logging, clientInfo: true },
          },
          target: {
            transport: 'http',
            url: new URL('https://mcp.example.com/mcp?tenant=7'),
            headers: { Authorization: 'Bearer canary-token' },
            upstreamHost: 'client',
            limits: {
              stallTimeoutMs: Infinity,
              requestTimeoutMs: 1_800_000,
              maxInFlight: 8,
              maxQueue: 0,
              queueTimeoutMs: 500,
              maxConnections: 500,
              hasBreaker: false,
            },
            launch: { command: './serve', args: ['--quiet'], env: { PORT: '3000' }, cwd: '/srv' },
          },
        },
        {
          name: 'search',
          disabled: false,
          heartbeat,
          supervision: { restart: 'always', maxMemoryBytes: Infinity },
          injectsTraceparent: false,
          maxSessions: 25,
          maxSessionMs: 3_600_000,
          target: {
            transport: 'http',
            url: new URL('https://search.example.com/mcp'),
            headers: {},
            credentials: {
              kind: 'bearer_file',
              file: join(folder, 'secrets/good.token'),
              token: 'canary-good-token',
            },
            upstreamHost: 'auto',
            limits,
            tls: {
              ca: secret('client.pem'),
              cert: secret('client.pem'),
              key: secret('client.key'),
              servername: 'search.internal',
            },
          },
        },
        {
          name: 'events',
          disabled: false,
          heartbeat,
          supervision: { restart: 'always', maxMemoryBytes: Infinity },
          injectsTraceparent: false,
          maxSessions: 25,
          maxSessionMs: 3_600_000,
          target: {
            transport: 'sse',
            url: new URL('http://localhost:3000/sse'),
            headers: {},
            credentials: {
              kind: 'client_credentials',
              clientId: 'vitals',
              issuer: 'https://login.example.com/tenant',
              scope: 'read write',
              proof: { kind: 'secret', secret: 'canary-good-token' },
            },
            upstreamHost: 'auto',
            limits,
          },
        },
        {
          name: 'signed',
          disabled: false,
          heartbeat,
          supervision: { restart: 'always', maxMemoryBytes: Infinity },
          injectsTraceparent: false,
          maxSessions: 25,
          maxSessionMs: 3_600_000,
          target: {
            transport: 'http',
            url: new URL('http://localhost:3000/mcp'),
            headers: {},
            credentials: {
              kind: 'client_credentials',
              clientId: 'vitals',
              issuer: 'http://login.example.com',
              proof: { kind: 'private_key', pem: secret('client.key'), algorithm: 'ES256' },
            },
            upstreamHost: 'auto',
            limits,
          },
        },
      ],
    })
    expect(notices.map((notice) => notice.replace(/.*good\.yaml:\d+: /, ''))).toEqual([
      `public_url: has no effect: auth.bearer_file is set, so clients cannot show tokens to the servers`,
      `alerts.webhook: has a url that is not https: our token crosses the network in clear text`,
      `mcpServers.signed.auth: has an issuer that is not https: our secret crosses the network in clear text`,
    ])
    const first = [...Array<string>(6).fill('good.token'), 'client.pem', 'client.pem', 'client.key']
    const read = [...first, 'good.token', 'client.key']
    expect(files).toEqual([join(folder, 'good.yaml'), ...read.map((name) => join(folder, 'secrets', name))])
  })

  it('may be the file of any MCP client, and tells which keys it leaves to the client', () => {
    const { config, notices } = load('client.json')
    expect(config.upstreams.map(({ name, target }) => [name, target.transport])).toEqual([
      ['notes', 'stdio'],
      ['search', 'http'],
      ['docs', 'http'],
    ])
    const told = notices.map((notice) => notice.replace(`${folder}/`, ''))
    expect(told).toEqual([
      'client.json:6: mcpServers.notes.autoApprove: is left to the client; it has no effect here',
      'client.json:7: mcpServers.notes.alwaysAllow: is left to the client; it has no effect here',
      'client.json:8: mcpServers.notes.disabledTools: is left to the client; it has no effect here',
      'client.json:9: mcpServers.notes.includeTools: is left to the client; it has no effect here',
      'client.json:10: mcpServers.notes.excludeTools: is left to the client; it has no effect here',
      'client.json:11: mcpServers.notes.trust: is left to the client; it has no effect here',
      'client.json:12: mcpServers.notes.timeout: is left to the client; it has no effect here',
      'client.json:13: mcpServers.notes.description: is left to the client; it has no effect here',
      'client.json:16: mcpServers.docs.env: has no effect beside a url; put it under launch if we are to start the server',
    ])
  })

  it('may hold the heartbeat block of the predecessor and nothing else', () => {
    const { config, notices } = load('predecessor.json')
    expect(config.heartbeat).toMatchObject({ intervalMs: 30_000, adaptive: { minIntervalMs: 10_000 } })
    expect(notices).toEqual([`${folder}/predecessor.json:1: no server is enabled: there is nothing to watch`])
  })

  it('together with the others uses every field of the schema', () => {
    const used = new Set<string>()
    const collect = (tree: Tree): void => {
      if (tree.kind !== 'branch') return
      for (const [key, value] of tree.entries) {
        used.add(key)
        collect(value)
      }
    }
    for (const name of ['good.yaml', 'client.json', 'predecessor.json']) {
      collect(parseFile(name, readFileSync(join(folder, name), 'utf8')).tree)
    }
    expect(propertiesOf(configJsonSchema()).filter((key) => !used.has(key))).toEqual([])
  })
})

function propertiesOf(schema: unknown): readonly string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const own = 'properties' in schema && schema.properties ? Object.keys(schema.properties) : []
  return [...own, ...Object.values(schema).flatMap(propertiesOf)]
}

describe('a bad file is refused with the messages in its head, which show no secret', () => {
  it.each(readdirSync(join(folder, 'bad')))('%s', (name) => {
    const text = readFileSync(join(folder, 'bad', name), 'utf8')
    const expected = [...text.matchAll(/^# error: (.*)$/gm)].map((match) => match[1])
    const lines = messageOf(() => load(`bad/${name}`)).split('\n')
    expect(lines.map((line) => line.replace(`${folder}/bad/`, ''))).toEqual(expected)
    // Names of variables are shown, what they hold is not: all of it is canary in lower case.
    expect(lines.map((line) => line.replace(folder, '')).join('\n')).not.toContain('canary')
  })

  it('that is not there', () => {
    expect(messageOf(() => load('nowhere.yaml', 'bad/tab.yaml'))).toBe(
      `${folder}/bad/tab.yaml:3:1: tabs are not allowed as indentation\n` +
        `${folder}/nowhere.yaml: cannot be read: no such file or directory`,
    )
  })
})

function messageOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'config_invalid') return error.message
    throw error
  }
  throw new Error(`${basename(import.meta.filename)}: nothing was thrown`)
}

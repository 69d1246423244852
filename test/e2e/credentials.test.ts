import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectV1, connectV2 } from '../peers/clients.ts'
import { debugUpstream } from '../support/admin.ts'
import {
  type AuthorizationServer,
  account,
  authorizationServer,
  protectedServer,
} from '../support/authorization-server.ts'
import { eventually } from '../support/eventually.ts'
import { initializeMessage, post } from '../support/rpc.ts'
import { sendJson } from '../support/scripted-server.ts'
import { legacySdkServer, modernSdkServer } from '../support/sdk-servers.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const cleanups: (() => Promise<unknown>)[] = []
let issuing: AuthorizationServer
let vitals: RunningVitals
let legacyUrl: string

async function during<T extends { stop(): Promise<unknown> }>(starting: Promise<T>): Promise<T> {
  const started = await starting
  cleanups.push(() => started.stop())
  return started
}

beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-credentials-'))
  cleanups.push(() => rm(directory, { recursive: true }))
  const secretFile = join(directory, 'secret')
  await writeFile(secretFile, `${account.secret}\n`)
  issuing = await during(authorizationServer())
  const legacy = await during(protectedServer((await during(legacySdkServer())).url, issuing))
  legacyUrl = legacy.url
  const modern = await during(protectedServer((await during(modernSdkServer())).url, issuing))
  const oauth = { client_id: account.clientId, issuer: issuing.url, client_secret_file: secretFile }
  vitals = await during(
    startVitals({
      config: {
        log: { level: 'debug' },
        heartbeat: { heartbeat_interval_seconds: 1, adaptive_heartbeat: { enabled: false } },
        mcpServers: {
          legacy: { url: legacy.url, auth: { oauth } },
          modern: { url: modern.url, auth: { oauth } },
        },
      },
    }),
  )
}, 60_000)
afterAll(async () => {
  for (const cleanup of cleanups.toReversed()) await cleanup()
})

const isHealthy = (name: string) =>
  eventually(async () => (await debugUpstream(vitals, name)).state === 'healthy', { what: `${name} is healthy` })
const text = [{ type: 'text', text: 'hi' }]

describe('a server that wants tokens, with an account of ours', { timeout: 60_000 }, () => {
  it.each(['legacy', 'modern'])('is healthy: %s', async (name) => {
    await isHealthy(name)
  })

  it.each([
    ['Streamable HTTP', () => connectV1(`${vitals.dataUrl}/legacy/mcp`)],
    ['a bridge from HTTP+SSE', () => connectV1(`${vitals.dataUrl}/legacy/sse`)],
    ['2026-07-28', () => connectV2(`${vitals.dataUrl}/modern/mcp`, 'modern')],
  ])('serves clients that have none: %s', async (_, connect) => {
    const client = await connect()
    expect(await client.callTool({ name: 'echo', arguments: { it: 'hi' } })).toMatchObject({ content: text })
    await client.close()
  })

  it('serves many clients with one token, and with one more after each revocation', async () => {
    await isHealthy('legacy')
    const legacyTokens = () => issuing.asked.filter(({ form }) => form.get('resource') === legacyUrl).length
    const before = legacyTokens()
    expect(before).toBeGreaterThanOrEqual(1)
    let revocations = 0
    // Only a token that has served for a while is replaced; heartbeats alone may find out, and do.
    await eventually(
      async () => {
        issuing.revoke()
        revocations++
        const answers = await Promise.all(
          Array.from({ length: 8 }, () => post(`${vitals.dataUrl}/legacy/mcp`, initializeMessage)),
        )
        return answers.every(({ status }) => status === 200)
      },
      // A heartbeat that finds out first replaces the token, which then has to serve for as long again.
      { timeoutMs: 45_000, what: 'all requests are answered in spite of the revocation' },
    )
    expect(legacyTokens() - before).toBeGreaterThanOrEqual(1)
    expect(legacyTokens() - before).toBeLessThanOrEqual(revocations)
  })

  it('needs auth when there are no tokens any more, and tells everybody why but not the secret', async () => {
    issuing.refusal = (response) =>
      sendJson(response, 400, { error: 'invalid_scope', error_description: `no, ${account.secret}` })
    await eventually(
      async () => {
        issuing.revoke()
        const { state, reason } = await debugUpstream(vitals, 'modern')
        return state === 'needs_auth' && reason.includes(`no token from ${issuing.url}: no, <secret>`)
      },
      { what: 'the server needs auth', timeoutMs: 30_000 },
    )
    const { status, body } = await post(`${vitals.dataUrl}/modern/mcp`, initializeMessage)
    expect([status, body]).toEqual([502, expect.stringContaining('upstream_unauthorized')])

    issuing.refusal = undefined
    await isHealthy('modern')
  })

  it('never shows a secret or a token', async () => {
    const pages = await Promise.all(
      ['/', '/metrics', '/debug/heartbeat'].map(async (path) => (await fetch(vitals.adminUrl + path)).text()),
    )
    expect([vitals.output(), ...pages].join('\n')).not.toContain('canary')
  })
})

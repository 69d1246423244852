import { generateKeyPairSync } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { ClientCredentials } from '../../src/upstreams/credentials.ts'
import { HttpPool } from '../../src/upstreams/http.ts'
import { tokenClient, tokenOf, withoutSecrets } from '../../src/upstreams/oauth.ts'
import { account, authorizationServer, protectedServer } from '../support/authorization-server.ts'
import { sendJson } from '../support/scripted-server.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(options: { readonly publicKey?: string } = {}) {
  const issuing = await authorizationServer(options)
  const server = await protectedServer('http://127.0.0.1:1/mcp', issuing)
  const serverUrl = new URL(server.url)
  const pool = new HttpPool({ url: serverUrl, connectTimeoutMs: 2000, idleConnectionMs: 1000 })
  closers.push(issuing.stop, server.stop, () => pool.close())
  const client = (credentials: Partial<ClientCredentials>) => {
    const made = tokenClient({
      credentials: {
        kind: 'client_credentials',
        clientId: account.clientId,
        issuer: issuing.url,
        proof: { kind: 'secret', secret: account.secret },
        ...credentials,
      },
      clock: systemClock,
      serverUrl,
      send: (request, handler) => pool.send(request, handler),
      headers: new Map([['x-gateway', 'canary-gateway']]),
      proxyFor: () => undefined,
    })
    closers.push(() => made.close())
    return made
  }
  return { issuing, server, client }
}

describe('client credentials', () => {
  it('get a token by secret, for the resource that the server names, and no more scope than configured', async () => {
    const { issuing, server, client } = await start()
    issuing.expiresInSeconds = 600
    const own = client({ scope: 'read write' })
    expect(await own.obtain()).toEqual({ value: 'canary-token-1', expiresInMs: 600_000, renewInMs: 540_000 })
    expect(await own.obtain()).toMatchObject({ value: 'canary-token-2' })
    expect(Object.fromEntries(issuing.asked[0]?.form ?? [])).toEqual({
      grant_type: 'client_credentials',
      scope: 'read write',
      resource: server.url,
    })
  })

  it('get a token by signature (RFC 7523 §2.2)', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    })
    const { client } = await start({ publicKey })
    const own = client({ proof: { kind: 'private_key', pem: privateKey, algorithm: 'ES256' } })
    expect(await own.obtain()).toMatchObject({ value: 'canary-token-1' })
  })

  it.each([
    ['a wrong secret', 'invalid_client', { proof: { kind: 'secret', secret: 'canary-wrong' } }],
    ['nobody at the address', 'ECONNREFUSED', { issuer: 'http://127.0.0.1:1' }],
  ] as const)('fail with the reason: %s', async (_, reason, credentials) => {
    const { client } = await start()
    const failure = await client(credentials)
      .obtain()
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'upstream_unauthorized' })
    expect(String(failure)).not.toContain('canary-wrong')
    if (reason === 'ECONNREFUSED') expect(String(failure)).toContain(reason)
  })

  it.each([
    ['no token', (body: object) => body],
    ['a token that is no word', () => ({ access_token: 'a b', token_type: 'Bearer' })],
  ])('fail when the answer holds %s', async (_, body) => {
    const { issuing, client } = await start()
    issuing.refusal = (response) => sendJson(response, 200, body({ token_type: 'Bearer' }))
    await expect(client({}).obtain()).rejects.toMatchObject({ code: 'upstream_unauthorized' })
  })

  it('are not sent after a redirect to another site', async () => {
    const { issuing, client } = await start()
    const elsewhere = await authorizationServer()
    closers.push(elsewhere.stop)
    issuing.refusal = (response) => response.writeHead(307, { location: `${elsewhere.url}/issue` }).end()
    await expect(client({}).obtain()).rejects.toMatchObject({ code: 'upstream_unauthorized' })
    expect(elsewhere.asked).toEqual([])
  })
})

it.each([
  [undefined, Infinity, Infinity],
  [3600, 3_600_000, 3_540_000],
  [100, 100_000, 90_000],
  [0, 0, 0],
  [-5, 0, 0],
])('a token that expires in %s s serves for %s ms and is renewed after %s ms', (seconds, expiresInMs, renewInMs) => {
  expect(tokenOf('t', seconds)).toEqual({ value: 't', expiresInMs, renewInMs })
})

it('no secret stays in a reason', () => {
  const credentials = {
    kind: 'client_credentials',
    clientId: 'me',
    issuer: 'https://a',
    proof: { kind: 'secret', secret: 'p/s' },
  } as const
  const basic = Buffer.from('me:p/s').toString('base64')
  expect(withoutSecrets(`p/s p%2Fs ${basic} eyJhbGciOi.eyJzdWIi.c2ln \n x`, credentials)).toBe(
    '<secret> <secret> <secret> <token> x',
  )
})

import { afterEach, describe, expect, it } from 'vitest'
import { RawClient, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { scriptedUpstream } from '../support/scripted-upstream.ts'
import { type ProxyOptions, startProxy } from './fixture.ts'

const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
// Every upstream is reached by both transports.
const paths = ['h', 's', 'p'].flatMap((name) => [`/${name}/mcp`, `/${name}/sse`])

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** One upstream of each kind: `h` Streamable HTTP, `s` HTTP+SSE, `p` a process. */
async function start(options: Partial<ProxyOptions> = {}) {
  const upstream = await scriptedUpstream()
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}`
  const proxy = await startProxy({
    upstreams: {
      h: { url: `${url}/mcp` },
      s: { url: `${url}/sse`, transport: 'sse' },
      p: { script: 'scripted-stdio.mjs' },
    },
    ...options,
  })
  closers.push(() => proxy.close())
  return { upstream, proxy }
}

describe('what is no path of ours', () => {
  it.each([
    ['POST', '/nobody/mcp', 'unknown_upstream', { upstreams: ['h', 's', 'p'] }],
    ['GET', '/nobody/sse', 'unknown_upstream', { upstreams: ['h', 's', 'p'] }],
    ['POST', '/nobody/messages', 'unknown_upstream', { upstreams: ['h', 's', 'p'] }],
    ['POST', '/__proto__/mcp', 'unknown_upstream', { upstreams: ['h', 's', 'p'] }],
    ['GET', '/', 'unknown_path', { paths }],
    ['POST', '/h', 'unknown_path', { paths }],
    ['POST', '/h/mcp/', 'unknown_path', { paths }],
    ['POST', '/h/mcp/more', 'unknown_path', { paths }],
    ['POST', '/s/sse/', 'unknown_path', { paths }],
    ['POST', '/nobody/sse', 'unknown_upstream', {}],
    ['GET', '/metrics', 'unknown_path', { paths }],
  ])('%s %s is a 404 that names what there is', async (method, path, reason, details) => {
    const { upstream, proxy } = await start()
    const response = await rawFetch(proxy.port, { method, path, ...(method === 'POST' && { body }) })
    expect(statusOf(response)).toBe(404)
    expect(JSON.parse(textOf(response))).toMatchObject({ error: { code: -32000, data: { reason, ...details } } })
    expect(proxy.told.rejected).toEqual([reason])
    expect(upstream.arrived.length).toBe(0)
  })

  it.each([
    ['POST', '/h/sse', 'GET'],
    ['POST', '/s/sse', 'GET'],
    ['DELETE', '/p/sse', 'GET'],
    ['GET', '/s/messages', 'POST'],
    ['PUT', '/p/messages', 'POST'],
  ])('%s %s is a 405 that names what is allowed (RFC 9110 §15.5.6)', async (method, path, allow) => {
    const { upstream, proxy } = await start()
    const response = await rawFetch(proxy.port, { method, path, ...(method === 'POST' && { body }) })
    expect([statusOf(response), headerOf(response, 'allow')]).toEqual([405, allow])
    expect(JSON.parse(textOf(response))).toMatchObject({ error: { data: { reason: 'method_not_allowed' } } })
    expect(proxy.told.rejected).toEqual(['method_not_allowed'])
    expect(upstream.arrived.length).toBe(0)
  })

  it('a request target may name the origin too (RFC 9112 §3.2.2)', async () => {
    const { upstream, proxy } = await start()
    const response = await rawFetch(proxy.port, { method: 'POST', path: `${proxy.url}/h/mcp?a=/b?c`, body })
    expect(statusOf(response)).toBe(200)
    expect(upstream.arrived[0]?.request.startLine).toBe('POST /mcp?a=/b?c HTTP/1.1')
  })

  it('a refused request with a short body leaves the connection usable', async () => {
    const { proxy } = await start()
    const client = new RawClient(proxy.port)
    closers.push(() => Promise.resolve(client.close()))
    client.send(rawRequest({ path: '/nobody/mcp', body }))
    expect(statusOf(await client.response(0))).toBe(404)
    client.send(rawRequest({ path: '/h/mcp', body }))
    expect(statusOf(await client.response(1))).toBe(200)
  })
})

describe('the guard stands before every path', () => {
  it.each(['/h/mcp', '/s/sse', '/p/mcp', '/nobody/mcp', '/nowhere'])('%s', async (path) => {
    const { upstream, proxy } = await start({ bearerToken: 'secret' })
    const get = (headers: string[]) => rawFetch(proxy.port, { method: 'GET', path, headers })
    const responses = [
      await get(['Host', 'evil.example']),
      await get(['Origin', 'http://evil.example']),
      await get(['Authorization', 'Bearer guess']),
    ]
    expect(responses.map((response) => statusOf(response))).toEqual([403, 403, 401])
    expect(headerOf(responses[2] as never, 'www-authenticate')).toBe('Bearer realm="mcp-vitals"')
    expect(proxy.told.rejected).toEqual(['host_not_allowed', 'origin_not_allowed', 'unauthorized'])
    expect(upstream.arrived.length).toBe(0)
  })

  it('with the right token a request passes', async () => {
    const { proxy } = await start({ bearerToken: 'secret' })
    const headers = ['Authorization', 'Bearer secret']
    expect(statusOf(await rawFetch(proxy.port, { path: '/h/mcp', headers, body }))).toBe(200)
  })

  it('a refusal tells strangers nothing of the upstreams', async () => {
    const { proxy } = await start({ bearerToken: 'secret' })
    const response = await rawFetch(proxy.port, { method: 'GET', path: '/nowhere' })
    expect(textOf(response)).not.toMatch(/\/h\/mcp|\/p\/mcp/)
  })
})

it('while shutting down every request gets a 503 with Retry-After', async () => {
  const { upstream, proxy } = await start()
  proxy.shutDown()
  for (const path of ['/h/mcp', '/p/mcp']) {
    const response = await rawFetch(proxy.port, { path, body })
    expect([statusOf(response), headerOf(response, 'retry-after')]).toEqual([503, '1'])
    expect(JSON.parse(textOf(response))).toMatchObject({ error: { data: { reason: 'shutting_down' } } })
  }
  expect(upstream.arrived.length).toBe(0)
})

it('a refusal of HEAD has its headers and no body', async () => {
  const { proxy } = await start()
  const response = await rawFetch(proxy.port, { method: 'HEAD', path: '/nobody/mcp' })
  expect([statusOf(response), headerOf(response, 'content-type')]).toEqual([404, 'application/json'])
  expect(headerOf(response, 'x-hono-already-sent')).toBeUndefined()
})

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { createServer, request } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { legacySdkServer } from '../support/sdk-servers.ts'
import { type TestUpstream, startProxy } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** A gateway below whose `/vitals` the proxy is reached, which knows nothing of that. */
async function gatewayTo(port: () => number): Promise<string> {
  const gateway = createServer((incoming, outgoing) => {
    const { method, headers, url = '' } = incoming
    if (!url.startsWith('/vitals/')) return outgoing.writeHead(404).end()
    const path = url.slice('/vitals'.length)
    const inner = request({ port: port(), host: '127.0.0.1', method, headers, path }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 0, answer.headers)
      outgoing.flushHeaders()
      answer.pipe(outgoing)
    })
    inner.once('error', () => outgoing.destroy())
    outgoing.once('close', () => inner.destroy())
    return incoming.pipe(inner)
  })
  closers.push(() => stopped(gateway))
  return `http://127.0.0.1:${await listenOn(gateway)}/vitals`
}

const servers: Readonly<Record<string, () => Promise<TestUpstream>>> = {
  stdio: async () => ({
    script: '../../../node_modules/@modelcontextprotocol/server-everything/dist/index.js',
    args: ['stdio'],
  }),
  'HTTP+SSE': async () => {
    const server = await legacySdkServer()
    closers.push(() => server.stop())
    return { url: server.sseUrl, transport: 'sse' }
  },
}

describe('an HTTP+SSE client below the path of public_url', () => {
  it.each(Object.entries(servers))('is told where to post by that path, in front of a %s server', async (_, server) => {
    let port = 0
    const publicUrl = await gatewayTo(() => port)
    const proxy = await startProxy({ publicUrl, upstreams: { u: await server() } })
    closers.push(() => proxy.close())
    port = proxy.port
    const client = new Client({ name: 'test', version: '1' })
    closers.push(() => client.close())
    await client.connect(new SSEClientTransport(new URL(`${publicUrl}/u/sse`)))
    expect((await client.listTools()).tools.length).toBeGreaterThan(0)
  })
})

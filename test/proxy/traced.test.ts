import { afterEach, describe, expect, it } from 'vitest'
import { openSession, post } from '../support/rpc.ts'
import { traceparent } from './fixture.ts'
import { heardOf, openPath, pairs } from './paths.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const params = { name: 'x', _meta: { other: true } }

describe.each(pairs)('%s client, %s server', (client, server) => {
  it('a request names our span beside what the client wrote', async () => {
    const path = await openPath(client, server, closers, { injectsTraceparent: true })
    const { message } = await path.ask(7, 'tools/call', params)
    expect(message).toMatchObject({ id: 7 })
    const heard = await heardOf(path, (text) => text.includes('tools/call'))
    const sent = JSON.parse(heard) as { params: { name: string; _meta: object } }
    expect(sent.params.name).toBe('x')
    // A modern client has metadata of its own.
    expect(sent.params._meta).toMatchObject(client === 'modern' ? { traceparent } : { other: true, traceparent })
  })

  it('a request is left alone unless that is wanted', async () => {
    const path = await openPath(client, server, closers)
    await path.ask(7, 'tools/call', params)
    expect(await heardOf(path, (text) => text.includes('tools/call'))).not.toContain('traceparent')
  })
})

it('a batch, and a body too long to be held, go as they are', async () => {
  const path = await openPath('http', 'http', closers, { injectsTraceparent: true })
  const headers = await openSession(`${path.proxy.url}/u/mcp`)
  const long = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'long', params: { text: 'x'.repeat(100_000) } })
  const batch = JSON.stringify([{ jsonrpc: '2.0', id: 2, method: 'batched' }])
  for (const body of [long, batch]) {
    await post(`${path.proxy.url}/u/mcp`, body, headers)
    expect(await heardOf(path, (text) => text === body)).toBe(body)
  }
})

import { describe, expect, it } from 'vitest'
import type { Endpoint } from '../../src/upstreams/endpoint.ts'
import type { HttpResponseHandler } from '../../src/upstreams/http.ts'
import { httpLink, sseLink } from '../../src/upstreams/link.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { fakeClock } from '../support/fake-clock.ts'

const MiB = 1024 * 1024

/** An endpoint that takes a POST only when the test says so; its event stream opens at once. */
function deafEndpoint() {
  const posts: HttpResponseHandler[] = []
  const endpoint: Endpoint = {
    url: new URL('http://server.example/mcp'),
    headers: new Map(),
    clientHost: false,
    replaced: new Set(),
    send: ({ method }, handler) => {
      if (method === 'POST') posts.push(handler)
      else if (method === 'GET') {
        const rawHeaders = ['content-type', 'text/event-stream']
        handler.onStart({ status: 200, statusText: 'OK', rawHeaders })
        handler.onData(Buffer.from('event: endpoint\ndata: /messages\n\n'))
      }
      return { pause: () => undefined, resume: () => undefined, abort: () => undefined }
    },
    stats: () => ({ active: 0, idle: 0, pending: 0 }),
    close: () => Promise.resolve(),
  }
  const take = () => {
    const post = posts.shift()
    post?.onStart({ status: 202, statusText: 'Accepted', rawHeaders: [] })
    post?.onEnd()
  }
  return { endpoint, posts, take }
}

const padding = 'x'.repeat(4 * MiB)
const notification = `{"jsonrpc":"2.0","method":"note","params":{"x":"${padding}"}}`
const answer = `{"jsonrpc":"2.0","id":1,"result":{"x":"${padding}"}}`
const request = '{"jsonrpc":"2.0","id":2,"method":"ping"}'

describe.each([
  ['HTTP+SSE', sseLink],
  ['Streamable HTTP', httpLink],
] as const)('a session with a server over %s that takes nothing', (_transport, linkTo) => {
  it('has 64 MiB of notifications and answers waiting, and no more; requests have limits of their own', async () => {
    const { endpoint, posts, take } = deafEndpoint()
    const listener = { onMessage: () => undefined, onClose: () => undefined }
    const link = linkTo({ endpoint, clock: fakeClock(), maxBodyBytes: MiB, listener, onTooLong: () => undefined })
    await link.open(() => new Map())
    const say = (text: string) => {
      const envelope = readEnvelope(Buffer.from(text))
      if (!envelope) throw new Error('no message')
      return link.send(Buffer.from(text), envelope, () => new Map())
    }
    const waiting = Array.from({ length: 16 }, (_, n) => say(n % 2 === 0 ? notification : answer))
    expect(posts).toHaveLength(16)
    for (const text of [notification, answer]) {
      await expect(say(text)).rejects.toMatchObject({
        code: 'queue_full',
        message: expect.stringMatching(/^the server has not taken 671\d+ bytes .*; the limit is 67108864$/),
      })
    }
    void say(request)
    expect(posts).toHaveLength(17)

    take()
    await waiting[0]
    void say(notification)
    expect(posts).toHaveLength(17)
    await expect(say(notification)).rejects.toMatchObject({ code: 'queue_full' })
  })
})

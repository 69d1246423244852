import { describe, expect, it } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import { KnownError } from '../../src/errors.ts'
import type { Outgoing } from '../../src/upstreams/channel.ts'
import { Peer } from '../../src/upstreams/peer.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { fakeClock } from '../support/fake-clock.ts'
import type { Message } from '../support/mcp-server.ts'
import { stallableClock } from '../support/stallable-clock.ts'

/** A peer on a channel whose sending takes as long as the test says. */
function peerOn(send: (signal: AbortSignal | undefined) => Promise<void> = () => Promise.resolve(), source?: Clock) {
  const clock = fakeClock()
  const sent: Message[] = []
  const named: Outgoing[] = []
  const peer = new Peer(
    {
      send: (message, outgoing, signal) => {
        sent.push(JSON.parse(message.toString()) as Message)
        named.push(outgoing)
        return send(signal)
      },
      close: () => Promise.resolve(),
    },
    source ?? clock,
  )
  const hear = (message: object) => {
    const bytes = Buffer.from(JSON.stringify(message))
    const envelope = readEnvelope(bytes)
    return envelope !== undefined && peer.takeAnswer(bytes, envelope)
  }
  const idOf = (at: number) => sent[at]?.id
  return { clock, peer, sent, named, hear, idOf }
}

describe('a request of our own', () => {
  it('is JSON-RPC with an id that no client uses, a new one each time', async () => {
    const { peer, sent, named, hear, idOf } = peerOn()
    const first = peer.request({ method: 'ping', timeoutMs: 1000 })
    const second = peer.request({ method: 'tools/list', params: { cursor: 'c' }, timeoutMs: 1000 })
    expect(sent).toEqual([
      { jsonrpc: '2.0', id: expect.stringMatching(/^vitals-[0-9a-f-]{36}$/), method: 'ping' },
      {
        jsonrpc: '2.0',
        id: expect.stringMatching(/^vitals-[0-9a-f-]{36}$/),
        method: 'tools/list',
        params: { cursor: 'c' },
      },
    ])
    expect(named).toEqual([{ method: 'ping' }, { method: 'tools/list' }])
    expect(idOf(0)).not.toBe(idOf(1))
    // Answers come in any order.
    expect(hear({ jsonrpc: '2.0', id: idOf(1), result: { n: 2 } })).toBe(true)
    expect(hear({ jsonrpc: '2.0', id: idOf(0), error: { code: -32_601, message: 'no' } })).toBe(true)
    expect((await second).message.toString()).toContain('"n":2')
    expect((await first).error).toEqual({ code: -32_601, message: 'no' })
  })

  it('is over at its time-out, which also closes what it held open', async () => {
    let aborted = false
    const { peer, clock } = peerOn(
      (signal) =>
        new Promise((_resolve, reject) => {
          signal?.addEventListener('abort', () => {
            aborted = true
            reject(new KnownError('cancelled', 'closed by us'))
          })
        }),
    )
    const asked = expect(peer.request({ method: 'ping', timeoutMs: 1000 })).rejects.toMatchObject({
      code: 'upstream_timeout',
      message: 'no answer to ping within 1000 ms',
    })
    await clock.advance(999)
    expect(aborted).toBe(false)
    await clock.advance(1)
    await asked
    expect(aborted).toBe(true)
    expect(clock.pending()).toBe(0)
  })

  it('is given a moment more where our event loop stood still: the answer may lie there unread', async () => {
    const virtual = fakeClock()
    const { clock, stall } = stallableClock(virtual)
    const { peer, hear, idOf } = peerOn(undefined, clock)
    const answered = peer.request({ method: 'ping', timeoutMs: 1000 })
    const unanswered = expect(peer.request({ method: 'ping', timeoutMs: 1000 })).rejects.toMatchObject({
      code: 'upstream_timeout',
    })
    stall(20_000)
    await virtual.advance(1000) // Both timers are overdue, and fire before anything is read.
    expect(hear({ jsonrpc: '2.0', id: idOf(0), result: {} })).toBe(true)
    expect((await answered).error).toBeUndefined()
    await virtual.advance(500)
    await unanswered
    expect(virtual.pending()).toBe(0)
  })

  it('keeps an answer that comes too late, or twice, out of everybody’s sight', async () => {
    const { peer, clock, hear, idOf } = peerOn()
    const asked = expect(peer.request({ method: 'ping', timeoutMs: 1000 })).rejects.toThrow()
    await clock.advance(1000)
    await asked
    expect(hear({ jsonrpc: '2.0', id: idOf(0), result: {} })).toBe(true)
    expect(hear({ jsonrpc: '2.0', id: idOf(0), result: {} })).toBe(true)
  })

  it('fails with what the channel says, and waits for the answer when it says nothing', async () => {
    const refused = new KnownError('upstream_refused', 'connect ECONNREFUSED')
    const failing = peerOn(() => Promise.reject(refused))
    await expect(failing.peer.request({ method: 'ping', timeoutMs: 1000 })).rejects.toBe(refused)
    expect(failing.clock.pending()).toBe(0)
    const { peer, hear, idOf, clock } = peerOn()
    const asked = peer.request({ method: 'ping', timeoutMs: 1000 })
    await clock.advance(500)
    hear({ jsonrpc: '2.0', id: idOf(0), result: {} })
    expect((await asked).error).toBeUndefined()
    expect(clock.pending()).toBe(0)
  })

  it('takes an answer that comes before the channel is done with the request', async () => {
    const { peer, hear, idOf } = peerOn(() => new Promise(() => {}))
    const asked = peer.request({ method: 'ping', timeoutMs: 1000 })
    hear({ jsonrpc: '2.0', id: idOf(0), result: {} })
    expect((await asked).error).toBeUndefined()
  })

  it('fails when the connection is gone, like all others', async () => {
    const { peer, clock } = peerOn()
    const both = Promise.allSettled([
      peer.request({ method: 'ping', timeoutMs: 1000 }),
      peer.request({ method: 'tools/list', timeoutMs: 1000 }),
    ])
    const gone = new KnownError('upstream_closed', 'the server ended the event stream')
    peer.fail(gone)
    expect(await both).toEqual([
      { status: 'rejected', reason: gone },
      { status: 'rejected', reason: gone },
    ])
    expect(clock.pending()).toBe(0)
  })
})

describe('what is not for us', () => {
  it.each<object>([
    { jsonrpc: '2.0', id: 1, result: {} },
    { jsonrpc: '2.0', id: 'vitals-of-another-sidecar', result: {} },
    { jsonrpc: '2.0', id: null, error: { code: -32_700, message: 'parse error' } },
    { jsonrpc: '2.0', method: 'notifications/message' },
    { jsonrpc: '2.0', id: 'vitals-1', method: 'ping' },
  ])('is left to others: %j', (message) => {
    expect(peerOn().hear(message)).toBe(false)
  })
})

describe('a notification, and our answer to a request of the server', () => {
  it('does not wait for ever for the server to take it', async () => {
    const { peer, clock } = peerOn(() => new Promise(() => {}))
    const told = expect(peer.notify('notifications/initialized', 3000)).rejects.toMatchObject({
      code: 'upstream_timeout',
    })
    const envelope = readEnvelope(Buffer.from('{"jsonrpc":"2.0","id":1,"method":"ping"}'))
    if (!envelope) throw new Error('no envelope')
    const answered = expect(peer.answerServerRequest(envelope)).rejects.toMatchObject({ code: 'upstream_timeout' })
    await clock.advance(10_000)
    await Promise.all([told, answered])
  })

  it.each([
    { id: '1', method: 'ping', answer: { result: {} } },
    { id: '"a"', method: 'ping', answer: { result: {} } },
    { id: '2', method: 'sampling/createMessage', answer: { error: expect.objectContaining({ code: -32_601 }) } },
    { id: '3', method: 'elicitation/create', answer: { error: expect.objectContaining({ code: -32_601 }) } },
  ])('answers $method under its own id $id', async ({ id, method, answer }) => {
    const { peer, sent } = peerOn()
    const envelope = readEnvelope(Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":"${method}"}`))
    if (!envelope) throw new Error('no envelope')
    await peer.answerServerRequest(envelope)
    expect(sent).toEqual([{ jsonrpc: '2.0', id: JSON.parse(id), ...answer }])
  })

  it('answers nothing to a notification', async () => {
    const { peer, sent } = peerOn()
    const envelope = readEnvelope(Buffer.from('{"jsonrpc":"2.0","method":"notifications/progress"}'))
    if (!envelope) throw new Error('no envelope')
    await peer.answerServerRequest(envelope)
    expect(sent).toEqual([])
  })
})

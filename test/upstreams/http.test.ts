import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { HttpPool, type HttpRequest } from '../../src/upstreams/http.ts'
import { type Script, scriptedUpstream } from '../support/scripted-upstream.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function poolTo(script: Script, standstills?: () => number) {
  const upstream = await scriptedUpstream(script)
  const pool = new HttpPool({
    url: new URL(`http://127.0.0.1:${upstream.port}`),
    connectTimeoutMs: 2000,
    idleConnectionMs: 60_000,
    standstills,
  })
  closers.push(
    () => upstream.close(),
    () => pool.close(),
  )
  const request: HttpRequest = { method: 'POST', path: '/mcp', headers: ['content-length', '0'], body: null }
  const send = () =>
    new Promise<void>((resolve, reject) => {
      pool.send(request, {
        onStart: () => undefined,
        onData: () => undefined,
        onEnd: resolve,
        onError: reject,
      })
    })
  return { upstream, pool, send }
}

describe('a connection that was idle', () => {
  it.each([
    ['no word of', [], true],
    ['60 s', ['Keep-Alive', 'timeout=60'], true],
    ['3 s, by when a POST could meet the end of it,', ['Keep-Alive', 'timeout=3'], false],
  ])('of a server that says %s how long it keeps it', async (_, headers, isUsedAgain) => {
    const { upstream, send } = await poolTo((arrived) => arrived.answer(200, '{}', headers))
    await send()
    await turn() // The pool takes the connection back a turn later.
    await turn()
    await send()
    const [first, second] = upstream.arrived
    expect(first?.socket === second?.socket).toBe(isUsedAgain)
  })
})

describe('after our event loop stood still', () => {
  it('an idle connection is not used again, since its server may have closed it', async () => {
    let standstills = 0
    const { upstream, send } = await poolTo(
      (arrived) => arrived.answer(200, '{}'),
      () => standstills,
    )
    await send()
    await turn()
    await turn()
    standstills += 1
    await send()
    await turn()
    await turn()
    await send()
    const [before, after, again] = upstream.arrived.map(({ socket }) => socket)
    expect(before).not.toBe(after)
    expect(again).toBe(after)
  })

  it('what is under way goes on and is counted; its connection closes after it', async () => {
    let standstills = 0
    const { upstream, pool, send } = await poolTo(
      () => undefined,
      () => standstills,
    )
    const slow = send()
    const first = await upstream.request(0)
    standstills += 1
    const quick = send()
    const second = await upstream.request(1)
    expect(pool.stats().active).toBe(2)
    second.answer(200, '{}')
    await quick
    first.answer(200, '{}')
    await slow
    await upstream.until(() => first.isClosed())
    await turn()
    expect(pool.stats()).toEqual({ active: 0, idle: 1, pending: 0 })
    expect(second.isClosed()).toBe(false)
  })
})

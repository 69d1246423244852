import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { HttpPool, type HttpRequest } from '../../src/upstreams/http.ts'
import { type Script, scriptedUpstream } from '../support/scripted-upstream.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function poolTo(script: Script) {
  const upstream = await scriptedUpstream(script)
  const pool = new HttpPool({
    url: new URL(`http://127.0.0.1:${upstream.port}`),
    connectTimeoutMs: 2000,
    idleConnectionMs: 60_000,
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
  return { upstream, send }
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

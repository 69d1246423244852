import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Admission, type Claim, claimOf, deliver } from '../../src/proxy/admission.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { limited } from '../../src/upstreams/queue.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { fakeClock } from '../support/fake-clock.ts'

const limits = {
  stallTimeoutMs: 5000,
  requestTimeoutMs: 20_000,
  maxInFlight: 2,
  maxQueue: 2,
  queueTimeoutMs: 3000,
}

function setting() {
  const clock = fakeClock()
  const sweep = new Sweep(clock)
  const server = limited(clock, { limits }, undefined)
  let inFlight = 0
  const onRequest = (_upstream: string, change: 1 | -1) => {
    inFlight += change
    if (inFlight < 0) throw new Error('fewer than none in flight')
  }
  const admission = () => new Admission({ clock, sweep, onRequest, shedder: { refusal: () => undefined } }, 'u', server)
  return { clock, server, queue: server.queue, admission, inFlight: () => inFlight }
}

describe('what a message claims', () => {
  it.each([
    ['{"jsonrpc":"2.0","id":1,"method":"tools/call"}', 'answer'],
    ['{"jsonrpc":"2.0","id":1,"method":"initialize"}', 'answer'],
    ['{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}', 'stream'],
    ['{"jsonrpc":"2.0","method":"notifications/cancelled"}', 'delivery'],
    ['{"jsonrpc":"2.0","id":"s1","result":{}}', 'delivery'],
    ['[{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":1,"method":"ping"}]', 'answer'],
    ['[{"jsonrpc":"2.0","method":"notifications/x"}]', 'delivery'],
    ['no message', 'delivery'],
  ])('%s: %s', (text, claim) => {
    expect(claimOf(readEnvelope(Buffer.from(text)))).toBe(claim)
  })
})

describe('a server that is drained', () => {
  it.each<[Claim, string | undefined, boolean]>([
    ['answer', 'tools/call', false],
    ['answer', undefined, false],
    ['stream', 'subscriptions/listen', false],
    // The GET stream of a session.
    ['stream', undefined, true],
    ['delivery', 'notifications/cancelled', true],
    ['delivery', undefined, true],
  ])('%s %s: passes is %s', (claim, method, passes) => {
    const { admission, server } = setting()
    server.drain.begin(1000)
    let refusal: string | undefined = 'nothing'
    admission().enter(claim, method, (error) => (refusal = error?.code))
    expect(refusal).toBe(passes ? undefined : 'draining')
  })
})

describe('a request that its client gives up', () => {
  it.each<[Claim, boolean, number]>([
    ['answer', true, 4000],
    ['answer', false, 0],
    ['delivery', true, 0],
    ['stream', true, 0],
  ])('(%s, sent: %s) has been left alone for %i ms', async (claim, isSent, silentMs) => {
    const { admission, clock } = setting()
    const one = admission()
    one.enter(claim, 'tools/call', () => undefined)
    if (isSent) one.sent({ isExcused: () => false, onOverdue: () => undefined })
    await clock.advance(4000)
    expect(one.givenUp('it left')).toMatchObject({ code: 'cancelled', message: 'it left', silentMs })
    one.over()
  })
})

describe('a delivery', () => {
  it('ends with what it delivers', async () => {
    const { admission, inFlight, clock } = setting()
    await deliver(admission(), () => Promise.resolve())
    await expect(deliver(admission(), () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
    await clock.advance(1000)
    expect([inFlight(), clock.pending()]).toEqual([0, 0])
  })

  it('is given up when nobody takes it', async () => {
    const { admission, inFlight, clock } = setting()
    const told = deliver(admission(), () => new Promise(() => undefined)).catch((error: Error) => error.message)
    expect(inFlight()).toBe(1)
    await clock.advance(6000)
    expect(await told).toContain('stall_timeout_seconds')
    expect(inFlight()).toBe(0)
  })
})

type State = 'new' | 'queued' | 'asked' | 'over'

interface Modelled {
  readonly admission: Admission
  claim: Claim
  state: State
  isAbandoned: boolean
}

const claims = fc.constantFrom<Claim>('answer', 'answer', 'answer', 'delivery', 'stream')
const step = fc.oneof(
  fc.record({ kind: fc.constant('enter' as const), claim: claims }),
  fc.record({ kind: fc.constantFrom('heard' as const, 'abandon' as const, 'over' as const), at: fc.nat(40) }),
  fc.record({ kind: fc.constant('turnsOut' as const), at: fc.nat(40), claim: claims }),
  fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(4000) }),
)

it('whatever happens in whatever order, the counts agree with it, and are 0 at the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const { clock, queue, admission, inFlight } = setting()
      const all: Modelled[] = []
      const enter = (claim: Claim) => {
        const one: Modelled = { admission: admission(), claim, state: 'queued', isAbandoned: false }
        all.push(one)
        one.admission.enter(claim, undefined, (refusal) => {
          one.state = refusal ? 'over' : 'asked'
          if (refusal) one.admission.over()
          else one.admission.sent({ isExcused: () => false, onOverdue: () => end(one) })
        })
      }
      const end = (one: Modelled) => {
        one.state = 'over'
        one.admission.over()
      }
      const count = (check: (one: Modelled) => boolean) => all.filter(check).length
      for (const one of steps) {
        const at = 'at' in one ? all[one.at % Math.max(1, all.length)] : undefined
        if (one.kind === 'wait') await clock.advance(one.ms)
        else if (one.kind === 'enter') enter(one.claim)
        else if (!at) continue
        else if (one.kind === 'over') end(at)
        else if (one.kind === 'heard') at.admission.heard()
        else if (one.kind === 'abandon' && at.state === 'asked') {
          at.isAbandoned = true
          at.admission.abandon()
        } else if (one.kind === 'turnsOut' && at.state === 'asked' && at.claim === 'answer') {
          at.claim = one.claim
          at.admission.turnsOut(one.claim)
        }
        expect(inFlight()).toBe(
          count(({ state, claim, isAbandoned }) => state === 'asked' && claim !== 'stream' && !isAbandoned),
        )
        expect(queue.length).toBe(count(({ state }) => state === 'queued'))
        expect(count(({ state, claim }) => state === 'asked' && claim === 'answer')).toBeLessThanOrEqual(
          limits.maxInFlight,
        )
      }
      for (const one of all) end(one)
      await clock.advance(1000)
      expect([inFlight(), queue.length, clock.pending()]).toEqual([0, 0, 0])
    }),
    { numRuns: 200 },
  )
})

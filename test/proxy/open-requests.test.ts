import * as fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { OpenRequests } from '../../src/proxy/open-requests.ts'
import { type Envelope, readEnvelope } from '../../src/wire/envelope.ts'

interface Asked {
  readonly envelope: Envelope
  isSent: boolean
  alias: string | undefined
}

function request(id: string): Asked {
  const envelope = readEnvelope(Buffer.from(`{"id":${id},"method":"tools/call"}`))
  if (!envelope) throw new Error(`${id} is no id`)
  return { envelope, isSent: false, alias: undefined }
}

/** What the server knows the request by. */
function wireIdOf({ alias, envelope }: Asked): string {
  return alias ?? envelope.id ?? ''
}

function sent(open: OpenRequests<Asked>, id: string): Asked {
  const asked = request(id)
  open.queue(asked)
  open.ask(asked)
  asked.isSent = true
  return asked
}

describe('the id of a request', () => {
  it('goes to the server as it is, also again once its first request is answered', () => {
    const open = new OpenRequests<Asked>()
    for (let turn = 0; turn < 3; turn++) {
      const asked = sent(open, '1')
      expect([asked.alias, open.answeredBy('1')]).toEqual([undefined, asked])
      expect(open.remove(asked, { isAnswered: true })).toBe(true)
    }
    expect(open.answeredBy('1')).toBeUndefined()
  })

  it('is replaced while the server may still answer another one under it, given up or not', () => {
    const open = new OpenRequests<Asked>()
    const first = sent(open, '1')
    const second = sent(open, '1')
    expect(second.alias).toBe('"vitals-again-1"')
    open.remove(first, { isAnswered: false })
    const third = sent(open, '1')
    expect(third.alias).toBe('"vitals-again-2"')
    expect(open.answeredBy('1')).toBeUndefined()
    // The late answer has come: the id is free again.
    expect(sent(open, '1').alias).toBeUndefined()
  })

  it('is free at once when the server never got its request', () => {
    const open = new OpenRequests<Asked>()
    const first = sent(open, '1')
    first.isSent = false
    open.remove(first, { isAnswered: false })
    expect(sent(open, '1').alias).toBeUndefined()
  })

  it.each([
    ['12345678901234567890', '12345678901234567000'],
    ['-0', '0'],
  ])('%s may come back as JavaScript writes it, %s, unless that is another one', (id, heard) => {
    const open = new OpenRequests<Asked>()
    const asked = sent(open, id)
    expect(open.answeredBy(heard)).toBe(asked)
    const other = sent(open, heard)
    expect([open.answeredBy(heard), open.answeredBy(id), open.answeredBy(`"${heard}"`)]).toEqual([
      other,
      asked,
      undefined,
    ])
  })

  it('is not replaced by one that the client uses itself', () => {
    const open = new OpenRequests<Asked>()
    sent(open, '"vitals-again-1"')
    sent(open, '1')
    expect(sent(open, '1').alias).toBe('"vitals-again-2"')
  })

  it('means the latest request when the client cancels it, and rather one that still waits for its turn', () => {
    const open = new OpenRequests<Asked>()
    sent(open, '1')
    const latest = sent(open, '1')
    expect(open.cancelledBy('1')).toBe(latest)
    const waiting = request('1')
    open.queue(waiting)
    expect(open.cancelledBy('1')).toBe(waiting)
  })
})

it('more than 1,000 ids that were given up are not remembered, and each that is forgotten is told', () => {
  const onForgotten = vi.fn<() => void>()
  const open = new OpenRequests<Asked>(onForgotten)
  for (let n = 0; n <= 1000; n++) {
    open.remove(sent(open, String(n)), { isAnswered: false })
    expect(onForgotten).toHaveBeenCalledTimes(n < 1000 ? 0 : 1)
  }
})

type Step =
  | { readonly kind: 'ask'; readonly id: string; readonly isSent: boolean }
  | { readonly kind: 'answer' | 'give up'; readonly which: number }

describe('whatever ids a client uses again, and whenever the server answers', () => {
  it('each answer is for the request that the server got under that id, or for none once that was given up', () => {
    const id = fc.constantFrom('1', '"1"', '0', '"vitals-again-1"', '"vitals-again-2"', '"a\\/b"')
    const which = fc.nat(20)
    const step: fc.Arbitrary<Step> = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('ask'), id, isSent: fc.boolean() }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('answer', 'give up'), which }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        play(steps)
      }),
      { numRuns: 1000 },
    )
  })
})

/** A server that answers each request once, in any order, also those that were given up meanwhile. */
function play(steps: readonly Step[]): void {
  const open = new OpenRequests<Asked>()
  const atServer: Asked[] = []
  const waiting: Asked[] = []
  for (const step of steps) {
    if (step.kind === 'ask') {
      const asked = request(step.id)
      open.queue(asked)
      open.ask(asked)
      waiting.push(asked)
      expect(atServer.map(wireIdOf)).not.toContain(wireIdOf(asked))
      asked.isSent = step.isSent
      if (step.isSent) atServer.push(asked)
    } else if (step.kind === 'answer') {
      const [answered] = atServer.splice(step.which % Math.max(1, atServer.length), 1)
      if (!answered) continue
      const found = open.answeredBy(wireIdOf(answered))
      expect(found).toBe(waiting.includes(answered) ? answered : undefined)
      if (found) open.remove(found, { isAnswered: true })
      if (found) waiting.splice(waiting.indexOf(found), 1)
    } else {
      const [givenUp] = waiting.splice(step.which % Math.max(1, waiting.length), 1)
      if (givenUp) expect(open.remove(givenUp, { isAnswered: false })).toBe(true)
    }
    expect(open.asked()).toEqual(waiting)
  }
}

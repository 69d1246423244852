import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventTap } from '../../src/wire/event-tap.ts'

interface Tapped {
  readonly tap: EventTap
  /** What passed so far, a character per byte. */
  readonly passed: () => string
  readonly push: (text: string) => void
  readonly end: () => void
  /** Ids of the answers that were kept. */
  readonly answers: string[]
  /** What was told of each message that passed. */
  readonly messages: (string | undefined)[]
  readonly events: () => number
}

function tapped(maxHeldBytes = 1 << 16, isForeign?: (id: string) => boolean): Tapped {
  const chunks: Buffer[] = []
  const answers: string[] = []
  const messages: (string | undefined)[] = []
  let events = 0
  const tap = new EventTap({
    maxHeldBytes,
    ...(isForeign && { isForeign }),
    onMessage: (envelope) => messages.push(envelope?.method ?? envelope?.id ?? envelope?.kind),
    onEvent: () => (events += 1),
    onAnswer: (_message, { id }) => answers.push(id ?? ''),
  })
  const keep = (buffers: readonly Buffer[]) => chunks.push(...buffers.map((one) => Buffer.from(one)))
  return {
    tap,
    passed: () => Buffer.concat(chunks).toString('latin1'),
    push: (text) => keep(tap.push(Buffer.from(text, 'latin1'))),
    end: () => keep(tap.end()),
    answers,
    messages,
    events: () => events,
  }
}

const ours = (data = '{"jsonrpc":"2.0","id":"vitals-a","result":{}}') => `event: message\ndata: ${data}\n\n`

/** Events of a server, as servers write them and as they might. */
const foreign = fc.oneof(
  fc.constantFrom(
    'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n',
    'data: {"jsonrpc":"2.0","id":"vitals-of-another","result":{}}\r\n\r\n',
    'id: 7\ndata: {"result":{"id":"vitals-0"},"id":7}\r\r',
    'data: {"jsonrpc":"2.0",\ndata: "method":"notifications/message"}\n\n',
    ': keep-alive\n\n',
    'event: other\ndata: {"id":"vitals-0","result":{}}\n\n',
    'data: no JSON\n\n',
    'retry: 10\n\n',
    // A line feed alone would be the rest of an answer that ends with a CR.
    '\r',
    '\r\n',
  ),
)
/** The same answer, as servers may write it. */
const answers = [
  (id: string) => `event: message\ndata: {"jsonrpc":"2.0","id":"${id}","result":{}}\n\n`,
  (id: string) => `data: {"result":{"nested":{"id":3,"method":"x"}},"jsonrpc":"2.0","id":"${id}"}\r\n\r\n`,
  (id: string) => `id: 9\rdata:  {"error":{"code":-32601,"message":"no"},\rdata: "id" : "${id}"} \r\r`,
  (id: string) => `: noted\nevent: message\ndata: {"id":"${id.replace('vitals', '\\u0076itals')}","result":{}}\n\n`,
]
type Step =
  | { readonly kind: 'say'; readonly text: string }
  | { readonly kind: 'answer'; readonly form: number }
  | { readonly kind: 'ask' }
  | { readonly kind: 'pass'; readonly bytes: number }
const step: fc.Arbitrary<Step> = fc.oneof(
  foreign.map((text) => ({ kind: 'say' as const, text })),
  fc.nat(answers.length - 1).map((form) => ({ kind: 'answer' as const, form })),
  fc.constant({ kind: 'ask' as const }),
  fc.integer({ min: 1, max: 90 }).map((bytes) => ({ kind: 'pass' as const, bytes })),
)

describe('EventTap', () => {
  it('passes every byte but those of our answers, each of which it keeps once, however the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { tap, push, passed, end, answers: heard } = tapped()
        let waiting = ''
        let expected = ''
        const asked: string[] = []
        const answered: string[] = []
        for (const one of steps) {
          if (one.kind === 'say') {
            waiting += one.text
            expected += one.text
          } else if (one.kind === 'ask') {
            const id = `vitals-${asked.length}`
            asked.push(id)
            tap.expect(JSON.stringify(id))
          } else if (one.kind === 'answer') {
            const id = asked[answered.length]
            if (id === undefined) continue
            answered.push(id)
            waiting += answers[one.form]?.(id) ?? ''
          } else {
            push(waiting.slice(0, one.bytes))
            waiting = waiting.slice(one.bytes)
          }
        }
        push(waiting)
        end()
        expect(passed()).toBe(expected)
        expect(heard).toEqual(answered.map((id) => JSON.stringify(id)))
      }),
      { numRuns: 1000 },
    )
  })

  it('passes bytes at once while nothing is expected, half events too', () => {
    const { push, passed } = tapped()
    push('data: {"jsonrpc":"2.0","id":"vitals-a"')
    expect(passed()).toBe('data: {"jsonrpc":"2.0","id":"vitals-a"')
  })

  it('keeps an answer back that belongs elsewhere, and holds nothing for that', () => {
    const { push, passed, answers: heard } = tapped(undefined, (id) => id === '"vitals-a"')
    const others = 'data: {"jsonrpc":"2.0","id":"vitals-b","result":{}}\n\n'
    push(`${others}${ours()}${others}`)
    expect([passed(), heard]).toEqual([others + others, ['"vitals-a"']])
    push(ours().slice(0, 30))
    expect(passed()).toBe(others + others + ours().slice(0, 30))
  })

  it('holds an event only until it cannot be our answer: another id, a method, no JSON, or too long', () => {
    const { tap, push, passed } = tapped(100)
    tap.expect('"vitals-a"')
    const parts = [
      ['event: message\ndata: {"jsonrpc":"2.0",', ''],
      ['"id":17,', 'event: message\ndata: {"jsonrpc":"2.0","id":17,'],
      ['"result":{}}\n\ndata: {"method":"x"', '"result":{}}\n\ndata: {"method":"x"'],
      ['}\n\ndata: password', '}\n\ndata: password'],
      ['\n\ndata: {"result":"', '\n\n'],
      ['x'.repeat(60), ''],
      ['x'.repeat(60), `data: {"result":"${'x'.repeat(120)}`],
    ] as const
    let before = ''
    for (const [written, passes] of parts) {
      push(written)
      expect(passed()).toBe(before + passes)
      before += passes
    }
  })

  it('hears an answer that was too long to be held, although it passes', () => {
    const { tap, push, passed, answers } = tapped(50)
    tap.expect('"vitals-a"')
    const long = ours(`{"result":"${'x'.repeat(100)}","id":"vitals-a"}`)
    push(long.slice(0, 80))
    push(long.slice(80))
    expect([passed(), answers]).toEqual([long, ['"vitals-a"']])
  })

  it('keeps a second answer to the same id as well, and holds nothing for that', () => {
    const { tap, push, passed, answers } = tapped()
    tap.expect('"vitals-a"')
    push(ours() + ours())
    push(ours())
    push('data: {"jsonrpc":"2.0"')
    expect([passed(), answers]).toEqual(['data: {"jsonrpc":"2.0"', ['"vitals-a"', '"vitals-a"', '"vitals-a"']])
  })

  it('takes our answer out of a batch, and leaves its other messages as they are (MCP 2025-03-26, "Batching")', () => {
    const { tap, push, passed, answers, messages } = tapped()
    tap.expect('"vitals-a"')
    tap.expect('"vitals-b"')
    const answer = (id: string) => `{"jsonrpc":"2.0","id":"vitals-${id}","result":{}}`
    const batch = `event: message\ndata: [ {"id":1.0,"result":{}} ,${answer('a')}, {"method":"n"}]\n\n`
    push(batch.slice(0, 60))
    expect(passed()).toBe('')
    push(batch.slice(60) + ours(`[${answer('b')}]`))
    expect(passed()).toBe('event: message\ndata: [ {"id":1.0,"result":{}} , {"method":"n"}]\n\n')
    expect([answers, messages]).toEqual([['"vitals-a"', '"vitals-b"'], ['batch']])
  })

  it('is between events when all that passed are whole ones, and not while it reads', () => {
    const seen: boolean[] = []
    const tap: EventTap = new EventTap({
      maxHeldBytes: 100,
      onMessage: () => seen.push(tap.isBetweenEvents),
      onEvent: () => undefined,
      onAnswer: () => undefined,
    })
    const between = (text: string) => {
      tap.push(Buffer.from(text))
      return tap.isBetweenEvents
    }
    expect(tap.isBetweenEvents).toBe(true)
    expect([between('data: {"method":"a"}\n'), between('\n'), between(': half'), between('\n\n')]).toEqual([
      false,
      true,
      false,
      true,
    ])
    expect(seen).toEqual([false])
  })

  it('tells the messages and events that pass, and gives back what it held when the stream ends', () => {
    const { tap, push, end, passed, messages, events } = tapped()
    push('event: endpoint\ndata: /messages\n\ndata: {"method":"a"}\n\ndata: noise\n\n: comment\n\n')
    expect([messages, events()]).toEqual([['a', undefined], 3])
    tap.expect('"vitals-a"')
    push('data: {"id":')
    const before = passed()
    end()
    expect(passed().slice(before.length)).toBe('data: {"id":')
  })
})

import { describe, expect, it } from 'vitest'
import { type Call, type Ending, Ledger } from './soak-ledger.ts'

const call: Call = { nonce: 'n1', lane: 'http→stdio', what: 'echo', domain: 'http', sinceMs: 1000 }
const error = (atMs: number): Ending => ({ kind: 'error', message: 'gone', atMs })

/** The faults after one call with this end, and a crash of its server between these times if there was one. */
function faultsAfter(ending: Ending, more: Partial<Call> = {}, crash?: readonly [fromMs: number, untilMs: number]) {
  const ledger = new Ledger()
  const one = { ...call, ...more }
  if (crash) ledger.crash('http', crash[0])(crash[1])
  ledger.begin(one)
  ledger.end(one, ending)
  return ledger.faults()
}

describe('the books of the soak test', () => {
  it.each<[string, Ending, Partial<Call>, readonly [number, number] | undefined]>([
    ['its own answer', { kind: 'answer', text: 'n1' }, {}, undefined],
    ['its own long answer', { kind: 'answer', text: 'n1xxxn1' }, {}, undefined],
    ['an error after it was cancelled', error(2000), { excuse: 'cancelled' }, undefined],
    ['an error in a crash', error(2000), {}, [1500, 1800]],
    ['an error in a session that the crash ended', error(9000), {}, [1500, 1800]],
    ['an error of a session opened as the server came back', error(2000), { sinceMs: 1900 }, [500, 1800]],
  ])('takes %s', (_, ending, more, crash) => expect(faultsAfter(ending, more, crash)).toEqual([]))

  it.each<[string, Ending, Partial<Call>, readonly [number, number] | undefined, string]>([
    ['the answer to another', { kind: 'answer', text: 'n2' }, {}, undefined, 'crossed'],
    ['half an answer', { kind: 'answer', text: 'n1xxx' }, {}, undefined, 'crossed'],
    ['no end', { kind: 'late', afterMs: 30_000, atMs: 2000 }, {}, [1500, 1800], 'lost'],
    ['an error without a reason', error(2000), {}, undefined, 'unexplained'],
    ['an error before the crash', error(1400), {}, [1500, 1800], 'unexplained'],
    ['an error in a session that began after it', error(9000), { sinceMs: 5000 }, [1500, 1800], 'unexplained'],
    ['an error while another server was down', error(2000), { domain: 'sse' }, [1500, 1800], 'unexplained'],
  ])('does not take %s', (_, ending, more, crash, expected) => {
    expect(faultsAfter(ending, more, crash).join()).toContain(expected)
  })

  it('wants exactly one end', () => {
    const ledger = new Ledger()
    ledger.begin(call)
    expect(ledger.faults()).toEqual(['never ended: http→stdio echo n1'])
    ledger.end(call, { kind: 'answer', text: 'n1' })
    ledger.end(call, error(1))
    expect(ledger.faults()).toEqual(['ended twice: http→stdio echo n1'])
    const { started, answered, explained } = ledger.totals()
    expect({ started, answered, explained }).toEqual({ started: 1, answered: 1, explained: 0 })
  })

  it('counts by lane', () => {
    const ledger = new Ledger()
    const other = { ...call, nonce: 'n2', lane: 'sse→stdio', excuse: 'cancelled' } as const
    for (const one of [call, other]) ledger.begin(one)
    ledger.end(call, { kind: 'answer', text: 'n1' })
    ledger.end(other, error(2000))
    expect(ledger.lanes().get('http→stdio')).toMatchObject({ started: 1, answered: 1, explained: 0 })
    expect(ledger.lanes().get('sse→stdio')).toMatchObject({ started: 1, answered: 0, explained: 1 })
    expect(ledger.totals()).toMatchObject({ started: 2, answered: 1, explained: 1 })
  })
})

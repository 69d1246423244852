import { describe, expect, it } from 'vitest'
import { differencesOf, faultsOf, formatComparisons, type Check, type Comparison } from './conformance.ts'
import type { Behind } from './conformance-explanations.ts'

const check = (key: string, status: string, errorMessage?: string): Check => ({ key, status, errorMessage })
const comparison = (direct: readonly Check[], through: readonly Check[], behind: Behind = 'http'): Comparison => {
  const requirements = '2025-11-25' as const
  return { requirements, behind, direct, through, differences: differencesOf(requirements, direct, through) }
}

describe('the comparison of two conformance runs', () => {
  it.each([
    ['equal runs', [check('a', 'SUCCESS'), check('b', 'FAILURE')], [check('b', 'FAILURE'), check('a', 'SUCCESS')], []],
    ['a worse verdict', [check('a', 'SUCCESS')], [check('a', 'FAILURE')], ['a SUCCESS FAILURE']],
    ['a better verdict', [check('a', 'FAILURE')], [check('a', 'SUCCESS')], ['a FAILURE SUCCESS']],
    ['a missing check', [check('a', 'SUCCESS')], [], ['a SUCCESS absent']],
    ['an extra check', [], [check('a', 'FAILURE')], ['a absent FAILURE']],
  ])('finds %s', (_, direct, through, expected) => {
    const found = differencesOf('2025-11-25', direct, through)
    expect(found.map((one) => `${one.key} ${one.direct} ${one.through}`)).toEqual(expected)
  })

  it('finds no fault only when checks ran and none differs', () => {
    expect(faultsOf(comparison([], []))).toEqual(['2025-11-25  http  no check ran'])
    expect(faultsOf(comparison([check('a', 'FAILURE')], [check('a', 'FAILURE')]))).toEqual([])
    expect(faultsOf(comparison([check('a', 'SUCCESS')], [check('a', 'FAILURE')]))).toEqual([
      '2025-11-25  http  a: SUCCESS direct, FAILURE through the proxy',
    ])
  })

  it('takes a difference only where it is explained, and an explanation only while it occurs', () => {
    const key = 'server-sse-multiple-streams › server-sse-streams-functional'
    const [direct, through] = [[check(key, 'SUCCESS')], [check(key, 'INFO')]]
    expect(faultsOf(comparison(direct, through)).join()).toContain(`${key}: SUCCESS direct, INFO through`)
    const bridged = faultsOf(comparison(direct, through, 'stdio'))
    expect(bridged.join()).not.toContain(key)
    expect(bridged).toContain(
      '2025-11-25  stdio  no longer occurs, so its explanation has to go: ' +
        'server-sse-polling › stream-closed: INFO → absent',
    )
  })

  it('prints each fault and the totals', () => {
    const direct = [check('s › a', 'SUCCESS'), check('s › b', 'SUCCESS')]
    const through = [check('s › a', 'SUCCESS'), check('s › b', 'FAILURE', 'no answer')]
    expect(formatComparisons([comparison(direct, through)])).toBe(
      '2025-11-25  http  s › b: SUCCESS direct, FAILURE through the proxy  no answer\n' +
        '2025-11-25, server over http: 2 passed direct, 1 passed through the proxy, ' +
        'differences: 1 (0 explained by the protocol), 2 checks; 0 fail direct, 1 fail through the proxy',
    )
  })
})

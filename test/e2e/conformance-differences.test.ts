import { describe, expect, it } from 'vitest'
import { differencesOf, formatComparisons, isTransparent, type Check } from './conformance.ts'

const check = (key: string, status: string, errorMessage?: string): Check => ({ key, status, errorMessage })
const comparison = (direct: readonly Check[], through: readonly Check[]) => {
  const requirements = '2025-11-25' as const
  return { requirements, direct, through, differences: differencesOf(requirements, direct, through) }
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

  it('is transparent only when checks ran and none differs', () => {
    expect(isTransparent([])).toBe(false)
    expect(isTransparent([comparison([], [])])).toBe(false)
    expect(isTransparent([comparison([check('a', 'FAILURE')], [check('a', 'FAILURE')])])).toBe(true)
    expect(isTransparent([comparison([check('a', 'SUCCESS')], [check('a', 'FAILURE')])])).toBe(false)
  })

  it('prints each difference and the totals', () => {
    const direct = [check('s › a', 'SUCCESS'), check('s › b', 'SUCCESS')]
    const through = [check('s › a', 'SUCCESS'), check('s › b', 'FAILURE', 'no answer')]
    expect(formatComparisons([comparison(direct, through)])).toBe(
      '2025-11-25  s › b: SUCCESS direct, FAILURE through the proxy  no answer\n' +
        '2025-11-25: 2 passed direct, 1 passed through the proxy, differences: 1 ' +
        '(2 checks; 0 fail direct, 1 fail through the proxy)',
    )
  })
})

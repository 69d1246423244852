import { describe, expect, it } from 'vitest'
import {
  type ClientScenario,
  compareClient,
  differencesOf,
  formatComparison,
  scenariosIn,
  verdictsIn,
} from './conformance-clients.ts'

describe('official client scenarios', { timeout: 240_000 }, () => {
  /** With how many checks the client passes directly, by version 0.2.0-alpha.12 of the suite. */
  const chosen: readonly [string, string, number][] = [
    ['auth/metadata-var3', '2026-07-28', 16],
    ['auth/scope-step-up', '2025-11-25', 12],
    ['auth/resource-mismatch', '2026-07-28', 3],
  ]
  it.each(chosen)('%s in %s: through mcp-vitals as directly', async (name, version, passes) => {
    const comparison = await compareClient({ name, version })
    expect(
      comparison.differences.filter(({ why }) => why === undefined),
      formatComparison(comparison),
    ).toEqual([])
    expect([...comparison.direct.values()].filter((verdict) => verdict === 'SUCCESS')).toHaveLength(passes)
  })
})

describe('the comparison of client scenarios', () => {
  it('takes each for the newest revision of either era', () => {
    const listing = `Server scenarios (test against a server):
  - ping [2025-06-18,2025-11-25]

Client scenarios (test against a client):
  - initialize [2025-06-18,2025-11-25]
  - auth/iss-supported [2026-07-28]
  - tools_call [2025-06-18,2025-11-25,2026-07-28]
  - auth/dpop [extension]

Authorization server scenarios (test against an authorization server):
  - authorization-code-grant [2025-03-26,2026-07-28]`
    expect(scenariosIn(listing)).toEqual([
      { name: 'initialize', version: '2025-11-25' },
      { name: 'auth/iss-supported', version: '2026-07-28' },
      { name: 'tools_call', version: '2025-11-25' },
      { name: 'tools_call', version: '2026-07-28' },
      { name: 'auth/dpop', version: undefined },
    ])
  })

  it('has the verdicts of a check once each, and none for information', () => {
    const checks = ['a SUCCESS', 'b SUCCESS', 'a SUCCESS', 'b FAILURE', 'c INFO'].map((one) => {
      const [id = '', status = ''] = one.split(' ')
      return { id, status }
    })
    expect([...verdictsIn(checks)]).toEqual([
      ['a', 'SUCCESS'],
      ['b', 'FAILURE+SUCCESS'],
    ])
  })

  const scenario: ClientScenario = { name: 'auth/metadata-default', version: '2025-11-25' }
  it.each([
    ['nothing', { a: 'SUCCESS' }, { a: 'SUCCESS' }, []],
    ['a worse verdict', { a: 'SUCCESS' }, { a: 'FAILURE' }, ['a SUCCESS FAILURE']],
    ['a check less', { a: 'SUCCESS' }, {}, ['a SUCCESS absent']],
    ['a check more', {}, { a: 'FAILURE' }, ['a absent FAILURE']],
    [
      'what has its reason',
      { 'resource-parameter-matches-prm': 'SUCCESS' },
      { 'resource-parameter-matches-prm': 'FAILURE' },
      ['resource-parameter-matches-prm SUCCESS FAILURE, explained'],
    ],
    [
      'the same in another direction, which has none',
      { 'resource-parameter-matches-prm': 'FAILURE' },
      { 'resource-parameter-matches-prm': 'SUCCESS' },
      ['resource-parameter-matches-prm FAILURE SUCCESS'],
    ],
  ])('finds %s', (_, direct, through, expected) => {
    const found = differencesOf(scenario, new Map(Object.entries(direct)), new Map(Object.entries(through)))
    expect(
      found.map(({ check, direct: one, through: other, why }) =>
        [check, one, `${other}${why === undefined ? '' : ', explained'}`].join(' '),
      ),
    ).toEqual(expected)
  })
})

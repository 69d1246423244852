import { describe, expect, it } from 'vitest'
import { startPeer } from '../peers/spawn.ts'
import { startVitals } from '../support/vitals.ts'
import { type Comparison, compareConformance, formatComparisons, requirementSets } from './conformance.ts'

/** What the fixture passes directly, with version 0.2.0-alpha.12 of the suite. Fewer means that the fixture broke. */
const directPasses = { '2025-11-25': 84, '2026-07-28': 164 } as const

describe('the official conformance suite', { timeout: 240_000 }, () => {
  it.each(requirementSets)('%s: passes through mcp-vitals what it passes directly, check by check', async (set) => {
    const fixture = await startPeer('test/peers/everything-v2.ts')
    try {
      const vitals = await startVitals({ config: { mcpServers: { fixture: { url: fixture.ready } } } })
      try {
        const throughUrl = `${vitals.dataUrl}/fixture/mcp`
        const comparisons = await compareConformance({ directUrl: fixture.ready, throughUrl, requirements: [set] })
        expect(
          comparisons.flatMap(({ differences }) => differences),
          formatComparisons(comparisons),
        ).toEqual([])
        expect(comparisons.map(passes)).toEqual([directPasses[set]])
      } finally {
        await vitals.stop()
      }
    } finally {
      await fixture.stop()
    }
  })
})

function passes({ direct }: Comparison): number {
  return direct.filter(({ status }) => status === 'SUCCESS').length
}

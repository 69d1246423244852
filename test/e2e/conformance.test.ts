import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPeer } from '../peers/spawn.ts'
import {
  type Comparison,
  type Stops,
  type Through,
  compareConformance,
  faultsOf,
  requirementSets,
  startBridges,
} from './conformance.ts'
import { behinds, isApplicable } from './conformance-explanations.ts'

/** What the fixture passes directly, with version 0.2.0-alpha.12 of the suite. Fewer means that the fixture broke. */
const directPasses = { '2025-11-25': 84, '2026-07-28': 164 } as const

const stops: Stops = []
let directUrl: string
let through: readonly Through[]

beforeAll(async () => {
  const fixture = await startPeer('test/peers/everything-v2.ts')
  stops.push(fixture.stop)
  directUrl = fixture.ready
  through = await startBridges(directUrl, stops)
}, 60_000)
afterAll(async () => {
  for (const stop of stops.toReversed()) await stop()
}, 30_000)

describe(
  'the official conformance suite, directly and through mcp-vitals, check by check',
  { timeout: 400_000 },
  () => {
    it.each(requirementSets)('%s: differs only where the protocol wants it', async (set) => {
      const comparisons = await compareConformance({ directUrl, through, requirements: [set] })
      expect(comparisons.flatMap(faultsOf)).toEqual([])
      expect(comparisons.map(({ behind }) => behind)).toEqual(behinds.filter((behind) => isApplicable(behind, set)))
      expect(new Set(comparisons.map(passes))).toEqual(new Set([directPasses[set]]))
    })
  },
)

function passes({ direct }: Comparison): number {
  return direct.filter(({ status }) => status === 'SUCCESS').length
}

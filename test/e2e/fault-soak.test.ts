import { describe, expect, it } from 'vitest'
import { faultSoak } from './fault-soak.ts'
import { smallFleet } from './fault-soak-servers.ts'
import { quickHang, quickMemoryLookMs } from '../peers/quick-law.ts'

/** Few servers and short times for what hangs; `npm run soak:faults` has the program as it is, for half an hour. */
describe('the soak of faults', () => {
  it(
    'finds each fault, with its reason and action, and no other; leaves nothing behind',
    { timeout: 420_000 },
    async () => {
      const { kinds, problems, openFds } = await faultSoak({
        durationMs: 40_000,
        seed: 1,
        fleet: smallFleet,
        script: 'test/peers/quick-vitals.ts',
        law: { hang: quickHang, memoryLookMs: quickMemoryLookMs },
        alertSeconds: { for: 2, keepFiring: 2 },
        pauseMs: [500, 3000],
      })
      expect(problems).toEqual([])
      expect(kinds.reduce((sum, { found }) => sum + found, 0)).toBeGreaterThanOrEqual(smallFleet.length)
      expect(openFds[1]).toBeLessThanOrEqual(openFds[0] + 4)
    },
  )
})

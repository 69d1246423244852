import { describe, expect, it } from 'vitest'
import { transports } from './soak-lanes.ts'
import { rawRoutesOf, routesOf, vitalsStand } from './soak-stand.ts'
import { control, soak } from './soak.ts'

/** Nothing here takes longer, however busy the machine is. */
const patience = { timeout: 600_000 }
const callTimeoutMs = 120_000

/** Every pair that the protocol allows, and the eras that are spoken there. */
const pairs = {
  'http→http': ['legacy', 'modern'],
  'sse→http': ['legacy'],
  'stdio→http': ['legacy', 'modern'],
  'http→sse': ['legacy'],
  'sse→sse': ['legacy'],
  'stdio→sse': ['legacy'],
  'http→stdio': ['legacy', 'modern'],
  'sse→stdio': ['legacy'],
  'stdio→stdio': ['legacy', 'modern'],
  'http→shared': ['legacy'],
  'sse→shared': ['legacy'],
  'http→shared-modern': ['modern'],
}

describe('the soak', () => {
  it('has every client on every server in every era', () => {
    const urls = { http: 'http://h/mcp', sse: 'http://s/sse' }
    const stand = vitalsStand('http://vitals', { tag: 'tag', urls })
    const expected = Object.entries(pairs).flatMap(([pair, eras]) => eras.map((era) => `${pair} ${era}`))
    const official = routesOf(stand).map(({ lane }) => lane)
    expect(new Set(official.map((lane) => lane.replace(/v[12] /, '')))).toEqual(new Set(expected))
    for (const pair of expected.filter((one) => one.endsWith('legacy'))) {
      for (const line of ['v1', 'v2']) expect(official).toContain(pair.replace('legacy', `${line} legacy`))
    }
    const overHttp = expected.filter((pair) => !pair.startsWith('stdio'))
    expect(rawRoutesOf(stand, 'slow').map(({ lane }) => lane)).toEqual(
      expect.arrayContaining(overHttp.map((pair) => `${pair} slow`)),
    )
  })

  it('is short here: no answer is lost or crossed, and nothing is left', patience, async () => {
    const { lanes, kills, faults } = await soak({
      durationMs: 20_000,
      seed: 1,
      crashEveryMs: 10_000,
      idleSeconds: 20,
      callTimeoutMs,
      stallTimeoutMs: callTimeoutMs,
      isTireless: true,
    })
    expect(faults).toEqual([]) // Among them: a lane without calls, a gauge that is not back at 0, a process that is left.
    expect(lanes.size).toBe(49)
    for (const [server, count] of kills) expect(count, `kills of ${server}`).toBeGreaterThan(0)
    const vanished = [...lanes].filter(([lane]) => lane.endsWith('vanishing'))
    for (const [lane, { abandoned }] of vanished) expect(abandoned, lane).toBeGreaterThan(0)
  })

  it.each([
    { what: 'an answer that is lost', mark: 'loses', fault: 'lost' },
    { what: 'an answer with the nonce of another', mark: 'crosses', fault: 'crossed' },
  ])('finds $what, over each transport', patience, async ({ mark, fault }) => {
    const found = (faults: readonly string[]) =>
      transports.filter((one) => faults.some((text) => text.startsWith(`${fault}: ${one}→${one} v1 legacy echo`)))
    const { faults } = await control({
      durationMs: 0,
      seed: 1,
      callTimeoutMs: 5000,
      marks: [mark],
      isEnough: (ledger) => found(ledger.faults()).length === transports.length,
    })
    expect(found(faults)).toEqual(transports)
  })
})

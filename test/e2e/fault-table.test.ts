import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type State, isUp } from '../../src/heartbeat/verdict.ts'
import { type Measured, boundSeconds, faultTable, groups, reasonsOf, rowsOf } from './fault-table.ts'

/** While a server is in one of these, its unavailable seconds run; so they do when its process is replaced. */
const unavailable: ReadonlySet<State> = new Set<State>(['down', 'crash_loop', 'needs_auth'])

describe.each(groups)('the fault table: %s', (group) => {
  let table: Awaited<ReturnType<typeof faultTable>>
  let directory: string
  const runs = new Map<string, Promise<Measured>>()

  /** All rows of a group at once: most of the time each of them waits. */
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-faults-'))
    table = await faultTable(directory, group)
    for (const row of rowsOf(group)) {
      const run = table.run(row)
      run.catch(() => undefined) // Its own test tells.
      runs.set(row.name, run)
    }
  }, 60_000)
  afterAll(async () => {
    await table.stop()
    await rm(directory, { recursive: true })
  }, 60_000)

  // What a fault has done to a server is done: another try would see the same.
  it.each(rowsOf(group))('$name', { timeout: 400_000, retry: 0 }, async (row) => {
    const { name, action, verdict, finally: last, isSilent, never = [] } = row
    const reasons = reasonsOf(row)
    const measured = await runs.get(name)
    expect(measured).toBeDefined()
    if (!measured) return
    const { detectedSeconds, restarts, told, up, unavailableSeconds, changes } = measured
    if (reasons.verdict) expect(measured.verdictReason).toMatch(reasons.verdict)
    else expect(told, 'what the log tells of').toEqual([])
    expect(measured.beatReasons).not.toEqual([])
    for (const reason of measured.beatReasons) expect(reason).toMatch(reasons.beats)
    expect(measured.hangReasons.length > 0, 'whether it hangs').toBe(reasons.hang !== undefined)
    for (const reason of measured.hangReasons) expect(reason).toMatch(reasons.hang ?? 'nothing hangs')
    expect(restarts, 'mcp_upstream_restarts_total').toEqual(action === 'none' ? [] : [[action, 1]])
    expect(up, 'mcp_upstream_up').toBe(isUp(last) ? 1 : 0)
    const isOutage = unavailable.has(verdict) || action !== 'none'
    expect(unavailableSeconds > 0, `mcp_upstream_unavailable_seconds_total: ${unavailableSeconds}`).toBe(isOutage)
    if (!isSilent) expect(changes, `mcp_upstream_state_changes_total to ${verdict}`).toBeGreaterThan(0)
    expect(detectedSeconds).toBeLessThan(boundSeconds(row))
    for (const state of never) expect(told.map(([one]) => one)).not.toContain(state)
  })
})

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type State, isUp } from '../../src/heartbeat/verdict.ts'
import { type Measured, faultTable, groups, rowsOf } from './fault-table.ts'

/** Any machine is faster than that. */
const slowestSeconds = 60

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

  it.each(rowsOf(group))('$name', { timeout: 400_000 }, async (row) => {
    const { name, action, reason, verdict, finally: last, isSilent, never = [] } = row
    const measured = await runs.get(name)
    expect(measured).toBeDefined()
    if (!measured) return
    const { detectedSeconds, restarts, reasons, told, up, unavailableSeconds, changes } = measured
    expect(
      reasons.some((why) => reason.test(why)),
      `${String(reason)}: ${reasons.join('; ')}`,
    ).toBe(true)
    expect(restarts, 'mcp_upstream_restarts_total').toEqual(action === 'none' ? [] : [[action, 1]])
    expect(up, 'mcp_upstream_up').toBe(isUp(last) ? 1 : 0)
    const isOutage = unavailable.has(verdict) || action !== 'none'
    expect(unavailableSeconds > 0, `mcp_upstream_unavailable_seconds_total: ${unavailableSeconds}`).toBe(isOutage)
    if (isSilent) expect(told).toEqual([])
    else expect(changes, `mcp_upstream_state_changes_total to ${verdict}`).toBeGreaterThan(0)
    expect(detectedSeconds).toBeLessThan(slowestSeconds)
    for (const state of never) expect(told).not.toContain(state)
  })
})

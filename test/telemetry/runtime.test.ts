import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { runtimeMetrics } from '../../src/telemetry/runtime.ts'

describe('runtimeMetrics', () => {
  it('has the canonical families, but for the three misnamed gauges', async () => {
    const runtime = runtimeMetrics(systemClock)
    const names = (await runtime.collect()).map(({ name }) => name)
    expect(names).toContain('process_cpu_seconds_total')
    expect(names).toContain('nodejs_eventloop_lag_p99_seconds')
    expect(names).toContain('nodejs_gc_duration_seconds')
    expect(names.filter((name) => /^nodejs_active_\w+_total$/.test(name))).toEqual([])
    await runtime.stop()
  })

  it('says nothing of an event loop that was not measured yet', async () => {
    const runtime = runtimeMetrics(systemClock)
    for (const { name, values } of await runtime.collect()) {
      for (const { value } of values) expect(value, name).toBeLessThan(name.includes('lag') ? 1e6 : Infinity)
    }
    await runtime.stop()
  })

  it('shares nothing between two, and forgets all when stopped', async () => {
    const [one, other] = [runtimeMetrics(systemClock), runtimeMetrics(systemClock)]
    expect(await one.collect()).not.toEqual([])
    await one.stop()
    expect(await one.collect()).toEqual([])
    expect(await other.collect()).not.toEqual([])
    await other.stop()
  })

  it('does not keep the process alive', () => {
    const module = fileURLToPath(new URL('../../src/telemetry/runtime.ts', import.meta.url))
    const clockModule = fileURLToPath(new URL('../../src/clock.ts', import.meta.url))
    const script = `const { runtimeMetrics } = await import(${JSON.stringify(module)}); const { systemClock } = await import(${JSON.stringify(clockModule)}); await runtimeMetrics(systemClock).collect()`
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 20_000 })
    expect(run.status, run.stderr.toString()).toBe(0)
  })
})

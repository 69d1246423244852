import { expect, it } from 'vitest'
import { legs, outcomes } from '../../src/heartbeat/classify.ts'
import { readUpstreams } from '../../src/telemetry/readings.ts'
import { pipeline } from '../telemetry/fixture.ts'
import { Ledger } from './ledger.ts'
import { VirtualTime } from './virtual-time.ts'

it('says of heartbeats what the exported metrics say', async () => {
  const { recorder, reader } = pipeline()
  const time = new VirtualTime()
  const ledger = new Ledger(time)
  for (const [at, outcome] of outcomes.entries()) {
    for (const leg of legs) {
      for (const method of ['initialize', 'ping']) {
        const heartbeat = { upstream: leg === 'session' ? 'b' : 'a', transport: 'stdio', leg, method, outcome } as const
        recorder.recordHeartbeat({ ...heartbeat, durationSeconds: at / 100 })
        ledger.record({ ...heartbeat, durationSeconds: at / 100 })
      }
    }
  }
  const exported = readUpstreams(await reader.snapshot())
  const kept = await ledger.current()
  expect([...kept.keys()].toSorted()).toEqual(['a', 'b'])
  for (const [upstream, { rttSumSeconds, ...counts }] of kept) {
    const { buckets: _, rttSumSeconds: sum = NaN, ...others } = exported.get(upstream) ?? {}
    expect({ ...counts, buckets: undefined }).toEqual({ ...others, buckets: undefined })
    expect(rttSumSeconds).toBeCloseTo(sum, 9)
  }
})

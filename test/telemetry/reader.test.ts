import { describe, expect, it } from 'vitest'
import { pipeline, upstreamGauges } from './fixture.ts'

describe('SnapshotReader', () => {
  it('forgets the gauges of an upstream that is gone, and keeps its counters', async () => {
    const { upstreams, recorder, samplesOf } = pipeline()
    upstreams.push(upstreamGauges({ up: 1 }))
    recorder.countRestart('files', 'hung')
    expect(await samplesOf('mcp_upstream_up')).toEqual(['mcp_upstream_up{upstream="files",transport="stdio"} 1'])
    upstreams.length = 0
    expect(await samplesOf('mcp_upstream_up')).toEqual([])
    expect(await samplesOf('mcp_upstream_restarts_total')).toEqual([
      'mcp_upstream_restarts_total{upstream="files",reason="hung"} 1',
    ])
  })

  it('gives every gauge to two who ask at once', async () => {
    const { upstreams, samplesOf } = pipeline()
    upstreams.push(upstreamGauges({ up: 0 }))
    const [one, other] = await Promise.all([samplesOf('mcp_upstream_up'), samplesOf('mcp_upstream_up')])
    expect(one).toHaveLength(1)
    expect(other).toEqual(one)
  })

  it('gives immutable snapshots', async () => {
    const { reader, recorder } = pipeline()
    recorder.countUnparsed('files')
    const before = JSON.stringify((await reader.snapshot()).scopeMetrics)
    const first = await reader.snapshot()
    const text = JSON.stringify(first.scopeMetrics)
    for (let count = 0; count < 3; count++) recorder.countUnparsed('files')
    await reader.snapshot()
    expect(JSON.stringify(first.scopeMetrics)).toBe(text)
    expect(before).toContain('mcp_vitals.unparsed_messages')
  })

  it('reports gauges that cannot be read and gives the rest', async () => {
    const unreadable = { loadRatio: () => { throw new Error('no load') } } // prettier-ignore
    const { recorder, errors, samplesOf } = pipeline({ sources: unreadable })
    recorder.countUnparsed('files')
    expect(await samplesOf('mcp_vitals_unparsed_messages_total')).toHaveLength(1)
    expect(errors).toEqual([new Error('no load')])
  })

  it('holds 1,000 upstreams in 12 states, where the SDK alone would fold them at 2,000', async () => {
    const states = Array.from({ length: 12 }, (_, index) => `state${index}`)
    const { upstreams, samplesOf } = pipeline({ sources: { states } })
    for (let index = 0; index < 1000; index++) {
      upstreams.push(upstreamGauges({ upstream: `u${index}`, state: 'state0' }))
    }
    const samples = await samplesOf('mcp_upstream_state')
    expect(samples).toHaveLength(12_000)
    expect(samples.filter((line) => line.endsWith(' 1'))).toHaveLength(1000)
  })
})

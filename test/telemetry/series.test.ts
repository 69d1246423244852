import { describe, expect, it } from 'vitest'
import { metering } from '../../src/telemetry/reader.ts'
import { telemetryResource } from '../../src/telemetry/resource.ts'

function measured() {
  const { meters, snapshot } = metering({
    resource: telemetryResource({}, '1'),
    version: '1',
    onError: (error) => {
      throw error
    },
  })
  const points = async (name: string) => {
    const { scopeMetrics } = await snapshot()
    const metric = scopeMetrics.flatMap(({ metrics }) => metrics).find(({ descriptor }) => descriptor.name === name)
    return metric?.dataPoints.map(({ attributes, value }) => ({ attributes, value })) ?? []
  }
  return { ...meters, points }
}

describe('SeriesKeys', () => {
  it('gives back the very attributes object that a key stands for, at every collection', async () => {
    const { rest, keys, points } = measured()
    const files = keys.of({ upstream: 'files', method: 'tools/call' })
    const search = keys.of({ upstream: 'search' })
    const counter = rest.createCounter('calls')
    counter.add(1, files.key)
    counter.add(2, search.key)
    counter.add(3, files.key)
    expect(await points('calls')).toEqual([
      { attributes: { upstream: 'files', method: 'tools/call' }, value: 4 },
      { attributes: { upstream: 'search' }, value: 2 },
    ])
    counter.add(1, search.key)
    const again = await points('calls')
    expect(again.map(({ value }) => value)).toEqual([4, 3])
    expect(again.map(({ attributes }) => attributes)).toEqual([files.attributes, search.attributes])
    expect(again[0]?.attributes).toBe(files.attributes)
  })

  it('leaves alone what was recorded with attributes of its own', async () => {
    const { readings, points } = measured()
    readings.createCounter('plain').add(1, { series: 1 })
    expect(await points('plain')).toEqual([{ attributes: { series: 1 }, value: 1 }])
  })

  it('keeps two sets with equal attributes apart, which is why AttributeSets makes one of each', async () => {
    const { rest, keys, points } = measured()
    const counter = rest.createCounter('twice')
    counter.add(1, keys.of({ a: 1 }).key)
    counter.add(1, keys.of({ a: 1 }).key)
    expect(await points('twice')).toHaveLength(2)
  })
})

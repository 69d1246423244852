import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { editDistance, nearest } from '../../src/config/suggest.ts'

describe('nearest', () => {
  const keys = ['listen', 'admin_listen', 'heartbeat', 'heartbeat_interval_seconds', 'mcpServers', 'url']

  it.each([
    ['lisen', 'listen'],
    ['Listen', 'listen'],
    ['adminListen', 'admin_listen'],
    ['heartbeat-interval-seconds', 'heartbeat_interval_seconds'],
    ['interval_seconds', 'heartbeat_interval_seconds'],
    ['servers', 'mcpServers'],
    ['uri', 'url'],
    ['x', undefined],
    ['something', undefined],
  ])('%s was probably meant as %s', (given, expected) => {
    expect(nearest(given, keys)).toBe(expected)
  })
})

it('measures a distance: none to itself, the same both ways, never longer than a detour', () => {
  const word = fc.string({ maxLength: 8 })
  fc.assert(
    fc.property(word, word, word, (a, b, c) => {
      expect(editDistance(a, a)).toBe(0)
      expect(editDistance(a, b)).toBe(editDistance(b, a))
      expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c))
    }),
  )
  expect(editDistance('kitten', 'sitting')).toBe(3)
})

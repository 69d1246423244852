import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  errorTypeLabel,
  labelBounds,
  methodLabel,
  protocolVersionLabel,
  rpcStatusLabel,
} from '../../src/telemetry/labels.ts'

describe('closed sets', () => {
  it.each([
    ['tools/call', 'tools/call'],
    ['ping', 'ping'],
    ['server/discover', 'server/discover'],
    ['subscriptions/listen', 'subscriptions/listen'],
    ['tasks/result', 'tasks/result'],
    ['notifications/cancelled', 'notifications/cancelled'],
    ['Tools/Call', '_other'],
    ['x/anything', '_other'],
    ['__proto__', '_other'],
  ])('method %s → %s', (method, label) => expect(methodLabel(method)).toBe(label))

  it.each([
    ['2024-11-05', '2024-11-05'],
    ['2026-07-28', '2026-07-28'],
    ['2099-01-01', '_other'],
  ])('revision %s → %s', (version, label) => expect(protocolVersionLabel(version)).toBe(label))

  it.each([
    [-32700, '-32700'],
    [-32601, '-32601'],
    [-32002, '-32002'],
    [-32042, '-32042'],
    [-32604, '_other'],
    [-32099, '_other'],
    [-32000.5, '_other'],
    [7, '_other'],
  ])('JSON-RPC code %d → %s', (code, label) => expect(rpcStatusLabel(code)).toBe(label))

  it.each([
    ['upstream_timeout', 'upstream_timeout'],
    ['tool_error', 'tool_error'],
    ['-32603', '-32603'],
    ['503', '503'],
    ['200', '_OTHER'],
    ['-31999', '_OTHER'],
    ['ENOENT: no such file', '_OTHER'],
  ])('error %s → %s', (errorType, label) => expect(errorTypeLabel(errorType)).toBe(label))
})

describe('labelBounds', () => {
  function bounds(maxLabelsPerUpstream: number) {
    return labelBounds({ maxLabelsPerUpstream })
  }

  it('lets a name through once its own server announced it', () => {
    const { admit, bound } = bounds(200)
    expect(bound('files', 'tool', 'read')).toBe('_overflow')
    admit('files', 'tool', ['read'])
    expect(bound('files', 'tool', 'read')).toBe('read')
    expect(bound('files', 'prompt', 'read')).toBe('_overflow')
    expect(bound('other', 'tool', 'read')).toBe('_overflow')
  })

  it('does not let in names longer than 128 characters (MCP 2025-11-25, Tools, "Tool Names")', () => {
    const { admit, bound } = bounds(200)
    admit('files', 'tool', ['x'.repeat(128), 'y'.repeat(129)])
    expect(bound('files', 'tool', 'x'.repeat(128))).not.toBe('_overflow')
    expect(bound('files', 'tool', 'y'.repeat(129))).toBe('_overflow')
  })

  it('does not let in names that UTF-8 cannot tell apart', () => {
    const { admit, bound } = bounds(200)
    const names = ['a\uD800', 'a\uD801', 'a\u{1F600}']
    admit('files', 'tool', names)
    expect(names.map((name) => bound('files', 'tool', name))).toEqual(['_overflow', '_overflow', 'a\u{1F600}'])
  })

  it('never has more values than the limit, and keeps the first', () => {
    const names = fc.array(fc.string({ maxLength: 3 }), { maxLength: 30 })
    fc.assert(
      fc.property(fc.array(names, { maxLength: 5 }), fc.integer({ min: 0, max: 10 }), (lists, limit) => {
        const { admit, bound } = bounds(limit)
        for (const list of lists) admit('files', 'tool', list)
        const distinct = [...new Set(lists.flat())]
        const admitted = distinct.filter((name) => bound('files', 'tool', name) === name)
        expect(admitted).toEqual(distinct.slice(0, limit))
      }),
    )
  })
})

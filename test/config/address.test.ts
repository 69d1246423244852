import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatAddress, isHost, isLoopback, parseAddress } from '../../src/config/address.ts'

describe('parseAddress', () => {
  it.each([
    ['127.0.0.1:7080', '127.0.0.1', 7080],
    ['localhost:0', 'localhost', 0],
    ['[::1]:0', '::1', 0],
    ['vitals.example.com:65535', 'vitals.example.com', 65_535],
    [':7080', '', 7080],
    ['7080', '127.0.0.1', 7080],
  ])('reads %s', (text, host, port) => {
    expect(parseAddress(text)).toEqual({ host, port })
  })

  it.each([
    '',
    '127.0.0.1',
    '::1:80',
    '[::1]',
    '[localhost]:80',
    'a b:80',
    'host:65536',
    'host:-1',
    'host:1.5',
    '-a:80',
  ])('refuses %j', (text) => {
    expect(parseAddress(text)).toBeUndefined()
  })

  it('reads back what formatAddress writes', () => {
    const host = fc.oneof(fc.ipV4(), fc.domain(), fc.constantFrom('', '::1', 'fe80::1', 'localhost'))
    fc.assert(
      fc.property(host, fc.integer({ min: 0, max: 65_535 }), (host, port) => {
        expect(parseAddress(formatAddress({ host, port }))).toEqual({ host, port })
      }),
    )
  })
})

it.each([
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['LOCALHOST', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['', false],
  ['::', false],
  ['0.0.0.0', false],
  ['10.0.0.1', false],
  ['127.example.com', false],
  ['localhost.example.com', false],
])('only this machine reaches %j: %s', (host, expected) => {
  expect(isLoopback({ host, port: 1 })).toBe(expected)
})

it('takes a host for what a URL may have', () => {
  const given = ['vitals.example.com', 'a', '10.0.0.1', '[::1]', '::1', 'a:80', 'http://a', 'a/b', '*', '']
  expect(given.filter(isHost)).toEqual(['vitals.example.com', 'a', '10.0.0.1', '[::1]', '::1'])
})

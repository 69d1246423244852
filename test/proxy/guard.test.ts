import { describe, expect, it } from 'vitest'
import { guard, hostnameOf } from '../../src/proxy/guard.ts'

const names = { allowedHosts: ['MCP.example.com', ''], allowedOrigins: ['https://App.example.com', 'null-not'] }

describe('Host must name us (MCP 2025-11-25, Transports, "Security Warning": DNS rebinding)', () => {
  it.each([
    ['localhost', true],
    ['localhost:7080', true],
    ['LOCALHOST:7080', true],
    ['app.localhost', true],
    ['127.0.0.1', true],
    ['127.9.9.9:80', true],
    ['[::1]', true],
    ['[::1]:7080', true],
    ['192.168.1.5:7080', true],
    ['[fe80::1]:7080', true],
    ['mcp.example.com', true],
    ['mcp.EXAMPLE.com:443', true],
    ['evil.example.com', false],
    ['mcp.example.com.evil.com', false],
    ['localhost.evil.com', false],
    ['127.0.0.1.evil.com', false],
    ['127.0.0.1.nip.io', false],
    ['notlocalhost', false],
    ['2130706433', false],
    ['0x7f000001', false],
    ['user@localhost', false],
    ['localhost/evil', false],
    ['localhost:80:90', false],
    ['localhost:', false],
    ['localhost:x', false],
    ['[::1', false],
    ['::1', false],
    [' localhost', false],
    ['', false],
  ])('%j: %s', (host, isAllowed) => {
    const check = guard(names)
    for (let again = 0; again < 2; again++) {
      expect(check({ host })?.code).toBe(isAllowed ? undefined : 'host_not_allowed')
    }
  })

  it('a missing Host is refused', () => {
    expect(guard(names)({})?.code).toBe('host_not_allowed')
  })

  it('more names than are remembered are judged all the same', () => {
    const check = guard(names)
    for (let n = 0; n < 1100; n++) expect(check({ host: `h${n}.evil.com` })?.code).toBe('host_not_allowed')
    expect(check({ host: 'localhost:1' })).toBeUndefined()
  })

  it.each([
    ['A.b:80', 'a.b'],
    ['[::1]:80', '[::1]'],
    ['a b', undefined],
  ])('the name in %j is %j', (host, name) => expect(hostnameOf(host)).toBe(name))
})

describe('Origin must be no stranger’s', () => {
  it.each([
    [undefined, true],
    ['http://localhost', true],
    ['http://localhost:5173', true],
    ['HTTPS://LOCALHOST', true],
    ['http://127.0.0.1:9', true],
    ['http://[::1]:9', true],
    ['https://app.example.com', true],
    ['https://app.example.com:8443', false],
    ['http://app.example.com', false],
    ['https://app.example.com.evil.com', false],
    ['http://localhost.evil.com', false],
    ['http://evil.com', false],
    ['http://192.168.1.5', false],
    ['null', false],
    ['file://', false],
    ['custom://localhost', false],
    ['', false],
    ['localhost', false],
  ])('%j: %s', (origin, isAllowed) => {
    const refusal = guard(names)({ host: 'localhost', ...(origin !== undefined && { origin }) })
    expect(refusal?.code).toBe(isAllowed ? undefined : 'origin_not_allowed')
  })
})

describe('the bearer token (RFC 6750 §2.1)', () => {
  const check = guard({ ...names, bearerToken: 's3cret' })

  it.each([
    ['Bearer s3cret', true],
    ['bearer s3cret', true],
    ['BEARER  s3cret ', true],
    ['Bearer S3cret', false],
    ['Bearer s3cre', false],
    ['Bearer s3crets', false],
    ['Bearer s3cret more', false],
    ['Bearer ', false],
    ['s3cret', false],
    ['Basic s3cret', false],
    [undefined, false],
  ])('%j: %s', (authorization, isAllowed) => {
    const refusal = check({ host: 'localhost', ...(authorization !== undefined && { authorization }) })
    expect(refusal?.code).toBe(isAllowed ? undefined : 'unauthorized')
  })

  it('a stranger’s Host is refused before the token is looked at', () => {
    expect(check({ host: 'evil.com', authorization: 'Bearer s3cret' })?.code).toBe('host_not_allowed')
  })

  it('the refusal repeats neither token', () => {
    expect(check({ host: 'localhost', authorization: 'Bearer guess' })?.message).not.toMatch(/s3cret|guess/)
  })
})

import { describe, expect, it } from 'vitest'
import { proxyAuthorization } from '../../src/upstreams/connect.ts'
import { proxyFor } from '../../src/upstreams/proxy-env.ts'

const both = { HTTPS_PROXY: 'http://secure:1', HTTP_PROXY: 'http://plain:2' }

describe('the proxy of a URL', () => {
  it.each([
    ['https://a.example/mcp', both, 'http://secure:1/'],
    ['http://a.example/mcp', both, 'http://plain:2/'],
    ['https://a.example/mcp', { HTTP_PROXY: 'http://plain:2' }, undefined],
    ['https://a.example/mcp', { https_proxy: 'http://lower:3', HTTPS_PROXY: 'http://upper:4' }, 'http://lower:3/'],
    ['https://a.example/mcp', { https_proxy: '', HTTPS_PROXY: 'http://upper:4' }, undefined],
    ['https://a.example/mcp', { HTTPS_PROXY: 'bare:3128' }, 'http://bare:3128/'],
    ['https://a.example/mcp', {}, undefined],
    ['http://localhost:1/mcp', both, undefined],
    ['http://127.0.0.2/mcp', both, undefined],
    ['https://[::1]/mcp', both, undefined],
  ])('%s with %j is %s', (url, env, expected) => {
    expect(proxyFor(new URL(url), env)?.href).toBe(expected)
  })

  it.each([
    ['*', true],
    ['a.example', true],
    ['.a.example', true],
    ['*.example', true],
    ['example', true],
    ['A.Example', true],
    ['b.example, a.example', true],
    ['b.example a.example', true],
    ['a.example:8443', true],
    ['a.example:443', false],
    ['.b.a.example', false],
    ['xample', false],
    ['', false],
    ['.', false],
    ['a.example.', true],
    ['0.0.0.0/0', false],
  ])('is none with NO_PROXY=%s: %s', (list, isExempt) => {
    const proxy = proxyFor(new URL('https://a.example:8443/mcp'), { ...both, NO_PROXY: list })
    expect(proxy === undefined).toBe(isExempt)
  })

  it.each(['2001:db8::1', '[2001:db8::1]', '[2001:db8::1]:443'])(
    'is none with the IPv6 address in NO_PROXY=%s',
    (list) => {
      expect(proxyFor(new URL('https://[2001:db8::1]/mcp'), { ...both, no_proxy: list })).toBeUndefined()
    },
  )

  it.each([
    ['10.1.2.3', '10.0.0.0/8', true],
    ['10.1.2.3', 'b.example,10.1.2.3/32', true],
    ['11.1.2.3', '10.0.0.0/8', false],
    ['10.1.2.3', '10.0.0.0/33', false],
    ['10.1.2.3', '10.0.0.0/', false],
    ['10.1.2.3', '/8', false],
    ['10.1.2.3', '::/0', false],
    ['a.example', '0.0.0.0/0', false],
    ['[2001:db8::1]', '2001:db8::/32', true],
    ['[2001:db8::1]', '[2001:db8::]/32', true],
    ['[2001:db9::1]', '2001:db8::/32', false],
    ['a.example.', 'a.example', true],
  ])('for %s with no_proxy=%s is none: %s', (host, list, isExempt) => {
    const proxy = proxyFor(new URL(`http://${host}:8080/mcp`), { ...both, no_proxy: list })
    expect(proxy === undefined).toBe(isExempt)
  })

  it('must be http or https, and its value is not shown', () => {
    const env = { HTTPS_PROXY: 'socks5://me:canary@host:1' }
    const message = 'the environment variable https_proxy (or in capitals) is no http or https URL'
    expect(() => proxyFor(new URL('https://a.example'), env)).toThrow(message)
  })
})

describe('what a proxy is told about who we are', () => {
  it.each([
    ['http://u:p%40ss@proxy:1', 'u:p@ss'],
    ['http://u:100%@proxy:1', 'u:100%'],
    ['http://u@proxy:1', 'u:'],
    ['http://proxy:1', undefined],
  ])('by %s is %s', (url, credentials) => {
    const [, encoded] = proxyAuthorization(new URL(url))?.split(' ') ?? []
    expect(encoded && Buffer.from(encoded, 'base64').toString()).toBe(credentials)
  })
})

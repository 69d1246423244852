import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bareUrl, redaction, shortestSecret } from '../src/redaction.ts'

describe('redaction', () => {
  it.each([
    ['a secret as it is', 'login with s3cret-value failed', 'login with <secret> failed'],
    ['every one of them', 's3cret-value, s3cret-value', '<secret>, <secret>'],
    ['one with signs that mean something in a pattern', 'key a.b*c(d)[e] used', 'key <secret> used'],
    ['one as it looks in a URL', 'GET /?k=p%40ss%2Fword%3D1 404', 'GET /?k=<secret> 404'],
    ['one as it looks in JSON', String.raw`{"k":"quo\"ted\\word"}`, '{"k":"<secret>"}'],
    ['the longer of two that begin alike', 'it is s3cret-value-long', 'it is <secret>'],
    ['a token of anybody', 'authorization: Bearer abcdefgh.123', 'authorization: Bearer <secret>'],
    ['a password of anybody', 'postgres://me:pw@db/x is down', 'postgres://<secret>@db/x is down'],
    ['a JSON Web Token', 'got eyJhbGci.eyJzdWIi.c2ln', 'got <secret>'],
    ['nothing short', 'debug mode', 'debug mode'],
    ['nothing else', 'http://host/path?x=1 a@b Basic needs', 'http://host/path?x=1 a@b Basic needs'],
  ])('hides %s', (_, text, shown) => {
    const secrets = ['s3cret-value', 's3cret-value-long', 'a.b*c(d)[e]', 'p@ss/word=1', 'quo"ted\\word', 'debug']
    expect(redaction(secrets)(text)).toBe(shown)
  })

  it('never leaves a secret, whatever stands around it', () => {
    const secret = fc.string({ minLength: shortestSecret }).filter((text) => !'<secret>'.includes(text))
    fc.assert(
      fc.property(
        fc.array(secret, { minLength: 1, maxLength: 5 }),
        fc.string(),
        fc.string(),
        (secrets, before, after) => {
          const [first = ''] = secrets
          const shown = redaction(secrets)(`${before} ${first} ${after}`)
          expect(shown.replaceAll('<secret>', '\0').includes(first) && !`${before}${after}`.includes(first)).toBe(false)
        },
      ),
    )
  })
})

describe('bareUrl', () => {
  it.each([
    ['https://host/path', 'https://host/path'],
    ['https://me:pw@host:1/path', 'https://<secret>@host:1/path'],
    ['https://host/path?key=1#part', 'https://host/path?<secret>'],
    ['file:///a/b@c', 'file:///a/b@c'],
    ['custom:thing#part', 'custom:thing#<secret>'],
  ])('%s reads %s', (url, shown) => {
    expect(bareUrl(url)).toBe(shown)
  })
})

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { substitute } from '../../src/config/environment.ts'

const env = { SET: 'value', EMPTY: '', NESTED: '${SET}' }

describe('substitute', () => {
  it.each([
    ['no variable', 'no variable'],
    ['${SET}', 'value'],
    ['a ${SET} b ${env:SET} c', 'a value b value c'],
    ['${EMPTY}', ''],
    ['${EMPTY:-default}', 'default'],
    ['${UNSET:-}', ''],
    ['${UNSET:-a:-b c}', 'a:-b c'],
    ['${env:UNSET:-default}', 'default'],
    ['$${SET}', '${SET}'],
    ['$SET and $', '$SET and $'],
    ['${NESTED}', '${SET}'],
  ])('%s becomes %s', (text, expected) => {
    expect(substitute(text, env)).toMatchObject({ text: expected, unset: [], malformed: false })
  })

  it('names every variable that is not set', () => {
    expect(substitute('${ONE}${SET}${TWO}', env).unset).toEqual(['ONE', 'TWO'])
  })

  it.each(['${', '${SET', '${}', '${1}', '${SET:+x}', '${input:key}', '${SET%.*}', '${A B}'])('refuses %s', (text) => {
    expect(substitute(text, env).malformed).toBe(true)
  })

  it('leaves a text without references alone, and escapes what it would read', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const escaped = text.replaceAll('${', () => '$${')
        // A dollar before an escape would be a part of it.
        fc.pre(!text.includes('$${'))
        expect(substitute(escaped, {}).text).toBe(text)
      }),
    )
  })
})

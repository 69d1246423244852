import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { batchMessages } from '../../src/proxy/batch-messages.ts'
import { maxBatchMessages } from '../../src/wire/batch.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'

function messagesOf(text: string) {
  const message = Buffer.from(text)
  const envelope = readEnvelope(message) ?? expect.unreachable(text)
  return batchMessages({ message, envelope })
}

const note = '{"jsonrpc":"2.0","method":"n"}'
const batchOf = (count: number) => `[${Array.from({ length: count }, () => note).join()}]`

describe('the messages of a client’s batch (MCP 2025-03-26, Basic, "Batching")', () => {
  it('are read as each of them is alone, byte for byte', () => {
    const message = fc.oneof(
      fc.record({ id: fc.oneof(fc.integer(), fc.string()), method: fc.string() }),
      fc.record({ method: fc.constant('notifications/progress'), params: fc.object() }),
      fc.record({ id: fc.integer(), result: fc.object() }),
      fc.record({ id: fc.integer(), error: fc.record({ code: fc.integer(), message: fc.string() }) }),
    )
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 20 }), fc.constantFrom('', ' ', '\n'), (all, space) => {
        const texts = all.map((one) => `${space}${JSON.stringify(one, undefined, space)}${space}`)
        expect(messagesOf(`[${texts.join()}]`)).toEqual(
          texts.map((text) => ({ message: Buffer.from(text), envelope: readEnvelope(Buffer.from(text)) })),
        )
      }),
    )
  })

  it('are a thousand at most', () => {
    expect(messagesOf(batchOf(maxBatchMessages))).toHaveLength(maxBatchMessages)
  })

  it.each([
    ['one more', batchOf(maxBatchMessages + 1), 'a batch of more than 1000 messages'],
    ['130,000 of them', batchOf(130_000), 'a batch of more than 1000 messages'],
    ['none', '[]', 'the batch is empty'],
    ['what is no message', `[${note},1]`, 'the batch holds no messages'],
    ['a batch in it', `[${note},[${note}]]`, 'the batch holds no messages'],
    ['nothing but brackets', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, 'the batch holds no messages'],
    ['an opening exchange', `[{"id":1,"method":"initialize"}]`, 'initialize is part of a batch'],
  ])('are refused: %s', (_what, text, refusal) => {
    expect(() => messagesOf(text)).toThrow(refusal)
  })
})

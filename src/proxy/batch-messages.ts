import { KnownError } from '../errors.ts'
import { batchItems, maxBatchMessages } from '../wire/batch.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'

export interface BatchMessage {
  readonly message: Buffer
  readonly envelope: Envelope
}

/** The messages of a client's JSON-RPC batch; throws `invalid_message` when it may not be (MCP 2025-03-26, Basic). */
export function batchMessages(batch: Buffer): BatchMessage[] {
  const items = batchItems(batch)
  if (!items) throw new KnownError('invalid_message', `a batch of more than ${maxBatchMessages} messages`)
  if (items.length === 0) throw new KnownError('invalid_message', 'the batch is empty')
  return items.map((message) => {
    const envelope = readEnvelope(message)
    if (!envelope || envelope.kind === 'batch') throw new KnownError('invalid_message', 'the batch holds no messages')
    // "The initialize request MUST NOT be part of a JSON-RPC batch" (MCP 2025-03-26, Lifecycle).
    if (envelope.method === 'initialize') throw new KnownError('invalid_message', 'initialize is part of a batch')
    return { message, envelope }
  })
}

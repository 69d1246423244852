import { KnownError } from '../errors.ts'
import { maxBatchMessages } from '../wire/batch.ts'
import { type Envelope, batchEntries } from '../wire/envelope.ts'

export interface BatchMessage {
  readonly message: Buffer
  readonly envelope: Envelope
}

/** The messages of a client's JSON-RPC batch; throws `invalid_message` when it may not be (MCP 2025-03-26, Basic). */
export function batchMessages(batch: BatchMessage): BatchMessage[] {
  const entries = batchEntries(batch.message, batch.envelope)
  if (!entries) throw new KnownError('invalid_message', `a batch of more than ${maxBatchMessages} messages`)
  if (entries.length === 0) throw new KnownError('invalid_message', 'the batch is empty')
  return entries.map(({ message, envelope }) => {
    if (!envelope) throw new KnownError('invalid_message', 'the batch holds no messages')
    // "The initialize request MUST NOT be part of a JSON-RPC batch" (MCP 2025-03-26, Lifecycle).
    if (envelope.method === 'initialize') throw new KnownError('invalid_message', 'initialize is part of a batch')
    return { message, envelope }
  })
}

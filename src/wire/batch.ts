/** A batch of more messages is not taken apart. */
export const maxBatchMessages = 1000

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const openings: ReadonlySet<number> = new Set([0x5b, 0x7b])
const closings: ReadonlySet<number> = new Set([0x5d, 0x7d])

/**
 * The messages of a JSON-RPC batch (MCP 2025-03-26), as uncopied parts of it; undefined when they are too many. Expects
 * what `readEnvelope` calls a batch; of what is not JSON the parts are not JSON either.
 */
export function batchItems(batch: Buffer): Buffer[] | undefined {
  const items: Buffer[] = []
  const start = batch.indexOf('[') + 1
  let itemStart = start
  let depth = 1
  for (let at = start; at < batch.length && depth > 0; at++) {
    const byte = batch[at] ?? 0
    if (byte === quote) at = stringEnd(batch, at)
    else if (openings.has(byte)) depth += 1
    else if (closings.has(byte)) depth -= 1
    const isItemEnd = (depth === 1 && byte === comma) || depth === 0
    if (!isItemEnd) continue
    if (depth > 0 || batch.subarray(itemStart, at).toString().trim() !== '') items.push(batch.subarray(itemStart, at))
    if (items.length > maxBatchMessages) return undefined
    itemStart = at + 1
  }
  return items
}

/** Where the string that opens here closes, or the end. */
function stringEnd(bytes: Buffer, from: number): number {
  for (let at = from + 1; at < bytes.length; at++) {
    if (bytes[at] === backslash) at += 1
    else if (bytes[at] === quote) return at
  }
  return bytes.length
}

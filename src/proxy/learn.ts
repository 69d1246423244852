import { namesIn } from '../wire/lists.ts'
import { SseMessageReader } from '../wire/sse.ts'

/** A list longer than this is not read; its names then come from the heartbeat's own look at the inventory. */
const maxListBytes = 1024 * 1024

/** Fed with a body's chunks, and told its end. */
export interface InventoryReader {
  push(chunk: Buffer): void
  end(): void
}

/**
 * Reads tool or prompt names out of a list that passes by, so that they may become labels. A body that is no such list
 * teaches nothing.
 */
export function inventoryReader(
  kind: 'json' | 'events',
  method: 'tools/list' | 'prompts/list',
  onNames: (names: readonly string[]) => void,
): InventoryReader {
  const key = method === 'tools/list' ? 'tools' : 'prompts'
  const learn = (message: Buffer) => {
    const names = namesIn(message, key)
    if (names.length > 0) onNames(names)
  }
  if (kind === 'events') {
    const reader = new SseMessageReader({
      maxBytes: maxListBytes,
      onMessage: ({ data }) => learn(data),
      onTooLarge: () => undefined,
    })
    return { push: (chunk) => reader.push(chunk), end: () => undefined }
  }
  const chunks: Buffer[] = []
  let bytes = 0
  return {
    push: (chunk) => {
      bytes += chunk.length
      if (bytes <= maxListBytes) chunks.push(chunk)
    },
    end: () => {
      if (bytes <= maxListBytes) learn(Buffer.concat(chunks, bytes))
    },
  }
}

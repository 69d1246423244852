/** Tells a server that nobody waits for the answer to this request any more (MCP, Cancellation); `id` is raw JSON text. */
export function cancellationOf(id: string, reason: string): Buffer {
  const params = `{"requestId":${id},"reason":${JSON.stringify(reason)}}`
  return Buffer.from(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":${params}}`)
}

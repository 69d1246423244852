/** The few messages of our own in a process that clients share; an `id` is raw JSON text. */

/** Asked when the last session that had subscribed has left without saying so. */
export function unsubscription(id: string, uri: string): Buffer {
  return request(id, 'resources/unsubscribe', `{"uri":${JSON.stringify(uri)}}`)
}

export function levelRequest(id: string, level: string): Buffer {
  return request(id, 'logging/setLevel', `{"level":${JSON.stringify(level)}}`)
}

/** What MCP calls an EmptyResult. */
export function emptyAnswer(id: string): Buffer {
  return Buffer.from(`{"jsonrpc":"2.0","id":${id},"result":{}}`)
}

/** Refuses a request of the server. */
export function refusal(id: string, code: number, why: string): Buffer {
  const message = JSON.stringify(`mcp-vitals: ${why}`)
  return Buffer.from(`{"jsonrpc":"2.0","id":${id},"error":{"code":${code},"message":${message}}}`)
}

function request(id: string, method: string, params: string): Buffer {
  return Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":"${method}","params":${params}}`)
}

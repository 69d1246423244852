import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import type { Message } from './rpc.ts'

/** An HTTP server in this process that does exactly what a test says. */
export interface ScriptedServer {
  readonly url: string
  readonly stop: () => Promise<void>
}

/** Listens on a free port; `script` answers every request, whose body it gets as the JSON-RPC message that it is. */
export function scriptedServer(
  script: (message: Message, response: ServerResponse, request: IncomingMessage) => void,
): Promise<ScriptedServer> {
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => script(body === '' ? {} : (JSON.parse(body) as Message), response, request))
  })
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      resolve({ url: `http://127.0.0.1:${port}/mcp`, stop })
    })
  })
}

/** Sends one JSON body. */
export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

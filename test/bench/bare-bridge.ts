/**
 * What a stdio bridge does at the least, whatever routes its requests: it holds one child process, a request's body
 * becomes a line, each line of the child is matched to its request by the id and becomes the answer. It looks at nothing
 * else, knows no sessions, and two clients with the same id would get each other's answers.
 */
import { spawn } from 'node:child_process'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'

const lineFeed = 0x0a

/** The first id in a message, which is its own in all that the benchmark sends and gets. */
function idOf(message: Buffer): string | undefined {
  return /"id":(\d+)/.exec(message.toString('latin1', 0, 200))?.[1]
}

/** Starts the child; gives what answers a request by it. */
export function bareBridge(): (incoming: IncomingMessage, outgoing: ServerResponse) => void {
  const child = spawn(process.execPath, ['test/peers/echo-stdio.ts'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting = new Map<string, ServerResponse>()

  const answer = (line: Buffer) => {
    const id = idOf(line)
    const outgoing = id === undefined ? undefined : waiting.get(id)
    if (id === undefined || !outgoing) return
    waiting.delete(id)
    outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': line.length })
    outgoing.end(line)
  }

  let rest: Buffer = Buffer.alloc(0)
  child.stdout.on('data', (chunk: Buffer) => {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (let end = bytes.indexOf(lineFeed); end !== -1; end = bytes.indexOf(lineFeed)) {
      answer(bytes.subarray(0, end))
      bytes = bytes.subarray(end + 1)
    }
    rest = bytes
  })

  const stop = () => {
    child.kill()
    process.exit(0)
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)

  return (incoming, outgoing) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const [only] = chunks
      const body = chunks.length === 1 && only ? only : Buffer.concat(chunks)
      const id = idOf(body)
      if (id === undefined) outgoing.writeHead(202, { 'content-length': 0 }).end()
      else waiting.set(id, outgoing)
      child.stdin.cork()
      child.stdin.write(body)
      child.stdin.write('\n')
      child.stdin.uncork()
    })
  }
}

/** Listens on the port of the environment and prints `{"msg":"listening","url":…}`. */
export function announce(server: Server): void {
  server.keepAliveTimeout = 60_000
  server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/mcp` }))
  })
}

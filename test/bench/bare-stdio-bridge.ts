/**
 * What any stdio bridge costs at the least: node:http and one child process. A request's body becomes a line, each line
 * of the child is matched to its request by the id and becomes the answer. It looks at nothing else, knows no sessions,
 * and two clients with the same id would get each other's answers.
 *
 * `PORT=0 node test/bench/bare-stdio-bridge.ts` prints `{"msg":"listening","url":…}`.
 */
import { spawn } from 'node:child_process'
import { type ServerResponse, createServer } from 'node:http'

const child = spawn(process.execPath, ['test/peers/echo-stdio.ts'], { stdio: ['pipe', 'pipe', 'inherit'] })
const waiting = new Map<string, ServerResponse>()
const lineFeed = 0x0a

/** The first id in a message, which is its own in all that the benchmark sends and gets. */
function idOf(message: Buffer): string | undefined {
  return /"id":(\d+)/.exec(message.toString('latin1', 0, 200))?.[1]
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

function answer(line: Buffer): void {
  const id = idOf(line)
  const res = id === undefined ? undefined : waiting.get(id)
  if (id === undefined || !res) return
  waiting.delete(id)
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': line.length })
  res.end(line)
}

const server = createServer((req, res) => {
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => chunks.push(chunk))
  req.on('end', () => {
    const [only] = chunks
    const body = chunks.length === 1 && only ? only : Buffer.concat(chunks)
    const id = idOf(body)
    if (id === undefined) res.writeHead(202, { 'content-length': 0 }).end()
    else waiting.set(id, res)
    child.stdin.cork()
    child.stdin.write(body)
    child.stdin.write('\n')
    child.stdin.uncork()
  })
})

server.keepAliveTimeout = 60_000
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/mcp` }))
})

function stop(): void {
  child.kill()
  process.exit(0)
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)

import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/** The loopback port where people expect something, if nobody has it; else one that is free. */
export async function portNear(expected: number): Promise<number> {
  if (await isFree(expected)) return expected
  for (;;) {
    // Below those that the kernel gives to connections, which would take it before its program does.
    const port = randomInt(16_384, 32_768)
    if (await isFree(port)) return port
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

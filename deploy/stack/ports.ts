import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/** The loopback port where people expect something, if nobody has it; else one that is free. */
export async function portNear(expected: number): Promise<number> {
  return (await isFree(expected)) ? expected : freePort()
}

/**
 * A loopback port that nobody listens on right now, for programs that must be told one. It is below those that the
 * kernel gives to connections and to whoever listens on port 0, which would take it before that program does.
 */
export async function freePort(): Promise<number> {
  for (;;) {
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

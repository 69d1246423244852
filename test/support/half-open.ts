import { type Socket, connect, createServer } from 'node:net'
import { listenOn } from './mcp-server.ts'

/**
 * A way to a server that can end as the plug of a switch does: connections stay open, and nothing passes any more. When
 * it is mended, those connections are gone.
 */
export async function halfOpenable(target: URL) {
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer((near) => {
    sockets.add(near)
    near.on('error', () => undefined).on('close', () => sockets.delete(near))
    if (isCut) return
    const far = connect(Number(target.port), target.hostname)
    far.on('error', () => undefined).on('close', () => !isCut && near.destroy())
    near.on('close', () => far.destroy())
    near.on('data', (bytes) => !isCut && far.write(bytes))
    far.on('data', (bytes) => !isCut && near.write(bytes))
  })
  const port = await listenOn(server)
  return {
    origin: `http://127.0.0.1:${port}`,
    cut: () => {
      isCut = true
    },
    mend: () => {
      isCut = false
      for (const socket of sockets) socket.destroy()
    },
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}

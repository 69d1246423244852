/** Node's inspector in a process of ours, for the one thing that only it can tell: what is left after a collection. */
import { eventually } from './eventually.ts'

/** Makes the process open its inspector on a free port when it is asked to; for its environment. */
export const inspectable = { NODE_OPTIONS: '--inspect-port=127.0.0.1:0' } as const

interface Inspected {
  readonly pid: number
  /** What it wrote, which names the inspector's address. */
  readonly output: () => string
}

/** Opens the inspector; what it returns tells the bytes of the heap that are in use after a full collection. */
export async function heapMeter({ pid, output }: Inspected): Promise<() => Promise<number>> {
  process.kill(pid, 'SIGUSR1')
  const url = await eventually(() => /Debugger listening on (ws:\S+)/.exec(output())?.[1], { what: 'an inspector' })
  return async () => {
    const socket = new WebSocket(url)
    await new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }))
    try {
      await call(socket, 1, 'HeapProfiler.collectGarbage')
      const { usedSize } = await call(socket, 2, 'Runtime.getHeapUsage')
      return Number(usedSize)
    } finally {
      socket.close()
    }
  }
}

function call(socket: WebSocket, id: number, method: string): Promise<Readonly<Record<string, unknown>>> {
  return new Promise((resolve) => {
    const hear = ({ data }: MessageEvent) => {
      const answer = JSON.parse(String(data)) as {
        readonly id?: number
        readonly result?: Readonly<Record<string, unknown>>
      }
      if (answer.id !== id) return
      socket.removeEventListener('message', hear)
      resolve(answer.result ?? {})
    }
    socket.addEventListener('message', hear)
    socket.send(JSON.stringify({ id, method }))
  })
}

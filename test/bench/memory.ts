import { type Socket, connect } from 'node:net'
import { sleep, systemClock } from '../../src/clock.ts'
import { processUsage } from './proc.ts'

/** How many streams a target holds when it is first weighed, and how many more at the second time. */
const before = 1000
const more = 2000
const together = 100
/** Long enough for V8 to notice that nothing happens, and to collect. */
const settleMs = 10_000

/** What each idle event stream adds to the resident memory of a process; undefined where there is no /proc. */
export async function bytesPerStream({ url, pid }: { readonly url: string; readonly pid: number }) {
  const sockets: Socket[] = []
  try {
    await openStreams(url, before, sockets)
    await sleep(systemClock, settleMs)
    const first = processUsage(pid)
    await openStreams(url, more, sockets)
    await sleep(systemClock, settleMs)
    const second = processUsage(pid)
    return first && second ? (second.residentBytes - first.residentBytes) / more : undefined
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

async function openStreams(url: string, count: number, sockets: Socket[]): Promise<void> {
  for (let opened = 0; opened < count; opened += together) {
    sockets.push(...(await Promise.all(Array.from({ length: together }, () => openStream(new URL(url))))))
  }
}

/** Resolves when the head of the answer is here. */
function openStream({ hostname, port, host, pathname }: URL): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error(`${host} closed a stream`)))
    socket.once('data', (data: Buffer) => {
      if (data.toString('latin1').startsWith('HTTP/1.1 200')) resolve(socket)
      else reject(new Error(`${host} opened no stream: ${data.toString('latin1', 0, 100)}`))
    })
    socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\nAccept: text/event-stream\r\nX-Hold-Open: 1\r\n\r\n`)
  })
}

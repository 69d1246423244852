import { connect, type Socket } from 'node:net'
import { ResponseReader } from './response-reader.ts'

export interface LoadOptions {
  /** Where to POST, `http://127.0.0.1:PORT/path`. */
  readonly url: string
  readonly answerBytes: number
  /** Connections, each with one request in flight. */
  readonly concurrency: number
  readonly durationMs: number
  /** Ends the round early; the bound of its memory too. */
  readonly maxRequests: number
}

export interface LoadResult {
  readonly requests: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** How much of one core the generator itself used: near 1, it is what was measured. */
  readonly generatorCpuRatio: number
}

const body = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'echo', arguments: { text: 'hello' } },
})

function requestBytes({ host, pathname }: URL, answerBytes: number): Buffer {
  const lines = [
    `POST ${pathname} HTTP/1.1`,
    `Host: ${host}`,
    'Content-Type: application/json',
    'Accept: application/json, text/event-stream',
    'MCP-Protocol-Version: 2025-11-25',
    `X-Answer-Bytes: ${answerBytes}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`)
}

/** One closed-loop round: every connection sends its next request when its answer has arrived whole. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { answerBytes, concurrency, durationMs, maxRequests } = options
  const url = new URL(options.url)
  const request = requestBytes(url, answerBytes)
  const sockets = await Promise.all(Array.from({ length: concurrency }, () => open(url)))
  const latenciesMs = new Float64Array(maxRequests)
  const cpuBefore = process.cpuUsage()
  const startedMs = performance.now()
  const untilMs = startedMs + durationMs
  let done = 0
  let started = 0

  const drive = (socket: Socket) =>
    new Promise<void>((resolve, reject) => {
      let sentMs = 0
      const next = () => {
        if (started >= maxRequests || performance.now() >= untilMs) return resolve()
        started++
        sentMs = performance.now()
        socket.write(request)
      }
      const reader = new ResponseReader(({ status, bodyBytes }) => {
        if (status !== 200 || bodyBytes !== answerBytes) {
          return reject(new Error(`${options.url} answered ${status} with ${bodyBytes} bytes, not ${answerBytes}`))
        }
        latenciesMs[done++] = performance.now() - sentMs
        next()
      })
      socket.on('data', (data: Buffer) => {
        try {
          reader.push(data)
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
        }
      })
      socket.once('error', reject)
      socket.once('close', () => reject(new Error(`${options.url} closed a connection in mid-round`)))
      next()
    })

  try {
    await withDeadline(Promise.all(sockets.map(drive)), durationMs + answerDeadlineMs, options.url)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
  const seconds = (performance.now() - startedMs) / 1000
  const cpu = process.cpuUsage(cpuBefore)
  const sorted = latenciesMs.subarray(0, done).toSorted()
  return {
    requests: done,
    seconds,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    generatorCpuRatio: (cpu.user + cpu.system) / 1e6 / seconds,
  }
}

/** How long the last answers of a round may take before the round counts as hung. */
const answerDeadlineMs = 20_000

async function withDeadline<T>(work: Promise<T>, deadlineMs: number, url: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${url} left requests unanswered for ${answerDeadlineMs} ms`)),
      deadlineMs,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

function open({ hostname, port }: URL): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })
}

/** The nearest-rank quantile of sorted values. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2
}

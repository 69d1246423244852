import type { ServerResponse } from 'node:http'
import type { Clock } from '../clock.ts'
import type { Instruments, StreamEnd, StreamGauge } from '../telemetry/instruments.ts'
import { keepAliveComment } from '../wire/sse.ts'
import type { Sweep, Swept } from './sweep.ts'

export interface StreamsOptions {
  readonly clock: Clock
  readonly sweep: Sweep
  readonly instruments: Pick<Instruments, 'recordStream' | 'countStreamEvent'>
  /** The longest silence on a stream; `Infinity` adds nothing to any. */
  readonly keepAliveMs: () => number
}

export interface StreamStart {
  readonly upstream: string
  /** The client's. */
  readonly transport: 'http' | 'sse'
  readonly outgoing: ServerResponse
  /** Whether a comment may be put in now; absent where none may ever (its length is declared, or it is compressed). */
  readonly isBetweenEvents?: (() => boolean) | undefined
}

/** The event streams that are open towards clients: counted, measured, and kept alive while they are silent. */
export class Streams {
  readonly #options: StreamsOptions
  readonly #open = new Map<string, StreamGauge>()
  #isStopping = false

  constructor(options: StreamsOptions) {
    this.#options = options
  }

  open(start: StreamStart): OpenStream {
    const { clock, sweep, instruments } = this.#options
    const keepAliveMs = this.#options.keepAliveMs()
    const { upstream, transport } = start
    const openedMs = clock.now()
    this.#count(start, 1)
    const stream = new OpenStream(start, {
      keepAliveMs,
      openedMs,
      onEvent: () => instruments.countStreamEvent(upstream, transport),
      onEnd: (end) => {
        sweep.delete(stream)
        this.#count(start, -1)
        const reason = isBreak(end) && this.#isStopping ? 'shutdown' : end
        instruments.recordStream({ upstream, transport, reason, durationSeconds: (clock.now() - openedMs) / 1000 })
      },
    })
    if (start.isBetweenEvents && keepAliveMs !== Infinity) sweep.add(stream)
    return stream
  }

  /** An answer that may become a stream while it is waited for looks at the time until it has begun. */
  await(reply: Swept): void {
    this.#options.sweep.add(reply)
  }

  begun(reply: Swept): void {
    this.#options.sweep.delete(reply)
  }

  /** How many are open; what was open once stays, at 0. */
  gauges(): Iterable<StreamGauge> {
    return this.#open.values()
  }

  /** From now on it is we who close connections. */
  stop(): void {
    this.#isStopping = true
  }

  #count({ upstream, transport }: StreamStart, change: 1 | -1): void {
    const key = `${upstream}\0${transport}`
    const open = (this.#open.get(key)?.open ?? 0) + change
    this.#open.set(key, { upstream, transport, open })
  }
}

/** Whether a connection was closed on one side, which our own stop does on both. */
function isBreak(end: StreamEnd): boolean {
  return end === 'client_gone' || end === 'upstream_error'
}

interface StreamLife {
  readonly keepAliveMs: number
  readonly openedMs: number
  readonly onEvent: () => void
  readonly onEnd: (reason: StreamEnd) => void
}

/** One event stream towards a client. */
export class OpenStream implements Swept {
  readonly #start: StreamStart
  readonly #life: StreamLife
  #silentSinceMs: number
  #bytes = 0
  #isOver = false
  place: number | undefined

  constructor(start: StreamStart, life: StreamLife) {
    this.#start = start
    this.#life = life
    this.#silentSinceMs = life.openedMs
  }

  event(): void {
    this.#life.onEvent()
  }

  /** The first reason counts. */
  end(reason: StreamEnd): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#life.onEnd(reason)
  }

  /** What was written since the last look, by whomever, is seen on the socket. */
  sweep(nowMs: number): void {
    const { outgoing, isBetweenEvents } = this.#start
    if (this.#hasMoved()) {
      this.#silentSinceMs = nowMs
      return
    }
    if (nowMs - this.#silentSinceMs < this.#life.keepAliveMs) return
    const isWritable = outgoing.headersSent && !outgoing.writableEnded && !outgoing.writableNeedDrain
    if (!isWritable || isBetweenEvents?.() !== true) return
    outgoing.write(keepAliveComment)
    this.#hasMoved()
    this.#silentSinceMs = nowMs
  }

  #hasMoved(): boolean {
    const before = this.#bytes
    this.#bytes = this.#start.outgoing.socket?.bytesWritten ?? before
    return this.#bytes !== before
  }
}

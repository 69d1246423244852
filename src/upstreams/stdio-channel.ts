import { type Clock, sleep } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { readEnvelope } from '../wire/envelope.ts'
import { LineReader, writeLine } from '../wire/lines.ts'
import type { Channel, ChannelEvents } from './channel.ts'
import { type ServerProcess, describeExit } from './process.ts'
import { refuseUnfit } from './unfit.ts'

export interface StdioChannelOptions {
  readonly process: ServerProcess
  readonly clock: Clock
  readonly maxLineBytes: number
  readonly events: ChannelEvents & {
    /** A stdout line that is no JSON-RPC message, or one too long to carry: dropped. */
    onDropped(reason: 'noise' | 'message_too_long'): void
  }
}

/** What the process wrote just before it died is still in the pipe; a grandchild may hold that pipe open for ever. */
const lastWordsMs = 100

/** Newline-delimited JSON-RPC to and from one child process (MCP 2025-11-25, Transports, stdio). */
export class StdioChannel implements Channel {
  readonly process: ServerProcess
  readonly #clock: Clock
  readonly #events: StdioChannelOptions['events']
  readonly #lines: LineReader
  #linesInTurn = 0
  #isBusy = false
  /** Of the lines of this turn that leave in one write, the first. */
  #firstSent: Promise<void> | undefined
  #closed: string | undefined

  constructor({ process, clock, maxLineBytes, events }: StdioChannelOptions) {
    this.process = process
    this.#clock = clock
    this.#events = events
    this.#lines = new LineReader({
      maxBytes: maxLineBytes,
      onLine: (line) => this.#hear(line),
      onTooLong: (bytes, envelope) => {
        events.onDropped('message_too_long')
        if (!envelope) return
        refuseUnfit({ envelope, bytes, maxBytes: maxLineBytes, events, answer: (error) => this.send(error) })
      },
    })
    const drained = new AbortController()
    process.stdout.once('close', () => drained.abort())
    process.stdout.on('data', (chunk: Buffer) => this.#read(chunk))
    void this.#closeAfter(process, drained.signal)
  }

  async #closeAfter(process: ServerProcess, drained: AbortSignal): Promise<void> {
    const exit = await process.exited
    await sleep(this.#clock, lastWordsMs, drained)
    this.#lines.end()
    this.#closed = `process ${process.pid ?? '?'} ${describeExit(exit)}`
    this.#events.onClose(this.#closed)
  }

  /** A grandchild that holds the pipe open does not speak for the server. */
  #read(chunk: Buffer): void {
    if (this.#closed === undefined) this.#lines.push(chunk)
  }

  #hear(line: Buffer): void {
    const envelope = readEnvelope(line)
    if (envelope) this.#events.onMessage(line, envelope)
    else this.#events.onDropped('noise')
  }

  /** Puts the message on one line. Resolves once the pipe has taken the line, which is the back-pressure of a server that does not read. */
  send(message: Buffer): Promise<void> {
    const { stdin } = this.process
    if (this.#closed !== undefined || !stdin.writable) {
      return Promise.reject(new KnownError('upstream_exited', this.#closed ?? 'the process no longer reads its stdin'))
    }
    this.#gather()
    if (!this.#isBusy) return this.#write(message)
    if (!this.#firstSent) return (this.#firstSent = this.#write(message))
    // What leaves in one write has one fate.
    writeLine(stdin, message)
    return this.#firstSent
  }

  #write(message: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      writeLine(this.process.stdin, message, (error) => {
        if (error) reject(new KnownError('upstream_exited', `stdin: ${error.message}`, { cause: error }))
        else resolve()
      })
    })
  }

  /** Not for messages of our own, which are short and few: how the server bears them is what we want to know. */
  refusal(): KnownError | undefined {
    const { pid, stdin } = this.process
    if (stdin.writableLength < defaults.maxUnreadBytes) return undefined
    const unread = `process ${pid ?? '?'} has left ${stdin.writableLength} bytes of its stdin unread`
    return new KnownError('queue_full', `${unread}; the limit is ${defaults.maxUnreadBytes}`)
  }

  /**
   * What is sent in one turn of the event loop leaves in one write: a system call costs more than all the rest here.
   * Only where the turn before had a single line, the first does not wait for others.
   */
  #gather(): void {
    this.#linesInTurn += 1
    if (this.#linesInTurn > 1) return
    const { stdin } = this.process
    const isBusy = this.#isBusy
    if (isBusy) stdin.cork()
    setImmediate(() => {
      this.#isBusy = this.#linesInTurn > 1
      this.#linesInTurn = 0
      this.#firstSent = undefined
      if (isBusy) stdin.uncork()
    })
  }

  async close(): Promise<void> {
    await this.process.stop()
  }
}

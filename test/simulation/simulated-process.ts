import { Readable, Writable } from 'node:stream'
import type { ExitReason, ServerProcess } from '../../src/upstreams/process.ts'
import { type Message, answerTo, letsIn } from './answers.ts'
import type { SimulatedServer } from './server.ts'
import type { VirtualTime } from './virtual-time.ts'

/** How long a process that has to be killed takes: what its server does with the end of its input, and SIGTERM. */
const stubbornMs = 8000
const obedientMs = 30

/** A process without a system: what it reads and writes goes through real streams, as a stdio server's. */
export class SimulatedProcess implements ServerProcess {
  readonly pid: number
  readonly startedAtMs: number
  readonly startedAtWallMs: number
  readonly stdin: Writable
  readonly stdout: Readable
  readonly exited: Promise<ExitReason>
  isReady = false
  /** It answered an opening exchange. */
  isOpen = false
  /** It hangs, until it is ended or its fault is over. */
  isStopped = false
  /** It uses more memory than it may. */
  isOutgrown = false
  readonly #time: VirtualTime
  readonly #server: SimulatedServer
  readonly #resolve: (exit: ExitReason) => void
  #exit: ExitReason | undefined
  #isEnding = false
  /** What was read before it was ready. */
  #unread: Message[] = []

  constructor({
    pid,
    time,
    server,
  }: {
    readonly pid: number
    readonly time: VirtualTime
    readonly server: SimulatedServer
  }) {
    this.pid = pid
    this.#time = time
    this.#server = server
    this.startedAtMs = time.now()
    this.startedAtWallMs = time.wallTime()
    const { promise, resolve } = Promise.withResolvers<ExitReason>()
    this.exited = promise
    this.#resolve = resolve
    this.stdout = new Readable({ read: () => undefined })
    this.stdin = new Writable({
      writev: (chunks, done) => {
        this.#read(Buffer.concat(chunks.map(({ chunk }: { chunk: Buffer }) => chunk)).toString())
        done()
      },
    })
    const cork = this.stdin.cork.bind(this.stdin)
    this.stdin.cork = () => {
      time.streamMoved()
      cork()
    }
  }

  stderrTail(): string {
    return ''
  }

  exit(): ExitReason | undefined {
    return this.#exit
  }

  lastStderrMs(): number {
    return this.startedAtMs
  }

  stop(): Promise<ExitReason> {
    if (this.#exit || this.#isEnding) return this.exited
    this.#isEnding = true
    this.#server.ending()
    const isStubborn = this.isStopped
    const signal = isStubborn ? 'SIGKILL' : 'SIGTERM'
    this.#time.at(this.#time.now() + (isStubborn ? stubbornMs : obedientMs), () => this.end({ kind: 'signal', signal }))
    return this.exited
  }

  kill(signal: NodeJS.Signals): void {
    this.end({ kind: 'signal', signal })
  }

  /** It writes what is for nobody. */
  say(): void {
    if (!this.#exit) this.#write('{"jsonrpc":"2.0","method":"notifications/message"}\n')
  }

  ready(): void {
    this.isReady = true
    for (const message of this.#unread.splice(0)) this.#answer(message)
  }

  end(exit: ExitReason): void {
    if (this.#exit) return
    this.#exit = exit
    this.isReady = false
    this.isOpen = false
    this.#time.streamMoved()
    this.stdout.push(null)
    this.stdin.destroy()
    this.#resolve(exit)
    this.#server.look()
  }

  #read(text: string): void {
    for (const line of text.split('\n')) {
      if (line === '') continue
      const message: Message = JSON.parse(line)
      if (message.id === undefined) continue
      this.#server.asked(message.method ?? '')
      if (this.isReady) this.#answer(message)
      else this.#unread.push(message)
    }
  }

  #answer(message: Message): void {
    const reply = this.#server.reply('request')
    if (reply.kind === 'nothing' || reply.kind === 'refused' || reply.kind === 'locked') return
    const { kind, afterMs } = reply
    this.#time.at(this.#time.now() + afterMs, () => {
      if (this.#exit) return
      if (kind !== 'answer') return this.#write('Traceback (most recent call last):\n')
      const answer = answerTo(message, this.#server.traits())
      if (!answer) return
      if (letsIn(message, answer)) this.#server.opened()
      this.#write(`${JSON.stringify({ jsonrpc: '2.0', id: message.id, ...answer })}\n`)
    })
  }

  #write(text: string): void {
    this.#time.streamMoved()
    this.stdout.push(text)
  }
}

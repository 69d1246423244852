import { systemClock } from '../../src/clock.ts'
import { defaults } from '../../src/defaults.ts'
import { findSetpriv } from '../../src/upstreams/executable.ts'
import { type ServerProcess, type StartProcess, describeExit, processStarter } from '../../src/upstreams/process.ts'
import { Watchdog } from '../../src/upstreams/watchdog.ts'
import { LineReader } from '../../src/wire/lines.ts'

/** A program of the stack. */
export interface Part {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Hears each line that it writes, until it is asked to end. */
  readonly onLine: (line: string) => void
}

/** What a part that was asked to end gets for it; mcp-vitals needs the most. */
const termGraceMs = defaults.shutdownDeadlineMs + 2000

/**
 * The programs that run together: when one of them ends, `onEnd` hears why, and all of them are stopped together. They
 * are in process groups of their own, so that Ctrl-C reaches us alone, and none outlives us, however we end.
 */
export class Parts {
  readonly #watchdog = new Watchdog()
  readonly #start: StartProcess
  readonly #onEnd: (why: string) => void
  readonly #running: ServerProcess[] = []
  #isStopping = false

  constructor(onEnd: (why: string) => void) {
    this.#onEnd = onEnd
    this.#start = processStarter({ clock: systemClock, setprivPath: findSetpriv(), watchdog: this.#watchdog })
  }

  start({ name, command, args, env = {}, onLine }: Part): void {
    const hear = (line: string) => {
      if (!this.#isStopping) onLine(line)
    }
    const process = this.#start({ command, args, env }, { stderrTailBytes: 0, onStderr: lines(hear) })
    process.stdout.on('data', lines(hear))
    void process.exited.then((exit) => this.#onEnd(`${name} ${describeExit(exit)}`))
    this.#running.push(process)
  }

  /** Stops them all, the last one first. */
  async stop(): Promise<void> {
    this.#isStopping = true
    for (const process of this.#running.toReversed()) await process.stop({ stdinGraceMs: 0, termGraceMs })
    this.#watchdog.close()
  }
}

const longestLine = 64 * 1024

function lines(onLine: (line: string) => void): (chunk: Buffer) => void {
  const reader = new LineReader({
    maxBytes: longestLine,
    onLine: (line) => onLine(line.toString()),
    onTooLong: () => undefined,
  })
  return (chunk) => reader.push(chunk)
}

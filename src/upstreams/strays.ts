import { randomUUID } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { type Clock, sleep } from '../clock.ts'
import { hasProc } from './process-tree.ts'

/**
 * What a server starts inherits this variable, also what leaves its process group (`setsid`). It names each start of ours
 * that a process comes from, the outermost first: a server may itself be an mcp-vitals.
 */
export const originVariable = 'MCP_VITALS_START'

/** One start of a server, as everything that comes from it tells of it. */
export interface Origin {
  /** What the server has to find in its environment. */
  readonly env: Readonly<Record<string, string>>
  /** Ends whatever still runs that comes from this start. Resolves when nothing does, or when it could not be ended. */
  end(): Promise<void>
}

export interface StraysOptions {
  readonly clock: Clock
  /** These are ended now. */
  readonly onFound?: (pids: readonly number[]) => void
}

interface Marked {
  readonly pid: number
  readonly origins: readonly string[]
}

const graceMs = 1000
const firstLookMs = 10
/** A look at all environments costs as much as the machine has processes: between two of them that time, so often. */
const restPerLook = 4
/** After so many processes everybody else has a turn. */
const processesPerTurn = 64

/**
 * Finds and ends what servers started and let go of. Nobody else is hurt: what is signalled was found, a moment before,
 * to have inherited the unique name of the very start that is over.
 */
export class Strays {
  /** In the environment of everything that comes from any start of ours. */
  readonly mark = randomUUID()
  readonly #options: StraysOptions
  #starts = 0
  #nextLook: Promise<readonly Marked[]> | undefined
  #notBeforeMs = 0

  constructor(options: StraysOptions) {
    this.#options = options
  }

  /**
   * For one more start. Undefined where nothing could be found, and for a server whose own environment sets the variable:
   * what that starts is not ours to end.
   */
  origin(own: Readonly<Record<string, string>>): Origin | undefined {
    if (originVariable in own || !hasProc()) return undefined
    const name = `${this.mark}-${++this.#starts}`
    const outer = process.env[originVariable] ?? ''
    return { env: { [originVariable]: `${outer} ${name}`.trimStart() }, end: () => this.#end(name) }
  }

  /** What is forked while others are killed is found the next time. */
  async #end(name: string): Promise<void> {
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGKILL'] as const) {
      const marked = await this.#look()
      const pids = marked.flatMap(({ pid, origins }) => (origins.includes(name) ? [pid] : []))
      if (pids.length === 0) return
      if (signal === 'SIGTERM') this.#options.onFound?.(pids)
      for (const pid of pids) if (comesFrom(pid, name)) signalProcess(pid, signal)
      await this.#gone(pids, name)
    }
  }

  async #gone(pids: readonly number[], name: string): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.now() + graceMs
    for (let pauseMs = firstLookMs; pids.some((pid) => comesFrom(pid, name)); pauseMs *= 2) {
      const leftMs = deadlineMs - clock.now()
      if (leftMs <= 0) return
      await sleep(clock, Math.min(pauseMs, leftMs))
    }
  }

  /** One look for all who ask before it begins. */
  #look(): Promise<readonly Marked[]> {
    this.#nextLook ??= this.#lookSoon()
    return this.#nextLook
  }

  async #lookSoon(): Promise<readonly Marked[]> {
    const { clock } = this.#options
    await sleep(clock, this.#notBeforeMs - clock.now())
    this.#nextLook = undefined
    const startedMs = clock.now()
    const marked = await markedProcesses(this.mark)
    this.#notBeforeMs = clock.now() + (clock.now() - startedMs) * restPerLook
    return marked
  }
}

async function markedProcesses(mark: string): Promise<readonly Marked[]> {
  const marked: Marked[] = []
  const pids = readdirSync('/proc').filter((name) => /^\d/.test(name))
  for (const [index, pid] of pids.entries()) {
    if (index % processesPerTurn === processesPerTurn - 1) await turn()
    const origins = originsOf(pid)
    if (origins.some((origin) => origin.startsWith(mark))) marked.push({ pid: Number(pid), origins })
  }
  return marked
}

function comesFrom(pid: number, name: string): boolean {
  return originsOf(pid).includes(name)
}

/** None of a zombie, whose environment is gone, nor of a process that we may not look into. */
function originsOf(pid: number | string): readonly string[] {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, 'latin1')
    if (!environment.includes(originVariable)) return []
    const entry = environment.split('\0').find((one) => one.startsWith(`${originVariable}=`)) ?? ''
    return entry.slice(originVariable.length + 1).split(' ')
  } catch {
    return [] // It went between two looks, or runs as another user.
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // ESRCH: it has just gone, which is what the caller wants.
  }
}

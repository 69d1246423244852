/** A way to send one request after another and to hear each answer. */
export interface Lane {
  /** Sends the next request; `done` hears of its answer. */
  call(done: () => void): void
  close(): void
}

/** Opens the lane of that number; `fail` ends the round. */
export type OpenLane = (index: number, fail: (error: Error) => void) => Promise<Lane>

export interface LoadOptions {
  /** What is measured, for error messages. */
  readonly name: string
  readonly openLane: OpenLane
  /** Lanes, each with one request in flight. */
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

/** One closed-loop round: every lane sends its next request when its answer has arrived whole. */
export async function runLoad({
  name,
  openLane,
  concurrency,
  durationMs,
  maxRequests,
}: LoadOptions): Promise<LoadResult> {
  const latenciesMs = new Float64Array(maxRequests)
  let fail: (error: Error) => void = () => undefined
  const failed = new Promise<never>((_, reject) => {
    fail = (error) => reject(new Error(`${name}: ${error.message}`, { cause: error }))
  })
  const lanes = await Promise.race([
    Promise.all(Array.from({ length: concurrency }, (_, index) => openLane(index, fail))),
    failed,
  ])
  const cpuBefore = process.cpuUsage()
  const startedMs = performance.now()
  const untilMs = startedMs + durationMs
  let done = 0
  let started = 0

  const drive = (lane: Lane) =>
    new Promise<void>((resolve) => {
      let sentMs = 0
      const answered = () => {
        latenciesMs[done++] = performance.now() - sentMs
        next()
      }
      const next = () => {
        if (started >= maxRequests || performance.now() >= untilMs) return resolve()
        started++
        sentMs = performance.now()
        lane.call(answered)
      }
      next()
    })

  try {
    await withDeadline(Promise.race([Promise.all(lanes.map(drive)), failed]), durationMs + answerDeadlineMs, name)
  } finally {
    for (const lane of lanes) lane.close()
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

async function withDeadline<T>(work: Promise<T>, deadlineMs: number, name: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${name} left requests unanswered for ${answerDeadlineMs} ms`)),
      deadlineMs,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
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

/** The medians of so many equal parts of a series, in its order. */
export function mediansOfWindows(samples: readonly number[], windows: number): number[] {
  const size = Math.max(1, Math.ceil(samples.length / windows))
  return Array.from({ length: Math.ceil(samples.length / size) }, (_, i) =>
    median(samples.slice(i * size, (i + 1) * size)),
  )
}

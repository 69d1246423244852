import type { Clock, Timer } from '../clock.ts'

export interface SchedulerOptions {
  readonly clock: Clock
  /** Starts allowed in any window of one second, a whole number; a burst may use them all at once. */
  readonly perSecond: number
  /** Slots: tasks that may be at work at the same time. */
  readonly inFlight: number
  /**
   * A task that runs for longer than this only waits for somebody, and gives its slot back: those who wait for silent
   * servers would take the turns of all others. At most `inFlight` ÷ `perSecond`, any number of them takes nobody's.
   */
  readonly slotMs: number
  /** Told of what a task threw, which is a bug of the task: the scheduler goes on. */
  readonly onError: (key: string, error: unknown) => void
}

/**
 * The part of its delay by which a task may start early, together with one that is due: a thousand heartbeats every 30 s
 * are then a few bursts a second and not 33 wake-ups with cold caches, which is about half of their CPU time. Far below
 * the jitter of heartbeats.
 */
const slack = 0.01

type Task = () => Promise<void>

interface Job {
  readonly key: string
  readonly atMs: number
  /** From when on it starts with others that are due. */
  readonly earliestMs: number
  readonly order: number
  readonly task: Task
  /** Where it stands in the heap. */
  slot: number
}

/**
 * Starts tasks of many keys, earliest deadline first, within one budget for all, on one timer for the earliest. What is
 * due a little later starts with it.
 *
 * A key runs at most once at a time. Nobody starves: a deadline is never earlier than the moment it was asked for, so
 * whoever waits is overtaken only by those who were due before.
 */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #deadlines = new Deadlines()
  readonly #starts: StartLog
  readonly #waiting = new Map<string, Job>()
  /** Each running key with the job that follows, if one was scheduled meanwhile. */
  readonly #running = new Map<string, Job | undefined>()
  #slotsTaken = 0
  #timer: Timer | undefined
  #timerAtMs = Infinity
  #order = 0
  #stopped = false

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#starts = new StartLog(options.perSecond)
  }

  /**
   * Runs `task` at `atMs` (monotonic), up to 1 % of the time until then earlier if another is due, though never before
   * `notBeforeMs`, or as soon as the budget allows; replaces an earlier schedule of this key. While this key's task runs,
   * the new schedule waits for its end. The task must end by itself.
   */
  schedule(key: string, atMs: number, task: Task, notBeforeMs = 0): void {
    if (this.#stopped) return
    const nowMs = this.#options.clock.now()
    const dueMs = atMs > nowMs ? atMs : nowMs
    const earliestMs = Math.min(dueMs, Math.max(notBeforeMs, nowMs + (dueMs - nowMs) * (1 - slack)))
    const job = { key, atMs: dueMs, earliestMs, order: this.#order++, task, slot: -1 }
    if (this.#running.has(key)) {
      this.#running.set(key, job)
      return
    }
    this.#forget(key)
    this.#enqueue(job)
    this.#arm()
  }

  /** Drops what is scheduled for this key; a task that runs already goes on. */
  cancel(key: string): void {
    if (this.#running.has(key)) this.#running.set(key, undefined)
    this.#forget(key)
    if (this.#waiting.size === 0) this.#disarm()
  }

  /** When the key's next run is due; undefined when none is scheduled. */
  nextAt(key: string): number | undefined {
    return (this.#waiting.get(key) ?? this.#running.get(key))?.atMs
  }

  /** Overdue tasks waiting for the budget ÷ in-flight limit, 0…: the probe backlog of the load law. */
  backlog(): number {
    return this.#deadlines.countUntil(this.#options.clock.now()) / this.#options.inFlight
  }

  /** Starts nothing more; tasks that run go on to their end. */
  stop(): void {
    this.#stopped = true
    for (const key of this.#running.keys()) this.#running.set(key, undefined)
    this.#waiting.clear()
    this.#deadlines.clear()
    this.#disarm()
  }

  #enqueue(job: Job): void {
    this.#waiting.set(job.key, job)
    this.#deadlines.push(job)
  }

  #forget(key: string): void {
    const job = this.#waiting.get(key)
    if (!job) return
    this.#waiting.delete(key)
    this.#deadlines.remove(job)
  }

  #startDue(): void {
    const nowMs = this.#options.clock.now()
    while (this.#slotsTaken < this.#options.inFlight && this.#starts.readyAtMs() <= nowMs) {
      const job = this.#deadlines.first()
      if (!job || job.earliestMs > nowMs) break
      this.#forget(job.key)
      this.#starts.add(nowMs)
      this.#running.set(job.key, undefined)
      void this.#run(job)
    }
    this.#arm()
  }

  async #run({ key, task }: Job): Promise<void> {
    const freeSlot = this.#takeSlot()
    try {
      const running = task()
      const patience = this.#options.clock.after(this.#options.slotMs, freeSlot)
      await running.finally(() => patience.cancel())
    } catch (error) {
      this.#options.onError(key, error)
    } finally {
      const following = this.#running.get(key)
      this.#running.delete(key)
      if (following) this.#enqueue(following)
      freeSlot()
      this.#startDue()
    }
  }

  /** Takes a slot; what it returns gives it back, once. */
  #takeSlot(): () => void {
    this.#slotsTaken += 1
    let isFree = false
    return () => {
      if (isFree) return
      isFree = true
      this.#slotsTaken -= 1
      this.#arm()
    }
  }

  /** A timer that fires too early does no harm, so one that is early enough stays: rescheduling is then cheap. */
  #arm(): void {
    const job = this.#deadlines.first()
    // With all slots taken, whoever frees one looks for work, not the timer.
    if (!job || this.#slotsTaken >= this.#options.inFlight) return
    const wakeAtMs = Math.max(job.atMs, this.#starts.readyAtMs())
    if (this.#timerAtMs <= wakeAtMs) return
    this.#disarm()
    this.#timerAtMs = wakeAtMs
    // Rounded up: Node cuts fractions off, and a timer that fires just before its job is due has to be set again.
    this.#timer = this.#options.clock.after(Math.ceil(wakeAtMs - this.#options.clock.now()), () => {
      this.#disarm()
      this.#startDue()
    })
  }

  #disarm(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#timerAtMs = Infinity
  }
}

/**
 * A token bucket whose tokens come back exactly one second after they were spent. A classic bucket of burst b and rate r
 * lets b + r start within a second; this one never more than r, without spacing out the first ones.
 */
class StartLog {
  readonly #startedMs: number[]
  #oldest = 0

  constructor(perSecond: number) {
    this.#startedMs = Array.from({ length: perSecond }, () => -Infinity)
  }

  readyAtMs(): number {
    return (this.#startedMs[this.#oldest] ?? -Infinity) + 1000
  }

  add(nowMs: number): void {
    this.#startedMs[this.#oldest] = nowMs
    this.#oldest = (this.#oldest + 1) % this.#startedMs.length
  }
}

/** A binary heap of jobs by deadline, then by age; each job knows its slot, so that removing one is O(log n) too. */
class Deadlines {
  readonly #jobs: Job[] = []

  first(): Job | undefined {
    return this.#jobs[0]
  }

  push(job: Job): void {
    this.#jobs.push(job)
    this.#rise(job, this.#jobs.length - 1)
  }

  remove(job: Job): void {
    const last = this.#jobs.pop()
    if (!last || last === job) return
    this.#rise(last, job.slot)
    this.#sink(last, last.slot)
  }

  clear(): void {
    this.#jobs.length = 0
  }

  /** How many are due by then; looks at those and their children only. */
  countUntil(untilMs: number, slot = 0): number {
    const job = this.#jobs[slot]
    if (!job || job.atMs > untilMs) return 0
    return 1 + this.countUntil(untilMs, 2 * slot + 1) + this.countUntil(untilMs, 2 * slot + 2)
  }

  #rise(job: Job, from: number): void {
    let slot = from
    while (slot > 0) {
      const above = (slot - 1) >> 1
      const parent = this.#jobs[above]
      if (!parent || !isBefore(job, parent)) break
      this.#place(parent, slot)
      slot = above
    }
    this.#place(job, slot)
  }

  #sink(job: Job, from: number): void {
    let slot = from
    for (;;) {
      const left = this.#jobs[2 * slot + 1]
      const right = this.#jobs[2 * slot + 2]
      const child = left && right && isBefore(right, left) ? right : left
      if (!child || !isBefore(child, job)) break
      const below = child.slot
      this.#place(child, slot)
      slot = below
    }
    this.#place(job, slot)
  }

  #place(job: Job, slot: number): void {
    this.#jobs[slot] = job
    job.slot = slot
  }
}

function isBefore(a: Job, b: Job): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

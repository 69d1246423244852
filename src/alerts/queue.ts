import { type Notice, keyOf } from './tracking.ts'

/** What one receiver has yet to be told. Plain data. */
export interface NoticeQueue {
  /** By alert, the oldest first: the newest about each, since nobody needs to know what was true before. */
  readonly waiting: ReadonlyMap<string, Notice>
  /** The alerts that the receiver may take for firing: they were sent, whether or not it answered. */
  readonly told: ReadonlySet<string>
}

export const emptyQueue: NoticeQueue = { waiting: new Map(), told: new Set() }

/**
 * Queues one notice in place of an earlier one about the same alert. The end of an alert of whose beginning the receiver
 * cannot know is nothing to tell. When the queue is full the oldest is lost, and counted as `dropped`.
 */
export function offer(
  { waiting, told }: NoticeQueue,
  notice: Notice,
  maxWaiting: number,
): { readonly queue: NoticeQueue; readonly dropped: number } {
  const key = keyOf(notice.alert)
  const others = new Map([...waiting].filter(([other]) => other !== key))
  if (notice.kind === 'resolved' && !told.has(key)) return { queue: { waiting: others, told }, dropped: 0 }
  const all = [...others, [key, notice] as const]
  const dropped = Math.max(0, all.length - maxWaiting)
  return { queue: { waiting: new Map(all.slice(dropped)), told }, dropped }
}

/** The next to be sent together. */
export function nextBatch({ waiting }: NoticeQueue, size: number): readonly Notice[] {
  return [...waiting.values()].slice(0, size)
}

/** They are on their way: the receiver may know of them whatever it answers. */
export function sending({ waiting, told }: NoticeQueue, batch: readonly Notice[]): NoticeQueue {
  const firing = batch.filter(({ kind }) => kind === 'firing').map(({ alert }) => keyOf(alert))
  return { waiting, told: new Set([...told, ...firing]) }
}

/** They need not be sent again: the receiver has taken them, or never will. What came meanwhile stays. */
export function settled({ waiting, told }: NoticeQueue, batch: readonly Notice[]): NoticeQueue {
  const done = new Set(batch)
  const over = new Set(batch.filter(({ kind }) => kind === 'resolved').map(({ alert }) => keyOf(alert)))
  return {
    waiting: new Map([...waiting].filter(([, notice]) => !done.has(notice))),
    told: new Set([...told].filter((key) => !over.has(key))),
  }
}

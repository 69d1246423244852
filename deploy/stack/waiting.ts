import { sleep, systemClock } from '../../src/clock.ts'

/** How long a program may take until it answers. */
const deadlineMs = 60_000
const pollMs = 100

/** Asks again and again; fails when the answer is not yes in time, or when `signal` aborts. */
export async function until(what: string, isSo: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
  const endsMs = systemClock.now() + deadlineMs
  for (;;) {
    // A program that has not come so far yet refuses connections.
    if (await isSo().catch(() => false)) return
    signal.throwIfAborted()
    if (systemClock.now() > endsMs) throw new Error(`not within ${deadlineMs / 1000} s: ${what}`)
    await sleep(systemClock, pollMs, signal)
  }
}

/** `until` that page is answered with a status of success. */
export function untilOk(url: string, signal: AbortSignal): Promise<void> {
  return until(`${url} is answered with 200`, async () => (await fetch(url, { signal })).ok, signal)
}

/** What `promise` resolves with, unless `signal` aborts first. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('stopped before it was ready')))
  })
  return Promise.race([promise, aborted])
}

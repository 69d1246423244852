import { sleep, systemClock } from '../../src/clock.ts'

/** Polls until `check` returns something other than undefined or false; fails with the last error or `what` in time. */
export async function eventually<T>(
  check: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 15_000, what }: { readonly timeoutMs?: number; readonly what: string },
): Promise<T> {
  const endsMs = systemClock.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await check()
      if (value !== undefined && value !== false) return value
    } catch (error) {
      last = error
    }
    if (systemClock.now() > endsMs) throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: last })
    await sleep(systemClock, 50)
  }
}

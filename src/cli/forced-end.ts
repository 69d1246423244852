import { type Clock, sleep } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ServerProcess } from '../upstreams/process.ts'

/** What a wrapped server was told, and who is left to tell it anything. */
export interface EndSigns {
  /** When we were first sent SIGTERM, and when any signal that asks for the end; monotonic. */
  readonly termAtMs: number | undefined
  readonly askedAtMs: number | undefined
  /** The client has said all that it will. */
  readonly isInputOver: boolean
  /** Whoever started us has ended, or nobody reads what the server says. */
  readonly isClientGone: boolean
}

/**
 * What becomes of a server that does not end. Alone it would run on for as long as it likes, and so it may behind us,
 * but for two cases in which nobody is left to send SIGKILL: whoever sends SIGTERM wants the end of it (by the other
 * signals a server may be told something else, unless its input has ended), and whose client is gone is stopped as that
 * would have done.
 */
export function forcedEnd(signs: EndSigns, nowMs: number): 'kill' | 'stop' | undefined {
  const { termAtMs, askedAtMs, isInputOver, isClientGone } = signs
  const orderedAtMs = isInputOver ? askedAtMs : termAtMs
  if (orderedAtMs !== undefined && nowMs - orderedAtMs >= defaults.shutdownDeadlineMs) return 'kill'
  return isInputOver && isClientGone ? 'stop' : undefined
}

const lookMs = 1000

export interface ForcedEndOptions {
  readonly clock: Clock
  readonly server: Pick<ServerProcess, 'exit' | 'exited' | 'kill' | 'stop'>
  readonly signs: () => EndSigns
  readonly onForced: (why: string) => void
}

/** Looks every second, from the first sign on, whether the server has to be ended; resolves when it has ended. */
export async function watchEnd({ clock, server, signs, onForced }: ForcedEndOptions): Promise<void> {
  const over = new AbortController()
  void server.exited.then(() => over.abort())
  while (!server.exit()) {
    const forced = forcedEnd(signs(), clock.now())
    if (forced === 'kill') {
      onForced(`the server has not ended ${defaults.shutdownDeadlineMs / 1000} s after it was told to, and is killed`)
      server.kill('SIGKILL')
      return
    }
    if (forced === 'stop') {
      onForced('the client is gone, and the server is stopped')
      await server.stop()
      return
    }
    await sleep(clock, lookMs, over.signal)
  }
}

import { type ErrorCode, KnownError } from '../errors.ts'
import type { SessionEnd } from '../sessions/session.ts'

/** What a request still in flight is told when its session ends. Only a process that ended by itself is to blame. */
const codesOfEnds: Readonly<Record<SessionEnd, ErrorCode>> = {
  deleted: 'session_not_found',
  unknown: 'session_not_found',
  expired: 'session_not_found',
  too_old: 'session_not_found',
  stream_closed: 'session_not_found',
  refused: 'session_not_found',
  removed: 'session_not_found',
  exited: 'upstream_exited',
  replaced: 'shutting_down',
  shutdown: 'shutting_down',
}

/** What whoever still waits for something is told, once the session has ended. */
export function endedSession(end: SessionEnd): KnownError {
  return new KnownError(codesOfEnds[end], `the session ended (${end})`)
}

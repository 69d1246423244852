/** Which way a heartbeat looks: our own probe, inside a client's session towards the server, or towards the client. */
export const legs = ['upstream', 'session', 'client'] as const
export type Leg = (typeof legs)[number]

/** What one heartbeat came to. */
export const outcomes = [
  'ok',
  'late',
  'timeout',
  'refused',
  'reset',
  'closed',
  'exited',
  'http_error',
  'invalid',
  'unsupported',
  'unauthorized',
  'session_gone',
  'inconclusive',
] as const
export type Outcome = (typeof outcomes)[number]

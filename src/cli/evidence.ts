import type { KnownError } from '../errors.ts'

/** What a failed request proves about the upstream; a process's end is heard from the process itself. */
export function trafficEvidence({ code }: KnownError): 'silent' | 'missed' | 'gone' | undefined {
  if (code === 'upstream_refused') return 'gone'
  if (code === 'upstream_timeout') return 'silent'
  const missed = ['upstream_reset', 'upstream_closed', 'upstream_http_error', 'upstream_invalid']
  return missed.includes(code) ? 'missed' : undefined
}

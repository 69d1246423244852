/**
 * What the conformance suite finds different when a server of another transport stands behind a bridge, and why the
 * protocol wants it so. The list is closed: a difference that is not in it fails, and so does an entry that no longer
 * occurs.
 */
import type { Difference, RequirementSet } from './conformance.ts'

/** The transport of the server behind mcp-vitals; the suite itself always speaks Streamable HTTP. */
export const behinds = ['http', 'stdio', 'sse'] as const
export type Behind = (typeof behinds)[number]

/** Revision 2026-07-28 has no HTTP+SSE: such a server cannot be asked anything of that set. */
export function isApplicable(behind: Behind, requirements: RequirementSet): boolean {
  return behind !== 'sse' || requirements !== '2026-07-28'
}

interface Explanation {
  readonly behind: readonly Behind[]
  readonly requirements: RequirementSet
  /** `scenario › check: status direct → status through`. */
  readonly differences: readonly string[]
  readonly reason: string
}

const explanations: readonly Explanation[] = [
  {
    behind: ['stdio', 'sse'],
    requirements: '2025-11-25',
    differences: ['server-sse-multiple-streams › server-sse-streams-functional: SUCCESS → INFO'],
    reason:
      'a server answers a POST with JSON or with an event stream, as it likes (Transports, "Sending Messages to the ' +
      'Server"): the bridge answers with JSON where nothing comes before the answer',
  },
  {
    behind: ['stdio', 'sse'],
    requirements: '2025-11-25',
    differences: [
      'server-sse-polling › incoming-sse-event: INFO → absent',
      'server-sse-polling › incoming-sse-event #2: INFO → absent',
      'server-sse-polling › stream-closed: INFO → absent',
      'server-sse-polling › server-sse-priming-event: SUCCESS → absent',
      'server-sse-polling › server-sse-retry-field: SUCCESS → absent',
      'server-sse-polling › outgoing-request #2: INFO → absent',
      'server-sse-polling › incoming-response #2: INFO → absent',
      'server-sse-polling › server-sse-disconnect-resume: SUCCESS → absent',
      'server-sse-polling › server-sse-content-type: absent → INFO',
    ],
    reason:
      'resumption is for servers that give event ids (Transports, "Resumability and Redelivery"); stdio and HTTP+SSE ' +
      'know neither ids nor a stream per request that the server could end early, so the answer itself comes',
  },
]

/** Splits the differences of one comparison into those that the list explains and those that it does not. */
export function judge(behind: Behind, requirements: RequirementSet, differences: readonly Difference[]) {
  const applicable = explanations.filter((one) => one.behind.includes(behind) && one.requirements === requirements)
  const expected = new Set(applicable.flatMap((one) => one.differences))
  const found = new Map(differences.map((one) => [`${one.key}: ${one.direct} → ${one.through}`, one]))
  return {
    unexplained: [...found].flatMap(([text, difference]) => (expected.has(text) ? [] : [difference])),
    /** Entries of the list that did not occur: they have to go. */
    outdated: [...expected].filter((text) => !found.has(text)),
  }
}

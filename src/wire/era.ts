/**
 * The two eras of MCP. Legacy revisions open with `initialize`, keep sessions and know `ping`; the modern revision
 * (2026-07-28) has neither: every request stands alone and `server/discover` tells who answers.
 */
export type Era = 'legacy' | 'modern'

export const legacyVersions = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'] as const
export const latestLegacyVersion = '2025-11-25'
export const modernVersion = '2026-07-28'

/** Revisions are dates, so they order as text: 2026-07-28 and everything after it is modern. */
export function eraOfVersion(version: string): Era {
  return version >= modernVersion ? 'modern' : 'legacy'
}

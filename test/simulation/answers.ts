/** What a server is like, as long as nothing is the matter with it. */
export interface Traits {
  /** The revisions that it speaks: those before 2026-07-28, that one, or all. */
  readonly era: 'legacy' | 'modern' | 'both'
  /** What becomes of a `ping`: some servers do not know it, and some say nothing. */
  readonly ping: 'answered' | 'unsupported' | 'silent'
  /** The status by which a server behind a URL says that it does not know a session. */
  readonly unknownSession: 400 | 404
}

export const plainTraits: Traits = { era: 'legacy', ping: 'answered', unknownSession: 404 }

export interface Message {
  readonly id?: string | number
  readonly method?: string
}

const capabilities = { tools: {} }
const serverInfo = { name: 'simulated', version: '1' }
const unknownMethod = { error: { code: -32_601, message: 'method not found' } }

/** The result or error that such a server answers with; undefined where it says nothing. */
export function answerTo({ method }: Message, { era, ping }: Traits): object | undefined {
  switch (method) {
    case 'initialize':
      if (era === 'modern') return unknownMethod
      return { result: { protocolVersion: '2025-11-25', capabilities, serverInfo } }
    case 'server/discover':
      if (era === 'legacy') return unknownMethod
      return { result: { supportedVersions: ['2026-07-28'], capabilities, serverInfo } }
    case 'tools/list':
      return { result: { tools: [{ name: 'read', inputSchema: {} }] } }
    case 'ping':
      if (ping === 'silent') return undefined
      return ping === 'answered' ? { result: {} } : unknownMethod
    case undefined:
    default:
      return unknownMethod
  }
}

/** Whether this is the answer by which it lets somebody in. */
export function letsIn({ method }: Message, answer: object): boolean {
  return (method === 'initialize' || method === 'server/discover') && 'result' in answer
}

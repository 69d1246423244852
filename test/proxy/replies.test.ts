import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ErrorCode, KnownError, errorCodes } from '../../src/errors.ts'
import { errorMessageFor, statusOf } from '../../src/proxy/replies.ts'

const expected: Readonly<Record<ErrorCode, readonly [status: number, rpcCode: number]>> = {
  host_not_allowed: [403, -32000],
  origin_not_allowed: [403, -32000],
  unauthorized: [401, -32000],
  body_too_large: [413, -32000],
  headers_too_large: [431, -32000],
  malformed_request: [400, -32000],
  invalid_message: [400, -32700],
  header_mismatch: [400, -32020],
  unsupported_version: [400, -32022],
  unknown_path: [404, -32000],
  unknown_upstream: [404, -32000],
  method_not_allowed: [405, -32000],
  session_missing: [400, -32000],
  session_not_found: [404, -32001],
  too_many_sessions: [503, -32000],
  too_many_upstream_sessions: [503, -32000],
  too_many_client_sessions: [503, -32000],
  too_many_connections: [503, -32000],
  queue_full: [503, -32000],
  circuit_open: [503, -32000],
  draining: [503, -32000],
  overloaded: [503, -32000],
  shutting_down: [503, -32000],
  cancelled: [499, -32000],
  upstream_timeout: [504, -32000],
  upstream_refused: [502, -32000],
  upstream_reset: [502, -32000],
  upstream_closed: [502, -32000],
  upstream_exited: [502, -32000],
  upstream_restarting: [503, -32000],
  upstream_http_error: [502, -32000],
  upstream_invalid: [502, -32000],
  upstream_unauthorized: [502, -32000],
  upstream_session_gone: [404, -32001],
  usage: [500, -32603],
  config_invalid: [500, -32603],
  listen_failed: [500, -32603],
  internal: [500, -32603],
}

interface Reply {
  readonly id: unknown
  readonly error: { readonly code: number; readonly message: string; readonly data: Readonly<Record<string, unknown>> }
}

function replyFor(error: unknown, id?: string, details?: Readonly<Record<string, unknown>>): Reply {
  return JSON.parse(errorMessageFor(error, id, details)) as Reply
}

describe('answers of our own', () => {
  it.each(errorCodes)('%s', (code) => {
    const reply = replyFor(new KnownError(code, 'why'), '7')
    expect([statusOf(code), reply.error.code]).toEqual(expected[code])
    expect(reply).toMatchObject({
      jsonrpc: '2.0',
      id: 7,
      error: { message: 'mcp-vitals: why', data: { reason: code } },
    })
  })

  /** Reserved codes that a server's HTTP side has to give, where that side is ours. */
  const inTheServersPlace: readonly ErrorCode[] = ['header_mismatch', 'unsupported_version']
  it.each(errorCodes.filter((code) => !inTheServersPlace.includes(code)))(
    '%s keeps off the codes that MCP 2026-07-28 reserves (−32020…−32099)',
    (code) => {
      const rpcCode = replyFor(new KnownError(code, '')).error.code
      expect(rpcCode <= -32020 && rpcCode >= -32099).toBe(false)
    },
  )

  /** What a client can and should do something about (MCP 2025-11-25, Session Management, 4). */
  const forTheClient: readonly ErrorCode[] = ['upstream_session_gone']
  const ofTheServer = errorCodes.filter((code) => code.startsWith('upstream_') && !forTheClient.includes(code))
  it.each(ofTheServer)('%s is never the client’s fault', (code) => {
    expect(statusOf(code)).toBeGreaterThanOrEqual(500)
  })

  it('repeat the id as it was written, without rounding', () => {
    for (const id of ['12345678901234567890', '"a\\u0000"', 'null', '-0.5']) {
      expect(errorMessageFor(new KnownError('internal', ''), id)).toContain(`"id":${id},`)
    }
    expect(errorMessageFor(new KnownError('internal', ''), undefined)).toContain('"id":null,')
  })

  it('are JSON whatever the message says, with the details beside the reason', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.dictionary(fc.constantFrom('a', 'b'), fc.jsonValue()),
        (message, details) => {
          const { error } = replyFor(new KnownError('upstream_exited', message), '1', details)
          expect(error.message).toBe(`mcp-vitals: ${message}`)
          expect(error.data).toEqual(JSON.parse(JSON.stringify({ reason: 'upstream_exited', ...details })))
        },
      ),
    )
  })

  it('tell nothing of a bug but that it is one', () => {
    const { error } = replyFor(new TypeError('secret of line 7'), '1')
    expect(error).toEqual({ code: -32603, message: 'mcp-vitals: internal error', data: { reason: 'internal' } })
  })
})

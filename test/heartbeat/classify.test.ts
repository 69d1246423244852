import { describe, expect, it } from 'vitest'
import { type ErrorCode, TooManyRequests, errorCodes } from '../../src/errors.ts'
import {
  isAnswered,
  isFailure,
  isGone,
  isMiss,
  meaningOf,
  outcomeOf,
  outcomeOfCode,
  outcomes,
} from '../../src/heartbeat/classify.ts'
import { transportError } from '../../src/upstreams/http.ts'

describe('outcomes', () => {
  const table = [
    ['ok', 'answered', 'a JSON-RPC answer'],
    ['late', 'answered', 'slow, not missed'],
    ['unsupported', 'answered', 'a JSON-RPC error is an answer'],
    ['timeout', 'silent', 'no answer in time'],
    ['reset', 'missed', 'may be one connection only'],
    ['closed', 'missed', 'may be one connection only'],
    ['http_error', 'missed', '5xx without a JSON-RPC body'],
    ['invalid', 'missed', 'no JSON-RPC answer'],
    ['refused', 'gone', 'nobody listens'],
    ['exited', 'gone', 'nobody runs'],
    ['unauthorized', 'unauthorized', 'reachable, of no use'],
    ['session_gone', 'inconclusive', 'that session is gone, not the upstream'],
    ['inconclusive', 'inconclusive', 'our own stall'],
  ] as const

  it.each(table)('%s means %s: %s', (outcome, meaning) => {
    expect(meaningOf(outcome)).toBe(meaning)
    expect(isAnswered(outcome)).toBe(meaning === 'answered')
    expect(isMiss(outcome)).toBe(meaning === 'missed' || meaning === 'silent')
    expect(isGone(outcome)).toBe(meaning === 'gone')
    expect(isFailure(outcome)).toBe(isMiss(outcome) || meaning === 'gone')
  })

  it('are all in the table above', () => {
    expect(table.map(([outcome]) => outcome).toSorted()).toEqual([...outcomes].toSorted())
  })
})

describe('outcomeOf', () => {
  it('takes a connection that does not come about for silence, and a refusal for what it is', () => {
    const timeout = Object.assign(new Error('Connect Timeout Error'), { code: 'UND_ERR_CONNECT_TIMEOUT' })
    const refusal = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
    expect(outcomeOf(transportError(timeout, 'http://127.0.0.1'))).toBe('timeout')
    expect(outcomeOf(transportError(refusal, 'http://127.0.0.1'))).toBe('refused')
    expect(outcomeOf(new Error('bug'))).toBe('inconclusive')
    // RFC 6585 §4: it is there, and says nothing of how it serves others.
    expect(outcomeOf(new TooManyRequests(undefined, undefined))).toBe('inconclusive')
  })
})

describe('a connection that failed', () => {
  const failed = (code: string) => Object.assign(new Error(`connect ${code} 192.0.2.1:80`), { code })
  /** As Node reports it where a name has several addresses. */
  const ofEach = (...codes: string[]) => Object.assign(new AggregateError(codes.map(failed)), { code: codes[0] })

  it.each(['EMFILE', 'ENFILE', 'EADDRNOTAVAIL', 'ENOBUFS', 'ENOMEM'])(
    'for a lack of our own, %s, is no miss',
    (code) => {
      const error = transportError(failed(code), 'http://x')
      expect([outcomeOf(error), error.code]).toEqual(['inconclusive', 'overloaded'])
      expect(error.message).toBe(`mcp-vitals lacks resources: http://x: connect ${code} 192.0.2.1:80`)
    },
  )

  it.each(['ENETUNREACH', 'ENETDOWN'])('for want of a network, %s, is silence', (code) => {
    expect(outcomeOf(transportError(failed(code), 'http://x'))).toBe('timeout')
  })

  it.each([
    ['::1 cannot be had, and 127.0.0.1 refuses', ofEach('EADDRNOTAVAIL', 'ECONNREFUSED'), 'refused'],
    ['there is no IPv6, and IPv4 refuses', ofEach('ENETUNREACH', 'ECONNREFUSED'), 'refused'],
    ['nothing can be reached', ofEach('ENETUNREACH', 'ETIMEDOUT'), 'timeout'],
    ['no address has a socket', ofEach('EMFILE', 'EMFILE'), 'inconclusive'],
  ])('at each of several addresses says what the server did, if one did anything: %s', (_, error, outcome) => {
    expect(outcomeOf(transportError(error, 'http://x'))).toBe(outcome)
  })
})

describe('outcomeOfCode', () => {
  /** A request that we refuse while a server waits for its next start never reached it. */
  const isOurs = (code: ErrorCode) => !code.startsWith('upstream_') || code === 'upstream_restarting'

  it.each(errorCodes.filter((code) => !isOurs(code)))('%s is the outcome of that name', (code) => {
    expect(outcomeOfCode(code)).toBe(code.slice('upstream_'.length))
  })

  it('takes an unreadable answer for the fault of the upstream, which wrote it', () => {
    expect(outcomeOfCode('invalid_message')).toBe('invalid')
  })

  it('never blames the upstream for our own faults', () => {
    const ours = errorCodes.filter((code) => isOurs(code) && code !== 'invalid_message')
    expect(new Set(ours.map(outcomeOfCode))).toEqual(new Set(['inconclusive']))
  })
})

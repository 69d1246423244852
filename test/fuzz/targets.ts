/** The parsers of bytes that strangers send, and what must hold for any bytes, however they are cut. */
import assert from 'node:assert/strict'
import { KnownError } from '../../src/errors.ts'
import { EndpointRewriter } from '../../src/proxy/endpoint-rewriter.ts'
import { messagesUrl } from '../../src/upstreams/sse-channel.ts'
import { type Envelope, EnvelopeReader, onOneLine } from '../../src/wire/envelope.ts'
import { EventTap } from '../../src/wire/event-tap.ts'
import { decodeHeaderValue, encodeHeaderValue, endToEndHeaders, headerValue, isJson } from '../../src/wire/headers.ts'
import { LineTap } from '../../src/wire/line-tap.ts'
import { LineReader } from '../../src/wire/lines.ts'
import { SseMessageReader } from '../../src/wire/sse.ts'

export interface Target {
  /** What its inputs are made of, besides any bytes. */
  readonly tokens: readonly string[]
  /** Throws if a promise is broken for these bytes in chunks of these sizes. */
  check(bytes: Buffer, sizes: readonly number[]): void
}

function inChunks(bytes: Buffer, sizes: readonly number[], push: (chunk: Buffer) => void): void {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1
    // A copy, so that nothing can lean on the bytes around it.
    push(Buffer.from(bytes.subarray(at, at + size)))
    at += size
  }
}

function isIn(bytes: Buffer, part: Buffer | string): void {
  assert.ok(part.length === 0 || bytes.includes(part), `${JSON.stringify(String(part))} was not in the input`)
}

/** What a reader says of the whole at once, and in chunks: it must be the same. */
function readBoth<T>(bytes: Buffer, sizes: readonly number[], read: (bytes: Buffer, sizes: readonly number[]) => T): T {
  const whole = read(bytes, [Math.max(1, bytes.length)])
  assert.deepEqual(read(bytes, sizes), whole)
  return whole
}

const maxBytes = 64

const sse: Target = {
  tokens: [
    'data',
    'event',
    'id',
    'retry',
    ':',
    ' ',
    '\n',
    '\r',
    '\r\n',
    '\n\n',
    '\uFEFF',
    'é',
    '\0',
    'data: a\n\n',
    ': c\n',
  ],
  check: (bytes, sizes) => {
    const read = (bytes: Buffer, sizes: readonly number[]) => {
      const events: { readonly type: string; readonly id: string | undefined; readonly data: Buffer }[] = []
      const reader = new SseMessageReader({ maxBytes, onMessage: (event) => events.push(event), onTooLarge: () => {} })
      inChunks(bytes, sizes, (chunk) => reader.push(chunk))
      return events
    }
    const events = readBoth(bytes, sizes, read)
    const text = Buffer.from(bytes.toString())
    for (const { type, id = '', data } of events) {
      if (type !== 'message') isIn(text, type)
      isIn(text, id)
      for (const line of data.toString('latin1').split('\n')) isIn(bytes, Buffer.from(line, 'latin1'))
      assert.ok(data.length <= maxBytes)
    }
    const told = events.map(({ data }) => data.toString('latin1'))
    assert.deepEqual(
      told,
      plainData(bytes.toString('latin1')).filter((data) => data.length <= maxBytes),
    )
  },
}

/** The data of each event, by the steps of WHATWG HTML §9.2.6 on whole text, a character per byte. */
function plainData(stream: string): string[] {
  const events: string[] = []
  let data: string[] = []
  for (const line of stream
    .replace(/^\u00EF\u00BB\u00BF/, '')
    .split(/\r\n|\r|\n/)
    .slice(0, -1)) {
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (name === 'data') data.push(value)
    if (line !== '') continue
    if (data.length > 0) events.push(data.join('\n'))
    data = []
  }
  return events
}

const lines: Target = {
  tokens: ['\n', '\r', '\r\n', 'a', '{"id":1}', 'é', 'x'.repeat(65)],
  check: (bytes, sizes) => {
    const read = (bytes: Buffer, sizes: readonly number[]) => {
      const told: string[] = []
      const onLine = (line: Buffer) => told.push(line.toString('latin1'))
      const reader = new LineReader({ maxBytes, onLine, onTooLong: () => told.push('too long') })
      inChunks(bytes, sizes, (chunk) => reader.push(chunk))
      reader.end()
      return told
    }
    const expected = bytes
      .toString('latin1')
      .split('\n')
      .map((line) => line.replace(/\r$/, ''))
    const told = readBoth(bytes, sizes, read)
    assert.deepEqual(
      told,
      expected.filter((line) => line !== '').map((line) => (line.length > maxBytes ? 'too long' : line)),
    )
  },
}

const tap: Target = {
  tokens: [
    '\n',
    '\r\n',
    '{"id":"ours","result":{}}\n',
    '{"id":"ours"',
    ',"result":1}',
    '{"id":7,"result":{}}\n',
    ' ',
    'x',
  ],
  check: (bytes, sizes) => {
    const pass = (isExpecting: boolean) => {
      const passed: Buffer[] = []
      const kept: string[] = []
      const tap = new LineTap({
        maxHeldBytes: maxBytes,
        maxTextBytes: maxBytes,
        wantsText: () => false,
        onMessage: () => {},
        onAnswer: (message) => kept.push(message.toString('latin1')),
      })
      if (isExpecting) tap.expect('"ours"')
      inChunks(bytes, sizes, (chunk) => passed.push(...tap.push(chunk)))
      passed.push(...tap.end())
      return { passed: Buffer.concat(passed).toString('latin1'), kept }
    }
    const text = bytes.toString('latin1')
    assert.equal(pass(false).passed, text)
    const { passed, kept } = pass(true)
    // Of a batch only a part is kept.
    if (text.includes('[')) return
    checkMissing(text.split(/(?<=\n)/), passed, (line) => kept.includes(line))
  },
}

/** Nothing is missing but what may. */
function checkMissing(parts: readonly string[], passed: string, mayMiss: (part: string) => boolean): void {
  let at = 0
  for (const part of parts) {
    if (passed.startsWith(part, at)) at += part.length
    else assert.ok(mayMiss(part), `${JSON.stringify(part)} is missing`)
  }
  assert.equal(at, passed.length)
}

const eventTap: Target = {
  tokens: [
    'data: {"id":"ours","result":{}}\n\n',
    'event: message\r\n',
    'data: {"id":"ours"',
    'data:,"result":1}',
    'data: {"id":7,"result":{}}\n\n',
    ': c',
    '\n',
    '\r',
    '\r\n',
    '\n\n',
    ' ',
    '\uFEFF',
    'x',
  ],
  check: (bytes, sizes) => {
    const pass = (isExpecting: boolean) => {
      const passed: Buffer[] = []
      const tap = new EventTap({
        maxHeldBytes: maxBytes,
        onMessage: () => {},
        onEvent: () => {},
        onAnswer: () => {},
      })
      if (isExpecting) tap.expect('"ours"')
      inChunks(bytes, sizes, (chunk) => passed.push(...tap.push(chunk)))
      passed.push(...tap.end())
      return Buffer.concat(passed).toString('latin1')
    }
    const text = bytes.toString('latin1')
    assert.equal(pass(false), text)
    // Of a batch only a part is kept.
    if (text.includes('[')) return
    const passed = pass(true)
    let at = 0
    for (const event of rawEvents(text)) {
      if (passed.startsWith(event, at)) at += event.length
      else
        assert.ok(
          plainData(event).some((data) => data.includes('ours')),
          `${JSON.stringify(event)} is missing`,
        )
    }
    assert.equal(at, passed.length)
  },
}

/** The events of a stream as they stand in it, by the steps of WHATWG HTML §9.2.6; the last may be cut short. */
function rawEvents(stream: string): string[] {
  const events: string[] = []
  let event = ''
  for (const line of stream.match(/[^\r\n]*(?:\r\n|\r|\n|$)/g) ?? []) {
    event += line
    if (!/^(?:\u00EF\u00BB\u00BF)?[\r\n]/.test(line)) continue
    events.push(event)
    event = ''
  }
  return [...events, event]
}

const envelope: Target = {
  tokens: [
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '\\',
    '\\u00',
    '"id"',
    '"method":"a"',
    '"params":{',
    '"_meta":{',
    '"result":',
    '"error":{"code":1',
    '1',
    '-',
    '1e400',
    'null',
    ' ',
    '\n',
    '\0',
    'é',
    '{"id":1,"method":"a"}',
  ],
  check: (bytes, sizes) => {
    const read = (bytes: Buffer, sizes: readonly number[]) => {
      const reader = new EnvelopeReader()
      inChunks(bytes, sizes, (chunk) => reader.push(chunk))
      reader.mayAnswer(() => true)
      return reader.end()
    }
    const found = readBoth(bytes, sizes, read)
    const text = Buffer.from(bytes.toString())
    for (const message of found?.messages ?? [found]) if (message) checkEnvelope(text, message)
    const value = parsed(bytes.toString())
    if (Array.isArray(value)) assert.equal(found?.messages?.length, value.length)
    const line = bytes
      .toString('latin1')
      .replace(/^\xEF\xBB\xBF/, '')
      .replaceAll(/[\r\n]/g, ' ')
    assert.equal(onOneLine(bytes).toString('latin1'), line)
  },
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // Whatever it is, it is not JSON.
  }
}

/** A text with escapes is written anew, so only what has none can be looked up. */
function checkEnvelope(text: Buffer, { method, name, uri, id, clientName, error }: Envelope): void {
  for (const value of [method, name, uri, clientName, error?.message]) {
    if (!text.includes('\\')) isIn(text, value ?? '')
  }
  if (id !== undefined && /^"[^\\]*"$|^-?\d+$/.test(id) && !text.includes('\\') && !/[.eE]/.test(text.toString()))
    isIn(text, id)
}

const headers: Target = {
  tokens: [
    'Connection',
    'close',
    'keep-alive',
    'X-A',
    ',',
    ' ',
    '\n',
    '=?base64?',
    '?=',
    'YQ==',
    'é',
    'application/json',
    ';',
    'Mcp-Name',
    '\0',
  ],
  check: (bytes) => {
    const raw = bytes.toString('latin1').split('\n')
    const pairs = (list: readonly string[]) =>
      list.flatMap((name, index) =>
        index % 2 === 0 && index + 1 < list.length ? [`${name}\n${list[index + 1] ?? ''}`] : [],
      )
    const before = pairs(raw)
    const listed = before
      .filter((pair) => /^connection\n/i.test(pair))
      .flatMap((pair) => pair.slice('connection\n'.length).split(','))
      .map((option) => option.trim().toLowerCase())
    let at = 0
    for (const pair of pairs(endToEndHeaders(raw))) {
      assert.ok(!listed.includes(pair.slice(0, pair.indexOf('\n')).toLowerCase()), `${JSON.stringify(pair)} is listed`)
      at = before.indexOf(pair, at) + 1
      assert.ok(at > 0, `${JSON.stringify(pair)} is new, or in another order`)
    }
    const [name = '', value = ''] = raw
    assert.ok([undefined, ...raw].includes(headerValue(raw, name.toLowerCase())))
    isJson(value)
    const decoded = decodeHeaderValue(value)
    if (decoded !== undefined) assert.equal(decodeHeaderValue(encodeHeaderValue(decoded)), decoded)
  },
}

const endpoint: Target = {
  tokens: [
    'event: endpoint',
    'event',
    'data: /messages?s=1',
    'data',
    ':',
    ' ',
    '\n',
    '\r',
    '\r\n',
    '\n\n',
    '\uFEFF',
    ': c',
    '//evil/x',
    'http://other/',
    '..',
    '\0',
  ],
  check: (bytes, sizes) => {
    const stream = new URL('http://server:1/sse')
    const read = (bytes: Buffer, sizes: readonly number[]) => {
      const passed: Buffer[] = []
      let asked: string | undefined
      const rewriter = new EndpointRewriter((data) => {
        asked = data
        assert.equal(messagesUrl(stream, data).origin, stream.origin)
        return '<ours>'
      })
      try {
        inChunks(bytes, sizes, (chunk) => passed.push(rewriter.pass(chunk)))
      } catch (error) {
        if (!(error instanceof KnownError)) throw error
        return { error: error.message }
      }
      return { asked, passed: Buffer.concat(passed).toString('latin1') }
    }
    const { passed = '' } = readBoth(bytes, sizes, read)
    const lines = new Set(['', ...bytes.toString('latin1').split(/[\r\n]/)])
    for (const line of passed.split(/[\r\n]/))
      assert.ok(lines.has(line) || /^(?:\u00EF\u00BB\u00BF)?data: <ours>$/.test(line), line)
  },
}

export const targets: Readonly<Record<string, Target>> = {
  sse,
  lines,
  tap,
  'event-tap': eventTap,
  envelope,
  headers,
  endpoint,
}

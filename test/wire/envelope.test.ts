import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { maxBatchMessages } from '../../src/wire/batch.ts'
import { type Envelope, EnvelopeReader, onOneLine, readEnvelope, splice } from '../../src/wire/envelope.ts'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined }

const prefix = 'io.modelcontextprotocol/'

function read(text: string): Envelope | undefined {
  return readEnvelope(Buffer.from(text))
}

function readInChunks(message: Buffer, sizes: readonly number[]): Envelope | undefined {
  const reader = new EnvelopeReader()
  let at = 0
  for (let turn = 0; at < message.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1
    reader.push(message.subarray(at, at + size))
    at += size
  }
  return reader.end()
}

/** What was read, without where it stands and the fields that are absent. */
function fieldsOf(envelope: Envelope | undefined): Record<string, unknown> | undefined {
  if (!envelope) return undefined
  return Object.fromEntries(
    Object.entries(envelope).filter(([key, value]) => key !== 'ranges' && key !== 'starts' && value !== undefined),
  )
}

/** The member at a path of plain objects, as JSON.parse sees it. */
function member(value: Json, ...path: string[]): Json | undefined {
  let found: Json | undefined = value
  for (const key of path) {
    if (typeof found !== 'object' || found === null || Array.isArray(found) || !Object.hasOwn(found, key))
      return undefined
    found = found[key]
  }
  return found
}

const stringOrNothing = (value: Json | undefined) => (typeof value === 'string' ? value : undefined)
const isId = (value: Json | undefined) => typeof value === 'string' || typeof value === 'number' || value === null
const idText = (value: Json | undefined) => (isId(value) ? JSON.stringify(value) : undefined)
const without = (fields: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))

/** The envelope as a full parser would read it: the oracle of the properties below. */
function expectedFields(value: Json): Record<string, unknown> | undefined {
  if (Array.isArray(value)) return { kind: 'batch', messages: value.map(expectedMessage) }
  return expectedMessage(value)
}

function expectedMessage(value: Json): Record<string, unknown> | undefined {
  if (Array.isArray(value)) return undefined
  if (typeof value !== 'object' || value === null) return undefined
  const method = member(value, 'method')
  const id = member(value, 'id')
  if (method !== undefined && typeof method !== 'string') return undefined
  return method === undefined ? expectedResponse(value, id) : expectedCall(value, method, id)
}

function expectedCall(value: Json, method: string, id: Json | undefined): Record<string, unknown> | undefined {
  if (id !== undefined && !isId(id)) return undefined
  if (id === null && !method.startsWith('notifications/')) return undefined
  const isRequest = id !== undefined && id !== null
  const meta = member(value, 'params', '_meta') ?? null
  const metaProtocolVersion = stringOrNothing(member(meta, `${prefix}protocolVersion`))
  return without({
    kind: isRequest ? 'request' : 'notification',
    method,
    id: isRequest ? idText(id) : undefined,
    name: stringOrNothing(member(value, 'params', 'name')),
    uri: stringOrNothing(member(value, 'params', 'uri')),
    taskId: stringOrNothing(member(value, 'params', 'taskId')),
    progressToken: idText(isRequest ? member(meta, 'progressToken') : member(value, 'params', 'progressToken')),
    subscriptionId: idText(member(meta, `${prefix}subscriptionId`)),
    requestId: idText(member(value, 'params', 'requestId')),
    protocolVersion: metaProtocolVersion ?? stringOrNothing(member(value, 'params', 'protocolVersion')),
    metaProtocolVersion,
    traceparent: stringOrNothing(member(meta, 'traceparent')),
    tracestate: stringOrNothing(member(meta, 'tracestate')),
    baggage: stringOrNothing(member(meta, 'baggage')),
    clientName:
      stringOrNothing(member(meta, `${prefix}clientInfo`, 'name')) ??
      stringOrNothing(member(value, 'params', 'clientInfo', 'name')),
  })
}

function expectedResponse(value: Json, id: Json | undefined): Record<string, unknown> | undefined {
  const error = member(value, 'error') ?? undefined
  if (id === undefined ? error === undefined : !isId(id)) return undefined
  if (error === undefined && member(value, 'result') === undefined) return undefined
  const code = member(error ?? null, 'code')
  const isError = member(value, 'result', 'isError')
  return without({
    kind: 'response',
    id: idText(id),
    subscriptionId: idText(member(value, 'result', '_meta', `${prefix}subscriptionId`)),
    protocolVersion: stringOrNothing(member(value, 'result', 'protocolVersion')),
    error:
      error === undefined
        ? undefined
        : {
            code: typeof code === 'number' ? code : 0,
            message: (stringOrNothing(member(error, 'message')) ?? '').slice(0, 200),
          },
    isError: typeof isError === 'boolean' ? isError : undefined,
  })
}

/** Writes JSON as odd as it may legally be: white space between all tokens, any character escaped. */
function write(value: Json, choose: () => number): string {
  const gap = () => ['', '', '', ' ', '\n', '\r\n\t'][choose() % 6] ?? ''
  const text = (string: string) =>
    `"${Array.from(string, (character) => writeCharacter(character, choose() % 8)).join('')}"`
  const node = (value: Json): string => {
    if (typeof value === 'string') return text(value)
    if (typeof value !== 'object' || value === null) return JSON.stringify(value)
    if (Array.isArray(value)) return `[${gap()}${value.map(node).join(`${gap()},${gap()}`)}${gap()}]`
    const members = Object.entries(value).map(([key, inner]) => `${text(key)}${gap()}:${gap()}${node(inner ?? null)}`)
    return `{${gap()}${members.join(`${gap()},${gap()}`)}${gap()}}`
  }
  return gap() + node(value) + gap()
}

function writeCharacter(character: string, choice: number): string {
  const plain = JSON.stringify(character).slice(1, -1)
  if (choice > 0) return plain
  if (character === '/') return '\\/'
  return character
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('')
}

const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 8 }), fc.constantFrom('a/b', '"', '\\', 'é', '😀', 'null'))
const anyJson = fc.jsonValue({ maxDepth: 3 })
const scalar = fc.oneof<fc.Arbitrary<Json>[]>(
  fc.integer(),
  text,
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constant(null),
)
const maybe = (arbitrary: fc.Arbitrary<Json>) => fc.oneof({ arbitrary, weight: 5 }, { arbitrary: anyJson, weight: 1 })
const object = (members: Record<string, fc.Arbitrary<Json>>) =>
  fc.record(
    Object.fromEntries(Object.entries({ ...members, other: anyJson }).map(([key, inner]) => [key, maybe(inner)])),
    { requiredKeys: [] },
  )
const clientInfo = object({ name: text, version: text })
const decoys = { id: scalar, method: text, error: anyJson, result: anyJson }
const message = object({
  jsonrpc: fc.constant('2.0'),
  id: scalar,
  method: text,
  params: object({
    ...decoys,
    name: text,
    uri: text,
    taskId: text,
    progressToken: scalar,
    requestId: scalar,
    protocolVersion: text,
    clientInfo,
    arguments: object({ ...decoys, name: text, _meta: anyJson }),
    _meta: object({
      progressToken: scalar,
      traceparent: text,
      tracestate: text,
      baggage: text,
      [`${prefix}subscriptionId`]: scalar,
      [`${prefix}protocolVersion`]: text,
      [`${prefix}clientInfo`]: clientInfo,
    }),
  }),
  result: object({
    ...decoys,
    isError: fc.boolean(),
    protocolVersion: text,
    _meta: object({ [`${prefix}subscriptionId`]: scalar }),
  }),
  error: object({ code: fc.integer(), message: text, data: anyJson }),
})
const choices = fc.infiniteStream(fc.nat(255)).map((stream) => () => Number(stream.next().value))
const written = fc.tuple(message, choices).map(([value, choose]) => write(value, choose))
const writtenBatch = fc
  .tuple(fc.array(fc.oneof(message, anyJson), { maxLength: 4 }), choices)
  .map(([value, choose]) => write(value, choose))
const chunkSizes = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 })

describe('kinds of message (JSON-RPC 2.0 §4, §5, §6)', () => {
  const cases: [what: string, text: string, kind: Envelope['kind'] | undefined][] = [
    ['a request', '{"jsonrpc":"2.0","id":1,"method":"ping"}', 'request'],
    ['a request whose id comes last', '{"method":"ping","params":{},"id":"a"}', 'request'],
    ['a notification', '{"method":"notifications/initialized"}', 'notification'],
    [
      'a notification of a client that writes absent ids as null',
      '{"id":null,"method":"notifications/x"}',
      'notification',
    ],
    ['a request whose id is null', '{"id":null,"method":"ping"}', undefined],
    ['a result', '{"id":1,"result":{}}', 'response'],
    ['a null result', '{"id":1,"result":null}', 'response'],
    ['a result beside a null error, as JSON-RPC 1.0 has it', '{"id":1,"result":{},"error":null}', 'response'],
    ['an error', '{"id":1,"error":{"code":-32601,"message":"x"}}', 'response'],
    ['an error to nobody', '{"id":null,"error":{"code":-32700,"message":"x"}}', 'response'],
    ['an error without an id (MCP 2025-11-25)', '{"error":{"code":-32700,"message":"x"}}', 'response'],
    ['a batch', ' [{"id":1,"method":"ping"}] ', 'batch'],
    ['a message behind a byte order mark', '\uFEFF{"id":1,"method":"ping"}', 'request'],
    ['nothing', '', undefined],
    ['white space', ' \n', undefined],
    ['an id alone', '{"id":1}', undefined],
    ['a result without an id', '{"result":{}}', undefined],
    ['a method that is no string', '{"id":1,"method":5}', undefined],
    ['an id that is an object', '{"id":{},"method":"x"}', undefined],
    ['an id that is a boolean', '{"id":true,"method":"x"}', undefined],
    ['an id that is no JSON', '{"id":nonsense,"method":"x"}', undefined],
    ['an id with a leading zero', '{"id":01,"method":"x"}', undefined],
    ['a string', '"method"', undefined],
    ['a number', '1', undefined],
    ['not JSON', 'Server listening on {port}', undefined],
    ['something behind the message', '{"id":1,"method":"ping"} x', undefined],
    ['two messages', '{"id":1,"method":"ping"}{"id":2,"method":"ping"}', undefined],
    ['a trailing comma', '{"id":1,"method":"ping",}', undefined],
    ['a missing value', '{"id":1,"method":"ping","params":}', undefined],
    ['a missing colon', '{"id":1,"method" "ping"}', undefined],
  ]
  it.each(cases)('%s', (_, text, kind) => {
    expect(read(text)?.kind).toBe(kind)
  })
})

describe('what is read', () => {
  it('reads a modern tool call', () => {
    const text = JSON.stringify({
      jsonrpc: '2.0',
      id: 'a',
      method: 'tools/call',
      params: {
        name: 'echo',
        arguments: { name: 'decoy', method: 'decoy', id: 9 },
        _meta: {
          [`${prefix}protocolVersion`]: '2026-07-28',
          [`${prefix}clientInfo`]: { name: 'inspector', version: '1' },
          progressToken: 7,
          traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        },
      },
    })
    expect(fieldsOf(read(text))).toEqual({
      kind: 'request',
      method: 'tools/call',
      id: '"a"',
      name: 'echo',
      progressToken: '7',
      protocolVersion: '2026-07-28',
      metaProtocolVersion: '2026-07-28',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      clientName: 'inspector',
    })
  })

  const cases: [what: string, text: string, fields: Partial<Envelope>][] = [
    ['the last of duplicate ids', '{"id":1,"id":2,"method":"x"}', { id: '2' }],
    [
      'the last of duplicate params',
      '{"method":"x","params":{"name":"a","uri":"u"},"params":{"name":"b"}}',
      { name: 'b' },
    ],
    [
      'nothing of params that a scalar replaced',
      '{"method":"x","params":{"name":"a"},"params":1}',
      { name: undefined },
    ],
    ['the last of duplicates written differently', '{"method":"x","\\u006dethod":"y"}', { method: 'y' }],
    ['a string value that an object replaced', '{"method":"x","params":{"name":"a","name":{}}}', { name: undefined }],
    ['an escaped key', '{"\\u006d\\u0065thod":"x"}', { method: 'x' }],
    ['an escaped value', '{"method":"t\\u006fols\\/call"}', { method: 'tools/call' }],
    ['an id written with an escape, as its equal without', '{"id":"a\\/b","method":"x"}', { id: '"a/b"' }],
    ['an id written as a fraction, as the whole number', '{"id":1.0,"method":"x"}', { id: '1' }],
    ['an id beyond all numbers as it stands', '{"id":1e999,"method":"x"}', { id: '1e999' }],
    ['every digit of a big id', '{"id":12345678901234567890,"method":"x"}', { id: '12345678901234567890' }],
    ['an id that only spells null', '{"id":"null","method":"x"}', { kind: 'request', id: '"null"' }],
    ['an id at the very end', '{"result":{},"id":1}', { id: '1' }],
    ['the token of a progress notification', '{"method":"p","params":{"progressToken":"t"}}', { progressToken: '"t"' }],
    [
      'no token of a request outside its _meta',
      '{"id":1,"method":"p","params":{"progressToken":"t"}}',
      { progressToken: undefined },
    ],
    ['a cancelled request', '{"method":"notifications/cancelled","params":{"requestId":3}}', { requestId: '3' }],
    [
      'the revision that initialize asks for',
      '{"id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}',
      { protocolVersion: '2025-11-25', metaProtocolVersion: undefined },
    ],
    [
      'the revision that the server chose',
      '{"id":0,"result":{"protocolVersion":"2025-06-18"}}',
      { protocolVersion: '2025-06-18' },
    ],
    ['a failed tool', '{"id":0,"result":{"content":[],"isError":true}}', { isError: true }],
    [
      'an error whose code is no number',
      '{"id":0,"error":{"code":"x","message":"m"}}',
      { error: { code: 0, message: 'm' } },
    ],
    ['an error that is no object', '{"id":0,"error":"boom"}', { error: { code: 0, message: '' } }],
    [
      'no name that holds an unknown escape',
      '{"method":"x","params":{"name":"\\q"}}',
      { method: 'x', name: undefined },
    ],
  ]
  it.each(cases)('%s', (_, text, fields) => {
    expect(read(text)).toMatchObject(fields)
  })

  it('gives the bytes of ids, tokens and subscriptions', () => {
    const text = `{"é":1,"id" : "ab","method":"x","params":{"_meta":{"progressToken":7,"traceparent":null,"${prefix}subscriptionId":"s"},"requestId":12}}`
    const { ranges, starts } = read(text) ?? {}
    const slices = Object.entries(ranges ?? {}).map(([field, range]) => [
      field,
      range && Buffer.from(text).subarray(range.start, range.end).toString(),
    ])
    expect(Object.fromEntries(slices)).toEqual({
      id: '"ab"',
      progressToken: '7',
      subscriptionId: '"s"',
      requestId: '12',
      traceparent: 'null',
    })
    const bytes = Buffer.from(text)
    expect(starts).toEqual({ params: bytes.indexOf('{"_meta"'), meta: bytes.indexOf('{"progressToken"') })
  })
})

describe('limits', () => {
  it('reads a name for what it is, whatever the message before had there', () => {
    const long = 'x'.repeat(64)
    const names = [
      'ab',
      'cb',
      'ab',
      'a',
      '',
      'abc',
      'é',
      'ê',
      'ab',
      `a${long}`,
      `b${long}`,
      long,
      `${long}y`,
      '"',
      'ab',
    ]
    const read = names.map((name) => {
      const message = JSON.stringify({ id: 1, method: 'tools/call', params: { name } })
      return readEnvelope(Buffer.from(message))?.name
    })
    expect(read).toEqual(names)
  })

  it('leaves out what is longer than it keeps, but still knows the kind and where the id stands', () => {
    const long = 'x'.repeat(5000)
    const text = JSON.stringify({ id: long, method: long, params: { name: long, uri: 'u' } })
    const expected = {
      kind: 'request',
      method: undefined,
      id: undefined,
      name: undefined,
      uri: 'u',
      ranges: { id: { start: 6, end: 5008 } },
    }
    expect(read(text)).toMatchObject(expected)
    expect(readInChunks(Buffer.from(text), [7])).toMatchObject(expected)
  })

  it.each([
    ['plain', 'x'.repeat(9000)],
    ['escaped', '\n'.repeat(9000)],
    ['escaped to six bytes each', '\u0001'.repeat(9000)],
    ['ends inside an escape', `${'x'.repeat(150)}${'\u0001\\'.repeat(9000)}`],
    ['wide', '😀'.repeat(9000)],
  ])('cuts the message of an error at 200 characters: %s', (_, long) => {
    const text = Buffer.from(JSON.stringify({ id: 1, error: { code: -32000, message: long } }))
    expect(readEnvelope(text)?.error).toEqual({ code: -32000, message: long.slice(0, 200) })
    expect(readInChunks(text, [101])?.error).toEqual({ code: -32000, message: long.slice(0, 200) })
  })

  it.each([
    ['arrays', '[', ']'],
    ['objects', '{"id":', '}'],
  ])('is not exhausted by 100,000 nested %s', (_, open, close) => {
    const deep = `${open.repeat(100_000)}1${close.repeat(100_000)}`
    expect(fieldsOf(read(`{"params":{"_meta":${deep},"name":"a"},"method":"m","id":1}`))).toEqual({
      kind: 'request',
      method: 'm',
      id: '1',
      name: 'a',
    })
    expect(fieldsOf(read(`{"result":${deep},"id":1}`))).toEqual({ kind: 'response', id: '1' })
    expect(read(deep)?.kind).toBe(open === '[' ? 'batch' : undefined)
  })

  it('does not take a batch apart that is too long', () => {
    const batch = (count: number) => read(`[${Array.from({ length: count }, () => '{"method":"a","id":1}').join()}]`)
    expect(batch(maxBatchMessages)?.messages).toHaveLength(maxBatchMessages)
    expect(batch(maxBatchMessages + 1)).toEqual({ kind: 'batch', messages: undefined, ranges: {} })
  })

  it.each([
    ['plain', 'x'.repeat(1 << 20)],
    ['made of quotes', '"'.repeat(1 << 20)],
    ['made of backslashes', '\\'.repeat(1 << 20)],
    ['made of backslashes and quotes', '\\\\"'.repeat(1 << 18)],
  ])('skips a string of a megabyte %s', (_, long) => {
    const message = Buffer.from(
      JSON.stringify({ result: { content: [{ type: 'text', text: long }], [long]: long }, id: 1 }),
    )
    expect(fieldsOf(readEnvelope(message))).toEqual({ kind: 'response', id: '1' })
    expect(fieldsOf(readInChunks(message, [65_536, 1, 4097]))).toEqual({ kind: 'response', id: '1' })
  })
})

describe('properties', () => {
  it('reads what JSON.parse reads, however the message is written and cut', () => {
    fc.assert(
      fc.property(written, chunkSizes, (text, sizes) => {
        const expected = expectedFields(JSON.parse(text))
        const message = Buffer.from(text)
        expect(fieldsOf(readEnvelope(message))).toEqual(expected)
        expect(fieldsOf(readInChunks(message, sizes))).toEqual(expected)
        expect(readInChunks(message, sizes)?.ranges).toEqual(readEnvelope(message)?.ranges)
      }),
      { numRuns: 1000 },
    )
  })

  it('reads the messages of a batch likewise', () => {
    fc.assert(
      fc.property(writtenBatch, chunkSizes, (text, sizes) => {
        const read = readInChunks(Buffer.from(text), sizes)
        const messages = read?.messages?.map(fieldsOf)
        expect({ ...fieldsOf(read), messages }).toEqual(expectedFields(JSON.parse(text)))
        expect(readEnvelope(Buffer.from(text))).toEqual(read)
      }),
      { numRuns: 300 },
    )
  })

  it('reads nothing from a message that is cut short', () => {
    fc.assert(
      fc.property(written, fc.nat(), (text, cut) => {
        const message = Buffer.from(text.trim())
        expect(readEnvelope(message.subarray(0, cut % message.length))).toBeUndefined()
      }),
    )
  })

  it('never throws, and agrees with the parser on whatever the parser accepts', () => {
    const tokens = [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '"id"',
      '"method":',
      '"params":{',
      '1',
      '-',
      'null',
      ' ',
      '\u0000',
      'é',
    ]
    const soup = fc.oneof(
      fc.array(fc.constantFrom(...tokens)).map((parts) => Buffer.from(parts.join(''))),
      fc.uint8Array(),
    )
    fc.assert(
      fc.property(soup, chunkSizes, (bytes, sizes) => {
        const envelope = readInChunks(Buffer.from(bytes), sizes)
        expect(envelope).toEqual(readEnvelope(bytes))
        const value = parsed(Buffer.from(bytes).toString())
        if (value !== undefined) expect(fieldsOf(envelope)).toEqual(expectedFields(value))
      }),
      { numRuns: 1000 },
    )
  })

  it('splices other ids and tokens in and leaves the rest as it is', () => {
    fc.assert(
      fc.property(written, fc.json(), fc.json(), (text, id, token) => {
        const ranges: Envelope['ranges'] = read(text)?.ranges ?? {}
        const edits = [
          ...(ranges.progressToken ? [{ range: ranges.progressToken, text: token }] : []),
          ...(ranges.id ? [{ range: ranges.id, text: id }] : []),
        ]
        const expected = JSON.parse(text)
        if (ranges.id) expected.id = JSON.parse(id)
        if (ranges.progressToken && ranges.id && 'method' in expected)
          expected.params._meta.progressToken = JSON.parse(token)
        else if (ranges.progressToken) expected.params.progressToken = JSON.parse(token)
        expect(JSON.parse(splice(Buffer.from(text), edits).toString())).toEqual(expected)
      }),
    )
  })

  it('puts any message on one line without changing its meaning', () => {
    fc.assert(
      fc.property(written, (text) => {
        const line = onOneLine(Buffer.from(text)).toString()
        expect(line).not.toMatch(/[\r\n]/)
        expect(JSON.parse(line)).toEqual(JSON.parse(text))
      }),
    )
  })
})

it('gives a message back uncopied when it is on one line already', () => {
  const message = Buffer.from('{"a":"\\n"}')
  expect(onOneLine(message)).toBe(message)
})

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text)
  } catch {
    // Not JSON, so there is nothing to agree with.
    return undefined
  }
}

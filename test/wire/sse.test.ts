import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { keepAliveComment, sseEvent, SseMessageReader, SseReader } from '../../src/wire/sse.ts'

interface SseEvent {
  readonly type: string
  readonly id: string | undefined
  readonly data: string
}

function inChunks(stream: Buffer, sizes: readonly number[], push: (chunk: Buffer) => void): void {
  let at = 0
  for (let turn = 0; at < stream.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1
    push(stream.subarray(at, at + size))
    at += size
  }
}

function messagesOf(stream: string | Buffer, sizes: readonly number[] = [1 << 20]): SseEvent[] {
  const events: SseEvent[] = []
  const reader = new SseMessageReader({
    maxBytes: 1 << 20,
    onMessage: ({ type, id, data }) => events.push({ type, id, data: data.toString() }),
    onTooLarge: ({ bytes }) => expect.fail(`${bytes} bytes are not too large`),
  })
  inChunks(Buffer.from(stream), sizes, (chunk) => reader.push(chunk))
  return events
}

const event = (data: string, type = 'message', id?: string): SseEvent => ({ type, id, data })

describe('WHATWG HTML §9.2.6, interpreting an event stream', () => {
  const cases: [what: string, stream: string, events: SseEvent[]][] = [
    ['an event', 'data: a\n\n', [event('a')]],
    ['lines that end in CR', 'data: a\r\rdata: b\r\r', [event('a'), event('b')]],
    ['lines that end in CRLF', 'data: a\r\n\r\ndata: b\r\n\r\n', [event('a'), event('b')]],
    ['line ends mixed', 'data: a\r\ndata: b\rdata: c\n\r\n', [event('a\nb\nc')]],
    ['a byte order mark', '\uFEFFdata: a\n\n', [event('a')]],
    ['only one space stripped', 'data:  a\n\ndata:b\n\n', [event(' a'), event('b')]],
    ['data lines joined by a newline', 'data: a\ndata:\ndata: b\n\n', [event('a\n\nb')]],
    ['data without a colon', 'data\n\ndata\ndata\n\n', [event(''), event('\n')]],
    ['type and id', 'event: endpoint\nid: 7\ndata: /messages\n\n', [event('/messages', 'endpoint', '7')]],
    [
      'type and id of their own event only',
      'event: x\nid: 7\ndata: a\n\ndata: b\n\n',
      [event('a', 'x', '7'), event('b')],
    ],
    ['an empty type as the default', 'event:\ndata: a\n\nevent\ndata: b\n\n', [event('a'), event('b')]],
    ['an id with NUL ignored', 'id: 1\nid: 2\0\ndata: a\n\n', [event('a', 'message', '1')]],
    ['an empty id', 'id\ndata: a\n\n', [event('a', 'message', '')]],
    ['type and id beyond ASCII', 'event: é\nid: 😀\ndata: ü\n\n', [event('ü', 'é', '😀')]],
    ['comments and unknown fields ignored', ': hi\nretry: 10\ndatabase: x\ndat: y\ndata: a\n:\n\n', [event('a')]],
    ['field names in another case ignored', 'DATA: a\n\nData: b\n\n', []],
    ['a NUL before a name makes another name', '\0data: a\n\n', []],
    ['no event without data', 'id: 1\n\n: ping\n\n\n\n', []],
    ['no event that the stream ends within', 'data: a\n', []],
    ['colons in data', 'data: {"a":1}\n\n', [event('{"a":1}')]],
  ]
  it.each(cases)('%s', (_, stream, events) => {
    expect(messagesOf(stream)).toEqual(events)
    expect(messagesOf(stream, [1])).toEqual(events)
  })

  it('agrees with a plain parser on any stream, however it is cut', () => {
    const parts = [
      'data',
      'event',
      'id',
      'x',
      ':',
      ': ',
      ' ',
      '\n',
      '\r',
      '\r\n',
      '\n\n',
      'é',
      '\0',
      'dataevent',
      'data: a\n\n',
    ]
    const stream = fc.array(fc.constantFrom(...parts), { maxLength: 40 }).map((parts) => parts.join(''))
    const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 })
    fc.assert(
      fc.property(stream, sizes, (stream, sizes) => {
        expect(messagesOf(stream, sizes)).toEqual(plainlyParsed(stream))
      }),
      { numRuns: 1000 },
    )
  })

  it('survives arbitrary bytes', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 })
    fc.assert(
      fc.property(fc.uint8Array(), sizes, (bytes, sizes) => {
        expect(messagesOf(Buffer.from(bytes), sizes)).toEqual(messagesOf(Buffer.from(bytes)))
      }),
    )
  })
})

/** The specification's steps, written for clarity on whole text. */
function plainlyParsed(stream: string): SseEvent[] {
  const events: SseEvent[] = []
  let data: string[] = []
  let type = ''
  let id: string | undefined
  // What follows the last line end is no line yet.
  for (const line of stream.split(/\r\n|\r|\n/).slice(0, -1)) {
    if (line === '') {
      if (data.length > 0) events.push(event(data.join('\n'), type || 'message', id))
      data = []
      type = ''
      id = undefined
      continue
    }
    const [, name = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (name === 'data') data.push(value)
    if (name === 'event') type = value
    if (name === 'id' && !value.includes('\0')) id = value
  }
  return events
}

describe('SseReader', () => {
  it('hands data on as parts of the chunk and tells each blank line', () => {
    const told: unknown[] = []
    const chunk = Buffer.from('data: ab\ndata: cd\n\n: comment\n\nid: 5\n\n\n')
    const pieces: Uint8Array[] = []
    const reader = new SseReader({
      onData: (piece) => pieces.push(piece),
      onEvent: (event) => told.push(event),
    })
    reader.push(chunk)
    expect(pieces.map(String)).toEqual(['ab', '\n', 'cd'])
    expect(pieces[0]?.buffer).toBe(chunk.buffer)
    expect(pieces[0]?.byteOffset).toBe(chunk.byteOffset + 6)
    expect(told).toEqual([
      { type: 'message', id: undefined, hadData: true, end: 19 },
      { type: 'message', id: undefined, hadData: false, end: 30 },
      { type: 'message', id: '5', hadData: false, end: 37 },
      { type: 'message', id: undefined, hadData: false, end: 38 },
    ])
  })

  it.each([
    ['\n', 'a\n\n'],
    ['\r', 'a\r\r'],
    ['\r\n', 'a\r\n\r\n'],
  ])('tells where an event ends, with the whole of its last line break (%j)', (_what, lines) => {
    const ends: number[] = []
    const reader = new SseReader({ onData: () => undefined, onEvent: ({ end }) => ends.push(end) })
    const stream = Buffer.from(`data: ${lines}data: ${lines}`)
    reader.push(stream)
    expect(ends).toEqual([stream.length / 2, stream.length])
  })

  it('keeps no type or id that is absurdly long', () => {
    const long = 'x'.repeat(10_000)
    expect(messagesOf(`id: 1\nid: ${long}\nevent: ${long}\n${long}: a\ndata: a\n\n`, [999])).toEqual([
      event('a', 'message', '1'),
    ])
  })
})

describe('SseMessageReader', () => {
  it('tells of ids without data, and of times that are whole numbers, wherever the chunks are cut', () => {
    for (const size of [1, 3, 1000]) {
      const told: unknown[] = []
      const reader = new SseMessageReader({
        maxBytes: 100,
        onMessage: ({ id, data }) => told.push([id, data.toString()]),
        onId: (id) => told.push(id),
        onRetry: (retryMs) => told.push(retryMs),
        onTooLarge: () => expect.fail('nothing is too large'),
      })
      const stream =
        'id: 1\nretry: 4000\n\nretry:5\nid: 2\ndata: a\n\nretry: 1.5\nretry: -1\nretry\nretries: 3\n\nretry: 7\n'
      inChunks(Buffer.from(stream), [size], (chunk) => reader.push(chunk))
      expect(told).toEqual([4000, '1', 5, '2', ['2', 'a'], 7])
    }
  })

  it('drops an event that is too large and goes on', () => {
    const told: string[] = []
    const reader = new SseMessageReader({
      maxBytes: 4,
      onMessage: ({ data }) => told.push(data.toString()),
      onTooLarge: ({ type, bytes, envelope }) =>
        told.push(`${type} ${bytes} bytes`, ...(envelope ? [envelope.id ?? ''] : [])),
    })
    inChunks(
      Buffer.from(
        'data: four\n\ndata: fi\ndata: ve\n\ndata: more than four\n\ndata: a\n\nevent: x\ndata: {"id"\ndata: :7,"method":"m"}\n\ndata: b\n\n',
      ),
      [3],
      (chunk) => reader.push(chunk),
    )
    expect(told).toEqual(['four', 'message 5 bytes', 'message 14 bytes', 'a', 'x 22 bytes', '7', 'b'])
  })
})

describe('sseEvent', () => {
  it.each([
    [{ data: 'a' }, 'data: a\n\n'],
    [{ data: '' }, 'data: \n\n'],
    [{ data: '{}', type: 'message', id: '1' }, 'event: message\nid: 1\ndata: {}\n\n'],
    [{ data: 'a\nb\r\nc\rd\n' }, 'data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n'],
    [{ data: 'a', id: '1\n\ndata: forged' }, 'id: 1data: forged\ndata: a\n\n'],
  ])('%j', (event, text) => {
    expect(sseEvent({ ...event, data: Buffer.from(event.data) }).toString()).toBe(text)
  })

  it('is read back as it was, line ends as newlines', () => {
    const text = fc.string({ unit: 'binary' })
    const word = fc.stringMatching(/^[\w é]+$/)
    fc.assert(
      fc.property(text, word, word, (data, type, id) => {
        const stream = sseEvent({ data: Buffer.from(data), type, id })
        expect(messagesOf(stream, [5])).toEqual([event(data.replaceAll(/\r\n|\r/g, '\n'), type, id)])
      }),
    )
  })
})

it('keeps a stream alive without an event', () => {
  expect(keepAliveComment.toString()).toBe(': keep-alive\n\n')
  expect(messagesOf(Buffer.concat([keepAliveComment, sseEvent({ data: Buffer.from('a') })]))).toEqual([event('a')])
})

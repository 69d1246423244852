import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EndpointRewriter } from '../../src/proxy/endpoint-rewriter.ts'
import { SseMessageReader } from '../../src/wire/sse.ts'

/** Feeds the stream in pieces cut at the given places. */
function rewritten(stream: Buffer, cuts: readonly number[], rewrite: (data: string) => string = () => '/new'): Buffer {
  const rewriter = new EndpointRewriter(rewrite)
  const places = [0, ...cuts.toSorted((a, b) => a - b), stream.length]
  return Buffer.concat(places.slice(1).map((end, index) => rewriter.pass(stream.subarray(places[index], end))))
}

/** What a client makes of a stream. */
function eventsOf(stream: Buffer): { type: string; id: string | undefined; data: string }[] {
  const events: { type: string; id: string | undefined; data: string }[] = []
  const reader = new SseMessageReader({
    maxBytes: 1_000_000,
    onMessage: ({ type, id, data }) => void events.push({ type, id, data: data.toString() }),
    onTooLarge: () => undefined,
  })
  reader.push(stream)
  return events
}

describe('the endpoint event (MCP 2024-11-05, Transports, HTTP with SSE)', () => {
  it.each([
    ['plain', 'event: endpoint\ndata: /m?s=1\n\n', '/m?s=1', 'event: endpoint\ndata: /new\n\n'],
    ['CRLF', 'event: endpoint\r\ndata: /m\r\n\r\n', '/m', 'event: endpoint\r\ndata: /new\r\n\r\n'],
    ['CR', 'event: endpoint\rdata: /m\r\r', '/m', 'event: endpoint\rdata: /new\r\r'],
    ['no space', 'event:endpoint\ndata:/m\n\n', '/m', 'event:endpoint\ndata: /new\n\n'],
    ['the data first', 'data: /m\nevent: endpoint\n\n', '/m', 'data: /new\nevent: endpoint\n\n'],
    [
      'a full URL',
      'event: endpoint\ndata: http://h:1/m?a=b:c\n\n',
      'http://h:1/m?a=b:c',
      'event: endpoint\ndata: /new\n\n',
    ],
    ['a comment before', ': hi\n\nevent: endpoint\ndata: /m\n\n', '/m', ': hi\n\nevent: endpoint\ndata: /new\n\n'],
    ['a comment inside', 'event: endpoint\n:x\ndata: /m\n\n', '/m', 'event: endpoint\n:x\ndata: /new\n\n'],
    [
      'id and retry',
      'retry: 9\n\nid: 4\nevent: endpoint\ndata: /m\n\n',
      '/m',
      'retry: 9\n\nid: 4\nevent: endpoint\ndata: /new\n\n',
    ],
    ['a byte order mark', '\ufeffevent: endpoint\ndata: /m\n\n', '/m', '\ufeffevent: endpoint\ndata: /new\n\n'],
    ['a mark before the data', '\ufeffdata: /m\nevent: endpoint\n\n', '/m', '\ufeffdata: /new\nevent: endpoint\n\n'],
    [
      'data in lines',
      'event: endpoint\ndata: /a\nid: 1\ndata: b\n\n',
      '/a\nb',
      'event: endpoint\ndata: /new\nid: 1\n\n',
    ],
    [
      'an event without data before',
      'event: x\n\nevent: endpoint\ndata: /m\n\n',
      '/m',
      'event: x\n\nevent: endpoint\ndata: /new\n\n',
    ],
    [
      'more behind it',
      'event: endpoint\ndata: /m\n\ndata: {}\n\n: x',
      '/m',
      'event: endpoint\ndata: /new\n\ndata: {}\n\n: x',
    ],
  ])('%s: only its data is replaced', (_title, stream, uri, expected) => {
    const seen: string[] = []
    const rewrite = (data: string) => {
      seen.push(data)
      return '/new'
    }
    expect(rewritten(Buffer.from(stream), [], rewrite).toString()).toBe(expected)
    expect(seen).toEqual([uri])
  })

  const lineBreaks = fc.constantFrom('\n', '\r\n', '\r')
  const preludes = fc.constantFrom([], [': c'], ['retry: 1', ''], ['id: 9'], [':', '', ': é😀', ''])
  const rests = fc.array(fc.constantFrom('data: {"a":"é"}', '', ': c', 'id: 3', 'event: endpoint', 'data: /other'), {
    maxLength: 8,
  })

  it('cut anywhere, it comes out whole, and everything else stays as it was', () => {
    fc.assert(
      fc.property(
        lineBreaks,
        preludes,
        rests,
        fc.array(fc.nat(200), { maxLength: 10 }),
        (lineBreak, prelude, rest, cuts) => {
          const stream = (uri: string) =>
            Buffer.from(
              [...prelude, 'event: endpoint', `data: ${uri}`, '', ...rest].map((line) => line + lineBreak).join(''),
            )
          const old = stream('/old/path?session=1')
          const within = cuts.map((cut) => cut % (old.length + 1))
          expect(rewritten(old, within).toString()).toBe(stream('/new').toString())
          expect(eventsOf(rewritten(old, within))).toEqual(eventsOf(stream('/new')))
        },
      ),
      { numRuns: 500 },
    )
  })

  it.each(['\n', '\r\n', '\r'])('cut at every byte (line break %j)', (lineBreak) => {
    const stream = Buffer.from([': é', 'event: endpoint', 'data: /m', '', 'data: x', '', ''].join(lineBreak))
    const expected = stream.toString().replace('/m', '/new')
    for (let cut = 0; cut <= stream.length; cut++) expect(rewritten(stream, [cut]).toString()).toBe(expected)
    const everywhere = Array.from({ length: stream.length }, (_, index) => index)
    expect(rewritten(stream, everywhere).toString()).toBe(expected)
  })

  it('goes out as soon as it is complete', () => {
    const rewriter = new EndpointRewriter(() => '/new')
    expect(rewriter.pass(Buffer.from('event: endpoint\r\ndata: /m\r\n')).length).toBe(0)
    expect(rewriter.pass(Buffer.from('\r')).toString()).toBe('event: endpoint\r\ndata: /new\r\n\r')
  })

  it('a stream that begins with another event is refused', () => {
    const rewriter = new EndpointRewriter(() => '/new')
    expect(() => rewriter.pass(Buffer.from('data: {}\n\n'))).toThrow(
      'the first event is "message" instead of "endpoint"',
    )
  })

  it('a stream that never says it is refused after 64 KiB, in whatever pieces they came', () => {
    const rewriter = new EndpointRewriter(() => '/new')
    for (let line = 0; line < 64; line++) expect(rewriter.pass(Buffer.alloc(1024, ':\n')).length).toBe(0)
    expect(() => rewriter.pass(Buffer.from(':'))).toThrow('no endpoint event within the first 65536 bytes')
  })

  it('what the callback throws comes out, so that a foreign origin can be refused', () => {
    const refuse = () => {
      throw new Error('foreign')
    }
    expect(() => rewritten(Buffer.from('event: endpoint\ndata: http://evil/\n\n'), [], refuse)).toThrow('foreign')
  })

  it('after it, chunks pass uncopied', () => {
    const rewriter = new EndpointRewriter(() => '/new')
    rewriter.pass(Buffer.from('event: endpoint\ndata: /m\n\n'))
    const chunk = Buffer.from('event: endpoint\ndata: /m\n\n')
    expect(rewriter.pass(chunk)).toBe(chunk)
  })
})

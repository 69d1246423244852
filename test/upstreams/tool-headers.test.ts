import { describe, expect, it, vi } from 'vitest'
import { ToolHeaders } from '../../src/upstreams/tool-headers.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'

const tool = (name: unknown, header?: string) => ({
  name,
  inputSchema: { properties: { a: { type: 'string', ...(header !== undefined && { 'x-mcp-header': header }) } } },
})

function headersOf(known: ToolHeaders, name: string, { method = 'tools/call', version = '2026-07-28' } = {}): string[] {
  const meta = version === '' ? '' : `,"_meta":{"io.modelcontextprotocol/protocolVersion":"${version}"}`
  const call = Buffer.from(
    `{"jsonrpc":"2.0","id":1,"method":"${method}","params":{"name":"${name}","arguments":{"a":"x"}${meta}}}`,
  )
  return known.headersFor(call, readEnvelope(call) ?? { kind: 'request', ranges: {} })
}

describe('ToolHeaders', () => {
  it('knows what the last list said of a tool, and what other pages said of others', () => {
    const known = new ToolHeaders()
    known.learn([tool('one', 'A'), tool('two', 'B'), tool('plain'), tool(7, 'C'), null])
    known.learn([tool('two'), tool('three', 'D')])
    expect(['one', 'two', 'three', 'plain', 'unknown'].map((name) => headersOf(known, name))).toEqual([
      ['Mcp-Param-A', 'x'],
      [],
      ['Mcp-Param-D', 'x'],
      [],
      [],
    ])
  })

  it('speaks of calls of 2026-07-28 alone', () => {
    const known = new ToolHeaders()
    known.learn([tool('one', 'A')])
    expect(headersOf(known, 'one', { method: 'prompts/get' })).toEqual([])
    expect(headersOf(known, 'one', { version: '' })).toEqual([])
  })

  it('forgets the tool that was listed longest ago when there are more than 1,000', () => {
    const onForgotten = vi.fn<() => void>()
    const known = new ToolHeaders(onForgotten)
    known.learn([tool('first', 'A'), tool('second', 'A')])
    known.learn([tool('first', 'A')])
    known.learn(Array.from({ length: 999 }, (_, index) => tool(`t${index}`, 'A')))
    expect(onForgotten).toHaveBeenCalledOnce()
    expect(headersOf(known, 'second')).toEqual([])
    expect(headersOf(known, 'first')).not.toEqual([])
  })
})

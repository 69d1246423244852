import { describe, expect, it } from 'vitest'
import type { Config } from '../../src/config/config.ts'
import { type Difference, difference } from '../../src/config/difference.ts'
import { loadConfig } from '../../src/config/load.ts'

const base = `
heartbeat: {heartbeat_interval_seconds: 20}
allowed_hosts: [one.example.com]
mcpServers:
  files: {command: npx, args: [-y, server], env: {ONE: 1}}
  web: {url: 'http://localhost:3000/mcp'}
`

function load(text: string): Config {
  return loadConfig({ files: ['a.yaml'], env: {}, readFile: () => text }).config
}

/** What follows from replacing one text by another in the file. */
function after(from: string, to: string): Difference {
  expect(base).toContain(from)
  return difference(load(base), load(base.replace(from, to)))
}

const nothing = { added: [], removed: [], replaced: [], retuned: [], settings: [] }
const names = ({ added, replaced, retuned, ...rest }: Difference) => ({
  ...rest,
  added: added.map(({ name }) => name),
  replaced: replaced.map(({ name }) => name),
  retuned: retuned.map(({ name }) => name),
})

describe('a new configuration', () => {
  it('the same file asks for nothing', () => {
    expect(difference(load(base), load(base))).toEqual(nothing)
  })

  it.each([
    ['a server more', 'mcpServers:', 'mcpServers:\n  new: {command: node}', { added: ['new'] }],
    ['a server less', "\n  web: {url: 'http://localhost:3000/mcp'}", '', { removed: ['web'] }],
    ['a server disabled', "3000/mcp'}", "3000/mcp', disabled: true}", { removed: ['web'] }],
    ['another URL', '3000', '3001', { replaced: ['web'] }],
    ['another argument', 'server]', 'other]', { replaced: ['files'] }],
    ['another variable', 'ONE: 1', 'ONE: 2', { replaced: ['files'] }],
    ['another time-out', "3000/mcp'}", "3000/mcp', stall_timeout_seconds: 0}", { replaced: ['web'] }],
    ['one heartbeat', "3000/mcp'}", "3000/mcp', heartbeat: {heartbeat_interval_seconds: 5}}", { retuned: ['web'] }],
    ['another limit of sessions', "3000/mcp'}", "3000/mcp', max_sessions: 5}", { retuned: ['web'] }],
    ['a limit of memory', 'env: {ONE: 1}}', 'env: {ONE: 1}, max_memory_mb: 9}', { retuned: ['files'] }],
    ['another restart policy', 'env: {ONE: 1}}', 'env: {ONE: 1}, restart: never}', { retuned: ['files'] }],
    ['every heartbeat', 'seconds: 20', 'seconds: 15', { retuned: ['files', 'web'], settings: ['heartbeat'] }],
    ['another host', 'one.example', 'two.example', { settings: ['allowed_hosts'] }],
  ])('%s', (_what, from, to, expected) => {
    expect(names(after(from, to))).toEqual({ ...nothing, ...expected })
  })

  it('another token in a file that stays the same asks for nothing: a running upstream reads it again', () => {
    const text = "mcpServers: {web: {url: 'http://localhost:1/mcp', auth: {bearer_file: token}}}"
    const withToken = (token: string) =>
      loadConfig({ files: ['a.yaml'], env: {}, readFile: (path) => (path === 'a.yaml' ? text : token) }).config
    expect(difference(withToken('one'), withToken('two'))).toEqual(nothing)
  })

  it('a server that moves to another place in the file stays what it is', () => {
    const moved =
      load(`mcpServers: {web: {url: 'http://localhost:3000/mcp'}, files: {command: npx, args: [-y, server], env: {ONE: 1}}}
heartbeat: {heartbeat_interval_seconds: 20}
allowed_hosts: [one.example.com]`)
    expect(difference(load(base), moved)).toEqual(nothing)
  })

  it('tells every change that takes a new start, all at once', () => {
    const next = load(
      `${base}listen: :7999\npublic_url: 'https://one.example.com'\nallow_unauthenticated: true\nexposition: stock\nlog: {format: json}`,
    )
    expect(() => difference(load(base), next)).toThrow(
      [
        'listen: it changed, and a running mcp-vitals cannot follow that; start it again',
        'public_url: it changed, and a running mcp-vitals cannot follow that; start it again',
        'exposition: it changed, and a running mcp-vitals cannot follow that; start it again',
        'log.format: it changed, and a running mcp-vitals cannot follow that; start it again',
      ].join('\n'),
    )
  })
})

import { describe, expect, it } from 'vitest'
import { type CommandLine, commandLineLayer } from '../../src/config/command-line.ts'
import { loadConfig } from '../../src/config/load.ts'

const configOf = (options: CommandLine) => loadConfig({ files: [], env: {}, extra: commandLineLayer(options) }).config
const namesOf = (options: CommandLine) => configOf(options).upstreams.map(({ name }) => name)

it.each([
  ['http://localhost:3000/mcp', 'localhost-3000'],
  ['https://mcp.example.com/mcp', 'mcp.example.com'],
  ['http://[::1]:3000/mcp', '1-3000'],
  ['web=http://localhost:3000/mcp?a=b', 'web'],
])('names the upstream of %s %s', (url, name) => {
  expect(namesOf({ urls: [url] })).toEqual([name])
})

it.each([
  [['npx', '-y', '@scope/server-files@1.2', '/tmp'], 'server-files'],
  [['node', './dist/server.js'], 'server'],
  [['python3', '-m', 'mcp_server_git'], 'mcp_server_git'],
  [['/usr/local/bin/github-mcp-server', 'stdio'], 'github-mcp-server'],
  [['npx', '--token', 'canary', 'server'], 'npx'],
  [['./___'], 'upstream'],
])('names the upstream of %j %s', (command, name) => {
  expect(namesOf({ urls: [], command })).toEqual([name])
})

describe('a command line', () => {
  it('gives each upstream a name of its own', () => {
    const url = 'http://localhost:1/mcp'
    expect(namesOf({ urls: [url, url], command: ['x'], name: 'localhost-1' })).toEqual([
      'localhost-1',
      'localhost-1-2',
      'localhost-1-3',
    ])
  })

  it('is laid over the files', () => {
    const extra = commandLineLayer({
      urls: ['b=http://localhost:2/mcp'],
      settings: { listen: '127.0.0.1:0', log: undefined },
    })
    const readFile = () => 'listen: 127.0.0.1:1\nmcpServers: {a: {command: x}, b: {command: x}}'
    const { config } = loadConfig({ files: ['a.yaml'], env: {}, readFile, extra })
    expect(config.listen.port).toBe(0)
    expect(config.upstreams.map(({ name, target }) => [name, target.transport])).toEqual([
      ['a', 'stdio'],
      ['b', 'http'],
    ])
  })

  it('is blamed without a line, and without its secrets', () => {
    expect(() => configOf({ urls: ['ftp://localhost/?key=canary'], settings: { listen: 'x' } })).toThrow(
      'command line: listen: "x" is not an address: write host:port, [ipv6]:port, :port (every interface) or port (loopback)\n' +
        'command line: mcpServers.localhost.url: "ftp://localhost/?<secret>" is not an http:// or https:// URL',
    )
  })
})

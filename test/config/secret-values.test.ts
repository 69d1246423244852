import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { secretValues } from '../../src/config/secret-values.ts'

const files: Readonly<Record<string, string>> = { token: 'bearer-token\n', secret: 'oauth-secret\n' }

function secretsOf(server: object, env: Readonly<Record<string, string>> = {}): string[] {
  const text = JSON.stringify({ mcpServers: { x: server } })
  const readFile = (path: string) => files[path.split('/').at(-1) ?? ''] ?? text
  return secretValues(loadConfig({ files: ['a.json'], env: {}, readFile }).config, env)
}

const url = 'http://127.0.0.1:1/mcp'
const oauth = { client_id: 'me', issuer: 'http://127.0.0.1:2', client_secret_file: 'secret' }

describe('the secrets of a configuration', () => {
  it.each<[string, object, readonly string[]]>([
    ['variables of a server', { command: 'x', env: { A: 'any value of it' } }, ['any value of it']],
    ['not those that are too short to be one', { command: 'x', env: { A: 'debug' } }, []],
    ['not those that are paths', { command: 'x', env: { A: '/var/lib/data.db' } }, []],
    [
      'URLs in variables, also in part',
      { command: 'x', env: { A: 'pg://me:password@db/x' } },
      ['pg://me:password@db/x', 'password'],
    ],
    ['arguments like keys', { command: 'x', args: ['sk-1234abcd', 'key-1234abcd'] }, ['sk-1234abcd', 'key-1234abcd']],
    ['what flags are given', { command: 'x', args: ['--key=word1234'] }, ['word1234']],
    [
      'not flags, words and paths',
      { command: 'x', args: ['-y', '--version2-mode', 'serverEverything', '/srv/data1'] },
      [],
    ],
    [
      'the secret parts of URLs in arguments',
      { command: 'x', args: [`http://me:password@h/p?k=query-value`] },
      ['password', 'k=query-value', 'query-value'],
    ],
    [
      'headers and the token in them',
      { url, headers: { A: 'Bearer some-token' } },
      ['Bearer some-token', 'some-token'],
    ],
    ['queries of URLs', { url: `${url}?k=query-value` }, ['k=query-value', 'query-value']],
    ['tokens from files', { url, auth: { bearer_file: 'token' } }, ['bearer-token']],
    ['secrets of accounts', { url, auth: { oauth } }, ['oauth-secret']],
    ['variables of launched servers', { url, launch: { command: 'x', env: { A: 'any value' } } }, ['any value']],
  ])('are %s', (_, server, secrets) => {
    expect(secretsOf(server)).toEqual(secrets)
  })

  it('are those variables of our own that say so, which servers inherit', () => {
    const env = { GITHUB_TOKEN: 'token-of-github', OTEL_EXPORTER_OTLP_HEADERS: 'key=abcdef', LANG: 'en_US.UTF-8' }
    expect(secretsOf({ command: 'x' }, env)).toEqual(['token-of-github', 'key=abcdef'])
  })
})

it('are also the tokens of receivers of alerts, and what looks like one in their URLs', () => {
  const alerts = {
    alertmanager: { url: 'https://127.0.0.1:1/team-platform-1?key=query-value', bearer_file: 'token' },
    webhook: { url: 'https://127.0.0.1:2/services/T0001-canary', bearer_file: 'secret' },
  }
  const readFile = (path: string) => files[path.split('/').at(-1) ?? ''] ?? JSON.stringify({ alerts })
  const { config } = loadConfig({ files: ['a.json'], env: {}, readFile })
  expect(new Set(secretValues(config, {}))).toEqual(
    new Set(['key=query-value', 'query-value', 'bearer-token', 'oauth-secret', 'T0001-canary']),
  )
})

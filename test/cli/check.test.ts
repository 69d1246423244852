import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runCheck } from '../../src/cli/check.ts'

const folder = join(import.meta.dirname, '../config/files')

function check(...argv: string[]) {
  const stdout: string[] = []
  const stderr: string[] = []
  const code = runCheck(argv, {
    stdout: (line) => stdout.push(line),
    stderr: (line) => stderr.push(line),
    env: { HOME: '/home/ada', TOKEN: 'canary-token' },
  })
  return { code, stdout, stderr }
}

describe('check', () => {
  it('tells what a configuration comes to, without its secrets', () => {
    const { code, stdout, stderr } = check(
      '--config',
      join(folder, 'good.yaml'),
      '--config',
      join(folder, 'predecessor.json'),
    )
    expect({ code, stderr, stdout: stdout.filter((line) => !line.startsWith('notice: ')) }).toEqual({
      code: 0,
      stdout: [
        'data listener: [::1]:7081, token needed',
        'admin listener: :9465, token needed',
        'alerts go to Alertmanager at http://127.0.0.1:9093/am',
        'alerts go to a webhook at http://hooks.example.com',
        'alerts that come in: restart for McpUpstreamDown, drain for HighLatency',
        'files: stdio npx, disabled',
        'web: http https://mcp.example.com/mcp?<secret>, judged by what its clients meet',
        'search: http https://search.example.com/mcp, judged by what its clients meet',
        'events: sse http://localhost:3000/sse, judged by what its clients meet',
        'signed: http http://localhost:3000/mcp, judged by what its clients meet',
        'configuration is valid',
      ],
      stderr: [],
    })
  })

  it('tells what it noticed', () => {
    expect(check('--config', join(folder, 'predecessor.json')).stdout).toContain(
      `notice: ${folder}/predecessor.json:1: no server is enabled: there is nothing to watch`,
    )
  })

  it('tells everything that is wrong, a line each', () => {
    const { code, stdout, stderr } = check('--config', join(folder, 'bad/not-a-number.yaml'))
    expect({ code, stdout }).toEqual({ code: 1, stdout: [] })
    expect(stderr).toHaveLength(2)
  })

  it.each([
    [[], 'no --config is given'],
    [['--config'], 'argument missing'],
    [['--file', 'x'], '--file'],
    [['x.yaml'], 'x.yaml'],
  ])('shows how it is used after %j', (argv, word) => {
    const { code, stderr } = check(...argv)
    expect(code).toBe(2)
    expect(stderr[0]).toContain(word)
    expect(stderr[1]).toBe('usage: mcp-vitals check --config file [--config file …]')
  })
})

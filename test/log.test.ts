import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { logfmt } from '../src/log.ts'
import { repoRoot } from './peers/spawn.ts'

/** What a process of its own writes to stdout with the logger. */
async function written(options: object, calls: string): Promise<string[]> {
  const script = `
    const { createLogger } = await import('./src/log.ts')
    const log = createLogger({ level: 'info', format: 'auto', isTerminal: false, ...${JSON.stringify(options)} })
    ${calls}
    log.flush(() => {})
  `
  const args = ['--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: repoRoot })
  return stdout.trimEnd().split('\n')
}

describe('a line', () => {
  it('is one JSON object, with level, ts and msg before the fields', async () => {
    const [line = ''] = await written({}, `log.info({ upstream: 'files', n: 1, none: null }, 'listening')`)
    const fields = JSON.parse(line) as Record<string, unknown>
    expect(Object.keys(fields)).toEqual(['level', 'ts', 'msg', 'upstream', 'n', 'none', 'trace_id'])
    expect(fields).toMatchObject({ level: 'info', msg: 'listening', upstream: 'files', n: 1, none: null })
    expect(new Date(String(fields['ts'])).toISOString()).toBe(fields['ts'])
  })

  it('may hold an error with its stack, or nothing but a message', async () => {
    const [failed = '', plain = ''] = await written({}, `log.error({ err: new Error('boom') }, 'bad'); log.warn('hm')`)
    expect(JSON.parse(failed)).toMatchObject({ level: 'error', msg: 'bad', err: { message: 'boom' } })
    expect(JSON.parse(plain)).toMatchObject({ level: 'warn', msg: 'hm' })
  })

  it('has a trace_id, null where it belongs to no trace', async () => {
    const calls = [
      `log.info({ trace_id: 'ae83', state: 'down' }, 'of a trace')`,
      `log.info({ trace_id: undefined }, 'of none')`,
      `log.info({ state: 'up' }, 'of none')`,
      `log.info('of none')`,
    ]
    const lines = await written({}, calls.join('\n'))
    const traceIds = lines.map((line) => (JSON.parse(line) as { trace_id?: unknown }).trace_id)
    expect(traceIds).toEqual(['ae83', null, null, null])
  })

  it('is not written below the level', async () => {
    const lines = await written({ level: 'warn' }, `log.info('no'); log.warn('yes')`)
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['yes'])
  })

  it.each([
    { options: { isTerminal: true }, isLogfmt: true },
    { options: { format: 'logfmt' }, isLogfmt: true },
    { options: { format: 'json', isTerminal: true }, isLogfmt: false },
  ])('is logfmt where people read it, unless told otherwise: $options', async ({ options, isLogfmt }) => {
    const [line] = await written(options, `log.info({ upstream: 'files' }, 'two words')`)
    if (isLogfmt) expect(line).toMatch(/^level=info ts=\S+Z msg="two words" upstream=files trace_id=null$/)
    else expect(line).toMatch(/^\{.*\}$/)
  })
})

describe('logfmt', () => {
  it.each([
    ['plain', 'plain'],
    ['Größe/日本,100%', 'Größe/日本,100%'],
    ['two words', '"two words"'],
    ['', '""'],
    ['a=b', '"a=b"'],
    ['say "hi"', String.raw`"say \"hi\""`],
    ['line\nbreak', String.raw`"line\nbreak"`],
    ['\u001B[31mred', String.raw`"\u001b[31mred"`],
    ['\u202Etxt.exe', String.raw`"\u202etxt.exe"`],
    [1.5, '1.5'],
    [true, 'true'],
    [null, 'null'],
    [{ a: 1 }, String.raw`"{\"a\":1}"`],
    [['a', 'b'], String.raw`"[\"a\",\"b\"]"`],
  ])('writes %j as %s', (value, text) => {
    expect(logfmt(JSON.stringify({ key: value }))).toBe(`key=${text}\n`)
  })
})

import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { type ServerProcess, processStarter } from '../../src/upstreams/process.ts'
import { StdioChannel } from '../../src/upstreams/stdio-channel.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { fakeProcess } from '../support/fake-process.ts'

const crash = { kind: 'exit', code: 1 } as const

function channelOn(process: ServerProcess, clock = fakeClock()) {
  const log: string[] = []
  const channel = new StdioChannel({
    process,
    clock,
    maxLineBytes: 100,
    events: {
      onMessage: (message) => log.push(message.toString()),
      onDropped: (reason) => log.push(`dropped: ${reason}`),
      onClose: (why) => log.push(`closed: ${why}`),
    },
  })
  return { channel, log, clock }
}

describe('what the process says (MCP 2025-11-25, Transports, stdio)', () => {
  it('is handed on line by line, and what is no message, or too long, is dropped and counted', async () => {
    const process = fakeProcess({})
    const { log, clock } = channelOn(process)
    process.say('{"jsonrpc":"2.0","method":"a"}', 'Server listening on stdio', '', `{"jsonrpc":"${'x'.repeat(200)}"}`)
    process.say('{"jsonrpc":"2.0","method":"b"}')
    await clock.advance(0)
    expect(log).toEqual([
      '{"jsonrpc":"2.0","method":"a"}',
      'dropped: noise',
      'dropped: message_too_long',
      '{"jsonrpc":"2.0","method":"b"}',
    ])
  })

  it('is an error in the place of each answer that is too long, and the process gets one for each request', async () => {
    const process = fakeProcess({})
    const { log, clock } = channelOn(process)
    const x = 'x'.repeat(100)
    const one = `{"result":"${x}","jsonrpc":"2.0","id":"a"}`
    const batch = `[{"id":1,"result":"${x}"},{"id":2,"method":"${x}"},{"id":3,"result":{}}]`
    const asked = `{"id":4,"method":"${x}"}`
    process.say(one, batch, asked)
    await clock.advance(0)
    const error = (id: string, { length }: string) =>
      `{"jsonrpc":"2.0","id":${id},"error":{"code":-32000,"message":"mcp-vitals: an answer of ${length} bytes; the limit is 100"}}`
    const dropped = 'dropped: message_too_long'
    expect(log).toEqual([dropped, error('"a"', one), dropped, error('1', batch), error('3', batch), dropped])
    const refused = (id: number, { length }: string) => ({
      jsonrpc: '2.0',
      id,
      error: { code: -32000, message: `mcp-vitals: a request of ${length} bytes; the limit is 100` },
    })
    expect(process.heard).toEqual([refused(2, batch), refused(4, asked)])
  })

  it('last is heard before its end is told', async () => {
    const process = fakeProcess({})
    const { log, clock } = channelOn(process)
    process.say('{"jsonrpc":"2.0","id":1,"result":{}}')
    process.end(crash)
    await clock.advance(0)
    expect(log).toEqual(['{"jsonrpc":"2.0","id":1,"result":{}}', 'closed: process 1 exited with code 1'])
    expect(clock.pending()).toBe(0)
  })

  it('is waited for no longer than a moment when a grandchild holds the pipe, which is not heard then', async () => {
    const process = fakeProcess({})
    const { promise: exited, resolve } = Promise.withResolvers<typeof crash>()
    const { log, clock } = channelOn({ ...process, exited })
    resolve(crash)
    process.say('{"jsonrpc":"2.0","method":"last-words"}')
    await clock.advance(99)
    expect(log).toEqual(['{"jsonrpc":"2.0","method":"last-words"}'])
    await clock.advance(1)
    process.say('{"jsonrpc":"2.0","method":"from-a-grandchild"}')
    await clock.advance(0)
    expect(log).toEqual(['{"jsonrpc":"2.0","method":"last-words"}', 'closed: process 1 exited with code 1'])
  })
})

describe('what we say', () => {
  it('goes out as one line each', async () => {
    const process = fakeProcess({ script: () => [] })
    const { channel, clock } = channelOn(process)
    await channel.send(Buffer.from('{"jsonrpc":"2.0","method":"a"}'))
    await channel.send(Buffer.from('{"jsonrpc":"2.0","method":"b"}'))
    await clock.advance(0)
    expect(process.methods()).toEqual(['a', 'b'])
  })

  it('goes out at once while lines come one by one, and together after a turn with several', async () => {
    const process = fakeProcess({ script: () => [] })
    const { channel } = channelOn(process)
    const turns = [['a'], ['b', 'c'], ['d', 'e'], ['f'], ['g']]
    const gathered: boolean[] = []
    for (const turn of turns) {
      const sent = turn.map((method) => channel.send(Buffer.from(`{"jsonrpc":"2.0","method":"${method}"}`)))
      gathered.push(process.stdin.writableCorked > 0)
      await Promise.all([...sent, setImmediate()])
    }
    expect(gathered).toEqual([false, false, true, true, false])
    await eventually(() => process.methods().length === 7, { what: 'all lines are heard' })
    expect(process.methods()).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g'])
  })

  it('fails when the process is gone', async () => {
    const process = fakeProcess({})
    const { channel, clock } = channelOn(process)
    process.end(crash)
    const early = channel.send(Buffer.from('{}'))
    await expect(early).rejects.toMatchObject({ code: 'upstream_exited' })
    await clock.advance(100)
    await expect(channel.send(Buffer.from('{}'))).rejects.toThrow('process 1 exited with code 1')
  })
})

describe('real processes', () => {
  const started: ServerProcess[] = []
  afterEach(async () => {
    for (const process of started.splice(0)) await process.stop({ stdinGraceMs: 0, termGraceMs: 0 })
  })

  async function logOf(script: string): Promise<string[]> {
    const start = processStarter({ clock: systemClock })
    const child = start({ command: process.execPath, args: ['-e', script], env: {} }, { stderrTailBytes: 1024 })
    started.push(child)
    return new Promise((resolve) => {
      const log: string[] = []
      const drop = () => {}
      const onClose = () => resolve(log)
      const events = { onMessage: (message: Buffer) => log.push(message.toString()), onDropped: drop, onClose }
      void new StdioChannel({ process: child, clock: systemClock, maxLineBytes: 100, events })
    })
  }

  it('are heard to their last word, be it 3,000 lines in one breath', async () => {
    const words = `for (let n = 0; n < 3000; n++) console.log(JSON.stringify({ jsonrpc: '2.0', id: n, result: {} }))`
    const log = await logOf(`${words}; process.exitCode = 3`)
    expect(log).toHaveLength(3000)
    expect(log.at(-1)).toBe('{"jsonrpc":"2.0","id":2999,"result":{}}')
  })

  it('are heard to their last word without a line break', async () => {
    const log = await logOf(`process.stdout.write('{"jsonrpc":"2.0","method":"bye"}')`)
    expect(log).toEqual(['{"jsonrpc":"2.0","method":"bye"}'])
  })
})

import { PassThrough } from 'node:stream'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RawRelay, type RawRelayEvents } from '../../src/proxy/raw-relay.ts'
import type { Envelope } from '../../src/wire/envelope.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'

const silent: RawRelayEvents = {
  wantsText: () => false,
  onClientMessage: () => {},
  onServerMessage: () => {},
  onClientAnswer: () => {},
  onServerAnswer: () => {},
  onClientSlow: () => {},
  onServerSlow: () => {},
  onInputOver: () => {},
}

/** A relay between four streams, and what came out on either side. */
function relayed(events: Partial<RawRelayEvents> = {}, { highWaterMark = 1 << 20, maxHeldBytes = 1 << 16 } = {}) {
  const [input, stdout] = [new PassThrough(), new PassThrough()]
  const [output, stdin] = [new PassThrough({ highWaterMark }), new PassThrough({ highWaterMark })]
  const closed: string[] = []
  const relay = new RawRelay({
    client: { input, output, closeInput: () => closed.push('input'), closeOutput: () => closed.push('output') },
    server: { stdin, stdout },
    maxHeldBytes,
    maxTextBytes: 1 << 16,
    events: { ...silent, ...events },
  })
  const toClient: Buffer[] = []
  const toServer: Buffer[] = []
  const read = () => {
    output.on('data', (chunk: Buffer) => toClient.push(chunk))
    stdin.on('data', (chunk: Buffer) => toServer.push(chunk))
  }
  return {
    relay,
    input,
    output,
    stdin,
    stdout,
    closed,
    read,
    client: () => Buffer.concat(toClient).toString('latin1'),
    server: () => Buffer.concat(toServer).toString('latin1'),
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
}

function ping(id: string): Buffer {
  return Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, method: 'ping' }))
}

const line = fc.oneof(
  fc.constantFrom(
    '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n',
    '{"jsonrpc":"2.0","id":"vitals-1","result":{}}\n',
    '{"id":"vitals-not-ours","jsonrpc":"2.0","result":{}}\r\n',
    '{"jsonrpc":"2.0","method":"notifications/message","params":{"id":"vitals-0"}}\n',
    '{"result":{"id":"vitals-0"},"id":7}\n',
    '\n',
    '\r\n',
    '{"broken\n',
    'Server is running…\n',
  ),
  fc.string({ unit: 'binary', maxLength: 20 }).map((text) => `${text.replaceAll('\n', ' ')}\n`),
)
type Side = 'client' | 'server'
type Step =
  | { readonly kind: 'pass'; readonly from: Side; readonly bytes: number }
  | { readonly kind: 'say' | 'ask'; readonly from: Side }
  | { readonly kind: 'answer'; readonly from: Side; readonly form: number }
const side = fc.constantFrom<Side>('client', 'server')
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('pass' as const), from: side, bytes: fc.integer({ min: 1, max: 70 }) }),
  fc.record({ kind: fc.constantFrom('say' as const, 'ask' as const), from: side }),
  fc.record({ kind: fc.constant('answer' as const), from: side, form: fc.nat(3) }),
)
/** The same answer, as servers may write it. */
const answers = [
  (id: string) => `{"jsonrpc":"2.0","id":"${id}","result":{}}\n`,
  (id: string) => `{"result":{"nested":{"id":3,"method":"x"}},"jsonrpc":"2.0","id":"${id}"}\r\n`,
  (id: string) => `  {"error":{"code":-32601,"message":"\\u00e4"},"id" : "${id}"} \n`,
  (id: string) => `{"id":"${id.replace('vitals', '\\u0076itals')}","result":{}}\n`,
]

/** One side of a conversation: what it has to say, and how much of that is on its way. */
function speaker(lines: readonly string[], pipe: PassThrough) {
  const unsaid = [...lines]
  const asked: string[] = []
  const answered: string[] = []
  let said = Buffer.alloc(0)
  let waiting = Buffer.alloc(0)
  return {
    asked,
    answered,
    /** All but the answers to us. */
    said: () => said,
    say: () => {
      const next = Buffer.from(unsaid.shift() ?? '')
      said = Buffer.concat([said, next])
      waiting = Buffer.concat([waiting, next])
    },
    answer: (form: number) => {
      const id = asked[answered.length]
      if (id === undefined) return
      answered.push(id)
      waiting = Buffer.concat([waiting, Buffer.from((answers[form] ?? String)(id))])
    },
    pass: (bytes: number) => {
      pipe.write(waiting.subarray(0, bytes))
      waiting = waiting.subarray(bytes)
    },
  }
}

describe('RawRelay', () => {
  it('gives each side exactly the bytes of the other without the answers to us, and whole lines of ours between', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 12 }),
        fc.array(line, { maxLength: 12 }),
        fc.array(step, { maxLength: 80 }),
        async (clientLines, serverLines, steps) => {
          const heard: Record<Side, string[]> = { client: [], server: [] }
          const pipes = relayed({
            onClientAnswer: (_message, { id }) => heard.client.push(id ?? ''),
            onServerAnswer: (_message, { id }) => heard.server.push(id ?? ''),
          })
          pipes.read()
          const sides = {
            client: speaker(clientLines, pipes.input),
            server: speaker(serverLines, pipes.stdout),
          }
          const channels = { client: pipes.relay.toClient, server: pipes.relay.toServer }
          for (const one of steps) {
            const speaks = sides[one.from]
            if (one.kind === 'pass') speaks.pass(one.bytes)
            else if (one.kind === 'say') speaks.say()
            else if (one.kind === 'answer') speaks.answer(one.form)
            else if (channels[one.from].canAsk()) {
              const id = `vitals-${crypto.randomUUID()}`
              speaks.asked.push(id)
              void channels[one.from].send(ping(id), {})
            }
            await settled()
          }
          for (const speaks of [sides.client, sides.server]) speaks.pass(Infinity)
          await settled()
          const got = { client: pipes.client(), server: pipes.server() }
          for (const [name, other] of [
            ['client', sides.server],
            ['server', sides.client],
          ] as const) {
            const ours = new Set(sides[name].asked.map((id) => `${ping(id).toString()}\n`))
            const lines = got[name].split(/(?<=\n)/)
            expect(lines.filter((one) => ours.has(one))).toEqual([...ours])
            expect(lines.filter((one) => !ours.has(one)).join('')).toBe(other.said().toString('latin1'))
            expect(heard[name]).toEqual(sides[name].answered.map((id) => JSON.stringify(id)))
          }
        },
      ),
      { numRuns: 300 },
    )
  })

  it('passes bytes at once while nothing of ours is under way, half lines too', async () => {
    const pipes = relayed()
    pipes.read()
    pipes.input.write('{"half')
    pipes.stdout.write('{"also half')
    await settled()
    expect([pipes.server(), pipes.client()]).toEqual(['{"half', '{"also half'])
  })

  it('holds a line only until it cannot be our answer: another id, a method, no JSON, or too long', async () => {
    const pipes = relayed({}, { maxHeldBytes: 100 })
    pipes.read()
    void pipes.relay.toServer.send(ping('vitals-a'), {})
    const parts = [
      ['{"jsonrpc":"2.0",', ''],
      ['"id":17,', '{"jsonrpc":"2.0","id":17,'],
      ['"result":{}}\n{"method":"x"', '"result":{}}\n{"method":"x"'],
      ['}\npassword: ', '}\npassword: '],
      ['\n{"result":"', '\n'],
      ['x'.repeat(60), ''],
      ['x'.repeat(60), `{"result":"${'x'.repeat(120)}`],
    ] as const
    let before = ''
    for (const [written, passed] of parts) {
      pipes.stdout.write(written)
      await settled()
      expect(pipes.client()).toBe(before + passed)
      before += passed
    }
  })

  it('asks nothing in the middle of a line of the client, while the client does not read, or after its end', async () => {
    let slow = 0
    const pipes = relayed({ onClientSlow: () => (slow += 1) }, { highWaterMark: 10 })
    const refused = () =>
      expect(pipes.relay.toServer.send(ping('vitals-a'), {})).rejects.toMatchObject({ code: 'cancelled' })
    expect(pipes.relay.toServer.canAsk()).toBe(true)
    pipes.input.write('{"half')
    await settled()
    await refused()
    pipes.stdin.resume()
    pipes.input.write('}\n')
    await settled()
    expect(pipes.relay.toServer.canAsk()).toBe(true)
    pipes.stdout.write('more than ten bytes\n')
    await settled()
    expect(slow).toBe(1)
    await refused()
    pipes.output.resume()
    await settled()
    expect(pipes.relay.toServer.canAsk()).toBe(true)
    pipes.input.end()
    await settled()
    expect(pipes.relay.isInputOver).toBe(true)
    await refused()
  })

  it('asks the client nothing in the middle of a line of the server, while the server does not read, or after its end', async () => {
    let slow = 0
    const pipes = relayed({ onServerSlow: () => (slow += 1) }, { highWaterMark: 10 })
    const canAsk = () => pipes.relay.toClient.canAsk()
    expect(canAsk()).toBe(true)
    pipes.stdout.write('{"half')
    await settled()
    expect(canAsk()).toBe(false)
    await expect(pipes.relay.toClient.send(ping('vitals-a'), {})).rejects.toMatchObject({ code: 'cancelled' })
    pipes.output.resume()
    pipes.stdout.write('}\n')
    await settled()
    expect(canAsk()).toBe(true)
    pipes.input.write('more than ten bytes\n')
    await settled()
    expect([slow, canAsk()]).toEqual([1, false])
    pipes.stdin.resume()
    await settled()
    expect(canAsk()).toBe(true)
    pipes.input.end()
    await settled()
    expect(canAsk()).toBe(false)
  })

  it('takes answers to us out of a batch, and leaves the others in it as they are (MCP 2025-03-26, "Batching")', async () => {
    const heard: string[] = []
    const pipes = relayed({ onClientAnswer: (_message, { id }) => heard.push(id ?? '') })
    pipes.read()
    void pipes.relay.toClient.send(ping('vitals-a'), {})
    pipes.input.write('[ {"id":1.0,"result":{}},{"jsonrpc":"2.0","id":"vitals-a",')
    await settled()
    expect(pipes.server()).toBe('')
    pipes.input.write('"result":{}} ]\n[{"id":2,"method":"x"}]\n')
    await settled()
    expect([pipes.server(), heard]).toEqual(['[ {"id":1.0,"result":{}}]\n[{"id":2,"method":"x"}]\n', ['"vitals-a"']])
  })

  it('gives the server what the client did not finish, also while an answer of the client is awaited', async () => {
    const pipes = relayed()
    pipes.read()
    void pipes.relay.toClient.send(ping('vitals-a'), {})
    pipes.input.end('{"id":')
    await settled()
    expect([pipes.server(), pipes.stdin.writableEnded]).toEqual(['{"id":', true])
  })

  it('lets a slow reader on either side stop the writer on the other', async () => {
    const pipes = relayed({}, { highWaterMark: 1000 })
    const chunk = Buffer.alloc(1000, 'x')
    const sides = [
      [pipes.input, pipes.stdin],
      [pipes.stdout, pipes.output],
    ] as const
    for (const [source, sink] of sides) {
      for (let count = 0; count < 500; count++) source.write(chunk)
      await settled()
      expect(sink.writableLength + sink.readableLength).toBeLessThan(50_000)
      let bytes = 0
      sink.on('data', (piece: Buffer) => (bytes += piece.length))
      await eventually(() => bytes === 500_000, { what: 'all has come' })
    }
  })

  it('ends the input of the server with that of the client, and closes what nobody reads or writes any more', async () => {
    const one = relayed()
    one.read()
    one.input.end('{"last":1}')
    await settled()
    expect(one.server()).toBe('{"last":1}')
    expect(one.stdin.writableEnded).toBe(true)
    const two = relayed()
    two.output.destroy()
    two.stdin.destroy()
    await settled()
    expect([two.stdout.destroyed, two.input.destroyed]).toEqual([true, true])
    expect(two.relay.isInputOver, 'the client did not end it').toBe(false)
    expect([one.closed, two.closed]).toEqual([[], ['input']])
  })

  it('closes the output once the client has all of it, when the server ends its own', async () => {
    const pipes = relayed({}, { highWaterMark: 10 })
    const { toServer, toClient } = pipes.relay
    void toServer.send(ping('vitals-a'), {})
    pipes.stdout.end('{"id":1,"result":{}}\n{"id":"vita')
    await settled()
    expect(pipes.closed).toEqual([])
    pipes.read()
    await eventually(() => pipes.closed.length === 1, { what: 'an end is closed' })
    expect(pipes.client()).toBe('{"id":1,"result":{}}\n{"id":"vita')
    expect([pipes.closed, toServer.canAsk(), toClient.canAsk()]).toEqual([['output'], false, false])
    await pipes.relay.finish(fakeClock())
    expect(pipes.closed).toEqual(['output'])
  })

  it('finishes when all that the server said is with the client, be it half a line, and although its pipe stays open', async () => {
    const clock = fakeClock()
    const pipes = relayed()
    pipes.read()
    void pipes.relay.toServer.send(ping('vitals-a'), {})
    pipes.stdout.write('{"id":')
    await settled()
    expect(pipes.client()).toBe('')
    let isFinished = false
    const finished = pipes.relay.finish(clock).then(() => (isFinished = true))
    await clock.advance(50)
    expect(isFinished).toBe(false)
    await clock.advance(200)
    await finished
    expect(pipes.client()).toBe('{"id":')
  })

  it('tells every message that passes, with the text of those that were asked for', async () => {
    const heard: [string | undefined, string | undefined][] = []
    const tell = (envelope: Envelope | undefined, text?: Buffer) =>
      void heard.push([envelope?.method ?? envelope?.id, text?.toString()])
    let wantsText = false
    const pipes = relayed({ wantsText: () => wantsText, onClientMessage: tell, onServerMessage: tell })
    pipes.read()
    pipes.input.write('{"id":1,"method":"tools/list"}\r\n\r\n')
    await settled()
    wantsText = true
    pipes.stdout.write('noise\n\n{"id":1,"result":')
    pipes.stdout.write('{}}\n')
    await settled()
    expect(heard).toEqual([
      ['tools/list', undefined],
      [undefined, 'noise\n'],
      ['1', '{"id":1,"result":{}}\n'],
    ])
  })
})

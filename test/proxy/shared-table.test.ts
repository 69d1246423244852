import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AbandonedRequests } from '../../src/proxy/abandoned-requests.ts'
import { type Move, SharedTable, maxSubscriptions } from '../../src/proxy/shared-table.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { fakeClock } from '../support/fake-clock.ts'

const initialized =
  '{"result": {"protocolVersion":"2025-06-18","n":1e400,"capabilities":{}} ,"id":"vitals-1","jsonrpc":"2.0"}'
const everything = '{"sampling":{},"elicitation":{},"roots":{}}'

/** What is done with a message, in short: `> text` to the server, `a< text` to session a, `! reason` to nobody. */
function shown(moves: readonly Move[]): string[] {
  return moves.map((move) => {
    switch (move.to) {
      case 'server':
        return `> ${move.message.toString()}`
      case 'client':
        return `${move.session}< ${move.message.toString()}`
      case 'nobody':
        return `! ${move.reason}`
    }
  })
}

function envelopeOf(text: string) {
  const message = Buffer.from(text)
  const envelope = readEnvelope(message)
  if (!envelope) throw new Error(`no message: ${text}`)
  return { message, envelope }
}

/** A table with sessions that were opened with these capabilities. */
function tableOf(sessions: Readonly<Record<string, string>> = {}, opening = initialized) {
  const clock = fakeClock()
  const table = new SharedTable(Buffer.from(opening), new AbandonedRequests({ clock, lastingMs: 600_000 }))
  const client = (session: string, text: string) => {
    const { message, envelope } = envelopeOf(text)
    return table.fromClient(session, message, envelope)
  }
  const open = (session: string, capabilities: string) =>
    client(session, `{"id":0,"method":"initialize","params":{"capabilities":${capabilities}}}`)
  for (const [session, capabilities] of Object.entries(sessions)) {
    table.join(session)
    open(session, capabilities)
  }
  return {
    clock,
    table,
    client: (session: string, text: string) => shown(client(session, text)),
    server: (text: string, otherRequests = 0) => {
      const { message, envelope } = envelopeOf(text)
      const { moves, isTaken } = table.fromServer(message, envelope, otherRequests)
      return isTaken ? shown(moves) : [...shown(moves), 'and others']
    },
    leave: (session: string) => shown(table.leave(session)),
    /** A request of a session that stays under way; gives our id of it. */
    busy: (session: string, text = '{"id":1,"method":"tools/call"}') => {
      const [move] = client(session, text)
      return move?.to === 'server' ? (move.request ?? '') : ''
    },
  }
}

describe('initialize', () => {
  it('gets the server’s answer to ours, byte for byte, under the client’s own id', () => {
    const { table, client } = tableOf()
    table.join('a')
    expect(client('a', '{"method":"initialize","id": 1.0 ,"params":{}}')).toEqual([
      'a< {"result": {"protocolVersion":"2025-06-18","n":1e400,"capabilities":{}} ,"id":1.0,"jsonrpc":"2.0"}',
    ])
  })

  it('that the server refused is refused to everybody, and opens nothing', () => {
    const { table, client, server } = tableOf({}, '{"id":"vitals-1","error":{"code":-32022,"message":"no"}}')
    table.join('a')
    expect(client('a', '{"id":7,"method":"initialize"}')).toEqual([
      'a< {"id":7,"error":{"code":-32022,"message":"no"}}',
    ])
    expect(server('{"method":"notifications/tools/list_changed"}')).toEqual(['and others'])
  })

  it('is over for the server: notifications/initialized goes no further', () => {
    expect(tableOf({ a: '{}' }).client('a', '{"method":"notifications/initialized"}')).toEqual([])
  })
})

describe('requests of clients', () => {
  it('have our id and progress token on the way in, their own on the way back, and all else byte for byte', () => {
    const { client, server } = tableOf({ a: '{}', b: '{}' })
    const text = (id: string, token: string) =>
      `{"x" : 1e400,"id":${id},"method":"tools/call","params":{"_meta":{"progressToken":${token}},"é":"\\u00e9"}}`
    expect(client('a', text('"\\u0061"', '1'))).toEqual([`> ${text('"vitals/1"', '"vitals/1"')}`])
    expect(client('b', text('"a"', '1.0'))).toEqual([`> ${text('"vitals/2"', '"vitals/2"')}`])
    const progress = (token: string) =>
      `{"method":"notifications/progress","params":{"progressToken":${token},"progress":0.10}}`
    expect(server(progress('"vitals/2"'))).toEqual([`b< ${progress('1.0')}`])
    expect(server(progress('"vitals/1"'))).toEqual([`a< ${progress('1')}`])
    const answer = (id: string) => `{"id":${id} ,"result":{"big":12345678901234567890}}`
    expect(server(answer('"vitals/1"'))).toEqual([`a< ${answer('"\\u0061"')}`])
    expect(server(answer('"vitals/2"'))).toEqual([`b< ${answer('"a"')}`])
  })

  it.each([
    ['answered twice', '{"id":"vitals/1","result":{}}', ['! client_gone']],
    ['answered, then progressing', '{"method":"x","params":{"progressToken":"vitals/1"}}', ['! no_request']],
    ['of others are not ours to judge', '{"id":"vitals+1","result":{}}', ['and others']],
    ['of others that progress are not ours either', '{"method":"x","params":{"progressToken":"t"}}', ['and others']],
  ])('%s', (_what, text, expected) => {
    const { busy, server } = tableOf({ a: '{}' })
    server(`{"id":${busy('a')},"result":{}}`)
    expect(server(text)).toEqual(expected)
  })

  it('are cancelled by our id, the last of that name, and only by the session that asked', () => {
    const { busy, client, server } = tableOf({ a: '{}', b: '{}' })
    busy('a')
    busy('a')
    busy('b', '{"id":2,"method":"tools/call"}')
    const cancel = (id: string) => `{"method":"notifications/cancelled","params":{"requestId":${id}}}`
    expect(client('b', cancel('1'))).toEqual(['! no_request'])
    expect(client('a', cancel('1'))).toEqual([`> ${cancel('"vitals/2"')}`])
    expect(server('{"id":"vitals/2","result":{}}')).toEqual(['! client_gone'])
    expect(server('{"id":"vitals/1","result":{}}')).toEqual(['a< {"id":1,"result":{}}'])
  })

  it('that could not be sent are forgotten', () => {
    const { table, busy, server } = tableOf({ a: everything, b: everything })
    table.forget(busy('a'))
    busy('b')
    expect(server('{"id":5,"method":"roots/list"}')).toEqual(['b< {"id":"vitals/3","method":"roots/list"}'])
  })

  it('of a session that has ended are taken back, and its late answers dropped', () => {
    const { busy, leave, server, client } = tableOf({ a: '{}' })
    busy('a')
    const params = '{"requestId":"vitals/1","reason":"the client\'s session ended"}'
    expect(leave('a')).toEqual([`> {"jsonrpc":"2.0","method":"notifications/cancelled","params":${params}}`])
    expect(server('{"id":"vitals/1","result":{}}')).toEqual(['! client_gone'])
    expect(client('a', '{"id":2,"method":"ping"}')).toEqual(['! client_gone'])
    expect(leave('a')).toEqual([])
  })
})

const refused = (id: string, code: number, why: string) =>
  `> {"jsonrpc":"2.0","id":${id},"error":{"code":${code},"message":"mcp-vitals: ${why}"}}`
const unknownOne = (id: string) =>
  refused(id, -32000, 'it cannot be told which of the clients that share this process is asked')

describe('requests of the server', () => {
  const sampling = '{"id":5,"method":"sampling/createMessage"}'

  it.each([
    ['the only session', { a: everything }, [], 0, ['a< {"id":"vitals/1","method":"sampling/createMessage"}']],
    ['nobody while there is no session', {}, [], 0, [unknownOne('5'), '! no_session']],
    [
      'nobody while two sessions do nothing',
      { a: everything, b: everything },
      [],
      0,
      [unknownOne('5'), '! no_session'],
    ],
    [
      'the only session with a request under way',
      { a: everything, b: everything },
      ['b'],
      0,
      ['b< {"id":"vitals/2","method":"sampling/createMessage"}'],
    ],
    [
      'nobody while two sessions have one, even if one alone could answer',
      { a: everything, b: '{}' },
      ['a', 'b'],
      0,
      [unknownOne('5'), '! no_session'],
    ],
    ['nobody while a modern client has one', { a: everything }, ['a'], 1, [unknownOne('5'), '! no_session']],
    [
      'nobody when that session did not declare the capability',
      { a: '{"roots":{}}' },
      ['a'],
      0,
      [refused('5', -32601, 'the client did not declare the capability sampling'), '! no_session'],
    ],
  ])('go to %s', (_whom, sessions: Readonly<Record<string, string>>, working, otherRequests, expected) => {
    const { busy, server } = tableOf(sessions)
    for (const session of working) busy(session)
    expect(server(sampling, otherRequests)).toEqual(expected)
  })

  describe('while the server may still be at work on a request that its client gave up', () => {
    const two = { a: everything, b: everything }
    const cancelled = '{"method":"notifications/cancelled","params":{"requestId":1}}'
    const toNobody = [unknownOne('5'), '! no_session']

    it.each([
      ['cancelled', (table: ReturnType<typeof tableOf>) => table.client('a', cancelled)],
      ['left with its session', (table: ReturnType<typeof tableOf>) => table.leave('a')],
    ])('go to no other client: one that was %s', async (_how, giveUp) => {
      const table = tableOf(two)
      table.busy('a')
      giveUp(table)
      table.busy('b')
      expect(table.server(sampling)).toEqual(toNobody)
      await table.clock.advance(600_000)
      expect(table.server(sampling)).toEqual(['b< {"id":"vitals/3","method":"sampling/createMessage"}'])
    })

    it('go to nobody when its session has ended, though only one is left', () => {
      const { busy, leave, server } = tableOf(two)
      const ours = busy('a')
      leave('a')
      expect(server(sampling)).toEqual(toNobody)
      expect(server(`{"id":${ours},"result":{}}`)).toEqual(['! client_gone'])
      expect(server(sampling)).toEqual(['b< {"id":"vitals/2","method":"sampling/createMessage"}'])
    })

    it('go to that client, if nobody else has a request under way', () => {
      const { busy, client, server } = tableOf(two)
      busy('a')
      client('a', cancelled)
      expect(server(sampling)).toEqual(['a< {"id":"vitals/2","method":"sampling/createMessage"}'])
    })
  })

  it('get an answer from the session that was asked and from no other, under the server’s own id', () => {
    const { busy, client, server } = tableOf({ a: everything, b: everything })
    busy('a')
    server('{"id":1.0,"method":"elicitation/create","params":{"_meta":{"progressToken":"s"}}}')
    expect(client('b', '{"id":"vitals/2","result":{"stolen":true}}')).toEqual(['! no_request'])
    const progress = (token: string) => `{"method":"notifications/progress","params":{"progressToken":${token}}}`
    expect(client('b', progress('"vitals/2"'))).toEqual(['! no_request'])
    expect(client('a', progress('"s"'))).toEqual(['! no_request'])
    expect(client('a', progress('"vitals/2"'))).toEqual([`> ${progress('"s"')}`])
    expect(client('a', '{"id":"vitals/2","result":{"action":"accept"}}')).toEqual([
      '> {"id":1.0,"result":{"action":"accept"}}',
    ])
    expect(client('a', '{"id":"vitals/2","result":{}}')).toEqual(['! no_request'])
  })

  it('are taken back by the server under our id, and answered by us when the session ends', () => {
    const { client, leave, server } = tableOf({ a: everything })
    server('{"id":1,"method":"roots/list"}')
    server('{"id":2,"method":"roots/list"}')
    const cancel = (id: string) => `{"method":"notifications/cancelled","params":{"requestId":${id}}}`
    expect(server(cancel('1'))).toEqual([`a< ${cancel('"vitals/1"')}`])
    expect(server(cancel('9'))).toEqual(['and others'])
    expect(client('a', '{"id":"vitals/1","result":{}}')).toEqual(['! no_request'])
    expect(leave('a')).toEqual([refused('2', -32000, 'the session that was asked has ended')])
  })

  it('that are a ping are not for clients', () => {
    expect(tableOf({ a: '{}' }).server('{"id":1,"method":"ping"}')).toEqual(['and others'])
  })
})

describe('what the server tells', () => {
  it.each(['notifications/message', 'notifications/tools/list_changed'])('%s goes to all open sessions', (method) => {
    const { table, server } = tableOf({ a: '{}', b: '{}' })
    table.join('not yet initialized')
    const text = `{"method":"${method}"}`
    expect(server(text)).toEqual([`a< ${text}`, `b< ${text}`, 'and others'])
  })

  it('of a subscription by its id is the modern clients’', () => {
    const meta = '{"_meta":{"io.modelcontextprotocol/subscriptionId":"vitals+1"}}'
    expect(tableOf({ a: '{}' }).server(`{"method":"notifications/resources/updated","params":${meta}}`)).toEqual([
      'and others',
    ])
  })
})

describe('subscriptions (MCP 2025-11-25, Resources, "Subscriptions")', () => {
  const subscribe = (uri: string, id = 1) => `{"id":${id},"method":"resources/subscribe","params":{"uri":"${uri}"}}`
  const unsubscribe = (uri: string) => `{"id":"u","method":"resources/unsubscribe","params":{"uri":"${uri}"}}`
  const updated = (uri: string) => `{"method":"notifications/resources/updated","params":{"uri":"${uri}"}}`

  it('an update goes to those who subscribed, also to what it is a part of, however long its URI is', () => {
    const { client, server } = tableOf({ a: '{}', b: '{}', c: '{}' })
    const long = `x://${'y'.repeat(600)}`
    client('a', subscribe('file:///a'))
    client('b', subscribe('file:///a/b'))
    client('b', subscribe(long))
    expect(server(updated('file:///a'))).toEqual([`a< ${updated('file:///a')}`])
    expect(server(updated('file:///a/b'))).toEqual([`a< ${updated('file:///a/b')}`, `b< ${updated('file:///a/b')}`])
    expect(server(updated(long))).toEqual([`b< ${updated(long)}`])
    expect(server(updated('file:///ab'))).toEqual(['! no_subscriber'])
  })

  it('the server hears of an unsubscription when nobody else is subscribed', () => {
    const { client, server } = tableOf({ a: '{}', b: '{}' })
    client('a', subscribe('x:1'))
    client('b', subscribe('x:1'))
    expect(client('a', unsubscribe('x:1'))).toEqual(['a< {"jsonrpc":"2.0","id":"u","result":{}}'])
    expect(server(updated('x:1'))).toEqual([`b< ${updated('x:1')}`])
    expect(client('b', unsubscribe('x:1'))).toEqual([`> ${unsubscribe('x:1').replace('"u"', '"vitals/3"')}`])
    expect(server(updated('x:1'))).toEqual(['! no_subscriber'])
  })

  it('and when the last one leaves, in a request of ours whose answer is nobody’s', () => {
    const { client, leave, server } = tableOf({ a: '{}', b: '{}' })
    for (const session of ['a', 'b']) client(session, subscribe('x:1'))
    server('{"id":"vitals/1","result":{}}')
    server('{"id":"vitals/2","result":{}}')
    expect(leave('a')).toEqual([])
    expect(leave('b')).toEqual([
      '> {"jsonrpc":"2.0","id":"vitals/-3","method":"resources/unsubscribe","params":{"uri":"x:1"}}',
    ])
    expect(server('{"id":"vitals/-3","result":{}}')).toEqual([])
  })

  it('an error undoes the one that it answers, not an earlier one', () => {
    const { client, server } = tableOf({ a: '{}' })
    const error = (n: number) => `{"id":"vitals/${n}","error":{"code":-32602,"message":"no"}}`
    client('a', subscribe('x:1'))
    server(error(1))
    expect(server(updated('x:1'))).toEqual(['! no_subscriber'])
    client('a', subscribe('x:1'))
    client('a', subscribe('x:1', 2))
    server(error(3))
    expect(server(updated('x:1'))).toEqual([`a< ${updated('x:1')}`])
  })

  it('have a limit', () => {
    const { client } = tableOf({ a: '{}' })
    for (let n = 0; n < maxSubscriptions; n++) client('a', subscribe(`x:${n}`))
    expect(client('a', subscribe('x:more'))).toEqual([
      `a< ${refused('1', -32000, 'the session has 1000 subscriptions, which is the most').slice(2)}`,
      '! too_many_subscriptions',
    ])
    expect(client('a', subscribe('x:0'))[0]).toMatch(/^> /)
  })
})

describe('the log level (MCP 2025-11-25, Logging)', () => {
  it('is the most verbose that a session asked for', () => {
    const { client, leave } = tableOf({ a: '{}', b: '{}' })
    const set = (level: string, id = '1') => `{"id":${id},"method":"logging/setLevel","params":{"level":"${level}"}}`
    expect(client('a', set('info'))).toEqual([`> ${set('info', '"vitals/1"')}`])
    expect(client('b', set('error'))).toEqual([`> {"jsonrpc":"2.0",${set('info', '"vitals/2"').slice(1)}`])
    expect(client('b', set('debug'))).toEqual([`> ${set('debug', '"vitals/3"')}`])
    expect(client('b', set('loud'))).toEqual([`> ${set('loud', '"vitals/4"')}`])
    leave('b')
    expect(client('a', set('emergency'))[0]).toMatch(/^> .*"emergency"/)
  })
})

type Step =
  | { readonly kind: 'ask'; readonly who: number; readonly id: string; readonly token: string }
  | { readonly kind: 'answer' | 'progress' | 'cancel' | 'lateAnswer'; readonly which: number }
  | { readonly kind: 'request' }
  | { readonly kind: 'reply'; readonly who: number; readonly which: number }
  | { readonly kind: 'leave'; readonly who: number }

describe('any interleaving of sessions that all use the same ids and tokens', () => {
  it('never gives one session what belongs to another', () => {
    const who = fc.nat(2)
    const which = fc.nat(20)
    const id = fc.constantFrom('1', '"1"', '0', '"vitals/1"', '"vitals/2"', '"vitals/-1"', '"a\\/b"')
    const step: fc.Arbitrary<Step> = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('ask'), who, id, token: id }) },
      {
        weight: 6,
        arbitrary: fc.record({ kind: fc.constantFrom('answer', 'progress', 'cancel', 'lateAnswer'), which }),
      },
      // Mostly of a lone session, since nobody is asked while several have requests under way.
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('request') }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('reply'), who, which }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave'), who }) },
    )
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
        play(steps)
      }),
      { numRuns: 500 },
    )
  })
})

/** A request as the model server got it; the nonce says whose it is. */
interface Got {
  readonly nonce: string
  readonly id: string
  readonly token: string
}

/** Plays both ends by the rules of JSON-RPC, and checks each delivery against whom its nonce names. */
function play(steps: readonly Step[]): void {
  const names = ['a', 'b', 'c']
  const { table } = tableOf(Object.fromEntries(names.map((name) => [name, everything])))
  const got: Got[] = []
  /** What the server was told to cancel, and may yet answer. */
  const cancelled: Got[] = []
  /** What the server asked, with our id and the session that was asked. */
  const asked: { readonly serverId: number; readonly id: string; readonly session: string }[] = []
  const present = new Set(names)
  let nonces = 0

  const fromServer = (text: string) => {
    const { message, envelope } = envelopeOf(text)
    return table.fromServer(message, envelope, 0).moves
  }
  const fromClient = (session: string, text: string) => {
    const { message, envelope } = envelopeOf(text)
    return table.fromClient(session, message, envelope)
  }
  /** The one session that a message reached, with what came out. */
  const delivered = (moves: readonly Move[]) => moves.flatMap((move) => (move.to === 'client' ? [move] : []))

  const take = {
    ask: ({ who, id, token }: Extract<Step, { kind: 'ask' }>) => {
      const session = names[who] ?? ''
      if (!present.has(session)) return
      const nonce = `${session} ${id} ${token} ${(nonces += 1)}`
      const params = `{"nonce":${JSON.stringify(nonce)},"_meta":{"progressToken":${token}}}`
      const [move] = fromClient(session, `{"id":${id},"method":"tools/call","params":${params}}`)
      if (move?.to !== 'server') throw new Error('a request went astray')
      const { envelope } = envelopeOf(move.message.toString())
      got.push({ nonce, id: envelope.id ?? '', token: envelope.progressToken ?? '' })
    },
    lateAnswer: (one: Got) => {
      cancelled.splice(cancelled.indexOf(one), 1)
      expect(delivered(fromServer(`{"id":${one.id},"result":{}}`))).toEqual([])
    },
    answer: (one: Got) => {
      got.splice(got.indexOf(one), 1)
      check(one, fromServer(`{"id":${one.id},"result":{"nonce":${JSON.stringify(one.nonce)}}}`), 'id')
    },
    progress: (one: Got) => {
      const params = `{"progressToken":${one.token},"nonce":${JSON.stringify(one.nonce)}}`
      check(one, fromServer(`{"method":"notifications/progress","params":${params}}`), 'token')
    },
    request: () => {
      const serverId = (nonces += 1)
      const causes = new Set([...got, ...cancelled].map(({ nonce }) => nonce.charAt(0)))
      const [move, ...more] = delivered(fromServer(`{"id":${serverId},"method":"elicitation/create"}`))
      expect(more).toEqual([])
      // The rule: the only session that can have caused it, or nobody.
      const [only = '', ...others] = causes.size > 0 ? causes : present
      expect(move?.session).toBe(others.length === 0 && present.has(only) ? only : undefined)
      if (move) asked.push({ serverId, id: move.envelope.id ?? '', session: move.session })
    },
    cancel: (one: Got) => {
      const [session = '', id = ''] = one.nonce.split(' ')
      if (!present.has(session)) return
      const params = `{"requestId":${id}}`
      const moves = fromClient(session, `{"method":"notifications/cancelled","params":${params}}`)
      for (const move of moves) {
        if (move.to !== 'server') continue
        const { envelope } = envelopeOf(move.message.toString())
        const at = got.findIndex((other) => other.id === envelope.requestId)
        expect(got[at]?.nonce.charAt(0)).toBe(session)
        cancelled.push(...got.splice(at, 1))
      }
    },
    reply: ({ who, which }: Extract<Step, { kind: 'reply' }>) => {
      const one = asked[which % Math.max(1, asked.length)]
      const session = names[who] ?? ''
      if (!one || !present.has(session)) return
      const moves = fromClient(session, `{"id":${one.id},"result":{}}`)
      const expected = one.session === session ? [`> {"id":${one.serverId},"result":{}}`] : ['! no_request']
      expect(shown(moves)).toEqual(expected)
      if (one.session === session) asked.splice(asked.indexOf(one), 1)
    },
    leave: (session: string) => {
      if (!present.delete(session)) return
      table.leave(session)
      for (const one of asked.filter((other) => other.session === session)) asked.splice(asked.indexOf(one), 1)
    },
  }

  /** It reached its own session with the id or token that this session had used, or nobody when that session is gone. */
  function check({ nonce }: Got, moves: readonly Move[], what: 'id' | 'token'): void {
    const [session = '', id = '', token = ''] = nonce.split(' ')
    const reached = delivered(moves)
    if (!present.has(session)) return expect(reached).toEqual([])
    expect(reached.map((move) => move.session)).toEqual([session])
    const text = reached[0]?.message.toString() ?? ''
    expect(text).toContain(JSON.stringify(nonce))
    expect(text).toContain(what === 'id' ? `{"id":${id},` : `{"progressToken":${token},`)
  }

  for (const step of steps) {
    switch (step.kind) {
      case 'ask':
        take.ask(step)
        break
      case 'reply':
        take.reply(step)
        break
      case 'leave':
        take.leave(names[step.who] ?? '')
        break
      case 'request':
        take.request()
        break
      case 'lateAnswer': {
        const one = cancelled[step.which % Math.max(1, cancelled.length)]
        if (one) take.lateAnswer(one)
        break
      }
      case 'answer':
      case 'progress':
      case 'cancel': {
        const one = got[step.which % Math.max(1, got.length)]
        if (one) take[step.kind](one)
      }
    }
  }
}

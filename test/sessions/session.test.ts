import { expect, it } from 'vitest'
import { Questions } from '../../src/sessions/questions.ts'
import { waitingIn } from '../../src/sessions/session.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'

it.each([
  [0, false, 'nobody'],
  [2, false, 'client'],
  [0, true, 'server'],
  [1, true, 'both'],
] as const)('with %i requests of the client open, and one of the server: %s, %s waits', (pending, isAsked, who) => {
  const questions = new Questions()
  const question = readEnvelope(Buffer.from('{"jsonrpc":"2.0","id":1,"method":"roots/list"}'))
  if (isAsked && question) questions.heardServer(question)
  expect(waitingIn({ pending, questions })).toBe(who)
})

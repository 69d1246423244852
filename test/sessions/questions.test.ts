import { expect, it, vi } from 'vitest'
import { Questions } from '../../src/sessions/questions.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'

const read = (text: string) => readEnvelope(Buffer.from(text)) ?? expect.unreachable(text)
const asked = (id: string, method = 'elicitation/create') => read(`{"jsonrpc":"2.0","id":${id},"method":"${method}"}`)
const answered = (id: string) => read(`{"jsonrpc":"2.0","id":${id},"result":{}}`)
const withdrawn = (id: string) =>
  read(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":${id}}}`)

it('a question is open until its own answer, or until the server withdraws it', () => {
  const questions = new Questions()
  for (const id of ['1', '"1"', '2']) questions.heardServer(asked(id))
  questions.heardClient(answered('1'))
  questions.heardClient(answered('7'))
  questions.heardServer(withdrawn('2'))
  expect(questions.isOpen).toBe(true)
  questions.heardClient(read('[{"jsonrpc":"2.0","id":"1","result":{}}]'))
  expect(questions.isOpen).toBe(false)
})

it('ping is none, nor is anything that asks nothing', () => {
  const questions = new Questions()
  questions.heardServer(asked('1', 'ping'))
  questions.heardServer(answered('2'))
  questions.heardServer(read('{"jsonrpc":"2.0","method":"notifications/message"}'))
  questions.heardClient(undefined)
  expect(questions.isOpen).toBe(false)
})

it('the client’s own requests and cancellations answer nothing', () => {
  const questions = new Questions()
  questions.heardServer(asked('1'))
  questions.heardClient(asked('1'))
  questions.heardClient(withdrawn('1'))
  expect(questions.isOpen).toBe(true)
})

it('none is open any more once nobody waits', () => {
  const questions = new Questions()
  questions.heardServer(asked('1'))
  questions.clear()
  expect(questions.isOpen).toBe(false)
})

it('of more than 1,000 each is told', () => {
  const onUncounted = vi.fn<() => void>()
  const questions = new Questions(onUncounted)
  for (let n = 0; n < 1000; n++) questions.heardServer(asked(String(n)))
  expect(onUncounted).not.toHaveBeenCalled()
  questions.heardServer(asked('1000'))
  expect(onUncounted).toHaveBeenCalledOnce()
})

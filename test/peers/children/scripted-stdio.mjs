/**
 * A stdio server that says what it is told to, byte for byte, without an SDK. Every message may carry `params.say`: raw
 * lines to write, in which $ID and $TOKEN stand for the raw text of the message's id and progress token and $LINE for
 * the whole message as a JSON string. Without it, a request is answered with an empty result.
 *
 * Methods: `initialize` answers in the requested revision, or refuses with `params.refuse`; `received` tells all lines
 * so far; `silent` is never answered; `flood` writes `params.lines` notifications of `params.bytes` each, then answers if that is asked;
 * `die` exits with code 3, `initialize` from the client `deadly` with code 1. `--last-words` has it say something when its stdin ends; `--mute` never answers initialize.
 */
import { createInterface } from 'node:readline'

const received = []
const flags = new Set(process.argv.slice(2))
const value = String.raw`("(?:[^"\\]|\\.)*"|[^,}\s]+)`

function rawOf(key, line) {
  return new RegExp(String.raw`"${key}"\s*:\s*${value}`).exec(line)?.[1] ?? 'null'
}

function write(text) {
  return process.stdout.write(`${text}\n`)
}

async function flood(id, { lines, bytes }) {
  for (let line = 0; line < lines; line++) {
    const filler = 'x'.repeat(bytes)
    const isOpen = write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"n":${line},"x":"${filler}"}}`)
    if (!isOpen) await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
  if (id !== 'null') write(`{"jsonrpc":"2.0","id":${id},"result":{}}`)
}

function hear(line) {
  received.push(line)
  const message = JSON.parse(line)
  const id = rawOf('id', line)
  const { method, params = {} } = message
  if (method === 'die') process.exit(3)
  if (Array.isArray(params.say)) {
    for (const text of params.say) {
      const token = rawOf('progressToken', line)
      write(text.replaceAll('$ID', id).replaceAll('$TOKEN', token).replaceAll('$LINE', JSON.stringify(line)))
    }
    return
  }
  if (method === 'flood') return void flood(id, params)
  if (method === undefined || message.id === undefined || method === 'silent') return
  if (method === 'initialize') {
    if (flags.has('--mute')) return
    if (params.clientInfo?.name === 'deadly') process.exit(1)
    if (params.refuse) return write(`{"jsonrpc":"2.0","id":${id},"error":{"code":-32602,"message":"no"}}`)
    const result = {
      protocolVersion: params.protocolVersion,
      capabilities: {},
      serverInfo: { name: 's', version: '1' },
    }
    return write(`{"jsonrpc":"2.0","id":${id},"result":${JSON.stringify(result)}}`)
  }
  if (method === 'received') return write(`{"jsonrpc":"2.0","id":${id},"result":${JSON.stringify({ received })}}`)
  write(`{"jsonrpc":"2.0","id":${id},"result":{}}`)
}

const input = createInterface({ input: process.stdin, crlfDelay: Infinity })
input.on('line', hear)
input.on('close', () => {
  if (flags.has('--last-words')) write('{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"bye"}}')
  process.exitCode = 0
})

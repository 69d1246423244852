/** The benchmark's tiny MCP server over stdio: a line in, a line out. `tools/call` says how many `bytes` it wants. */
import { createInterface } from 'node:readline'
import { answerTo } from './echo-answers.ts'

createInterface({ input: process.stdin }).on('line', (line) => {
  const { body } = answerTo(line)
  if (body !== '') process.stdout.write(`${body}\n`)
})

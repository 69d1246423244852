/**
 * A process that serves MCP and falls ill at SIGUSR2: `node test/peers/patient.ts stdio|http|sse legacy|modern AILMENT`,
 * where an ailment is one of those of test/support/patient.ts, `exit` (with code 0) or `spin` (for ever). HTTP listens
 * on PORT. While the file TOOLS_FILE exists there is a second tool; GRANDCHILD=1 starts a process that stays.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Message } from '../support/mcp-server.ts'
import { type Ailment, type Patient, patientServer, treat } from '../support/patient.ts'

const [transport, era, ill] = process.argv.slice(2)
const { PORT, TOOLS_FILE, GRANDCHILD, PING } = process.env
const ailments: readonly Ailment[] = ['silent', 'silent_once', 'late', 'http_error', 'garbage', 'unauthorized']

const patient: Patient = {
  era: era === 'modern' ? 'modern' : 'legacy',
  ping: PING === 'unsupported' || PING === 'silent' ? PING : 'answered',
  tools: () => (existsSync(TOOLS_FILE ?? '') ? ['read', 'write'] : ['read']),
  ailment: undefined,
}

process.on('SIGUSR2', () => {
  if (ill === 'exit') process.exit(0)
  if (ill === 'spin') for (;;);
  patient.ailment = ailments.find((known) => known === ill)
})
if (GRANDCHILD) spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { stdio: 'inherit' })

if (transport === 'stdio') {
  const say = (text: string) => void process.stdout.write(`${text}\n`)
  const way = { answer: (body: object) => say(JSON.stringify(body)), garble: () => say('<garbage>') }
  const input = createInterface({ input: process.stdin })
  input.on('line', (line) => treat(patient, JSON.parse(line) as Message, way))
  input.on('close', () => process.exit(0))
} else {
  const { origin } = await patientServer(patient, Number(PORT ?? 0))
  console.log(JSON.stringify({ msg: 'listening', url: `${origin}/${transport === 'sse' ? 'sse' : 'mcp'}` }))
  process.once('SIGTERM', () => process.exit(0))
}

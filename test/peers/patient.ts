/**
 * A process that serves MCP and falls ill at SIGUSR2: `node test/peers/patient.ts stdio|http|sse legacy|modern AILMENT`,
 * where an ailment is one of those of test/support/patient.ts or of `acts` below; any other word makes it well again.
 * HTTP listens on PORT. While the file TOOLS_FILE exists there is a second tool; GRANDCHILD=1 starts a process that
 * stays; AILMENT_FILE holds the ailment in place of the argument, and may change; LATE_MS is when `late` and `slow` answer, and
 * ANSWER_MS what each answer takes; SILENCE_FILE is written with each heartbeat that is left unanswered. The tools `spin`
 * and `wait` keep its only thread.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import { createInterface } from 'node:readline'
import type { Message } from '../support/mcp-server.ts'
import { type Ailment, type Patient, patientServer, treat } from '../support/patient.ts'

const [transport, era, ill] = process.argv.slice(2)
const { PORT, TOOLS_FILE, GRANDCHILD, PING, AILMENT_FILE, LATE_MS, ANSWER_MS, SILENCE_FILE } = process.env
const ailments: readonly Ailment[] = ['silent', 'silent_once', 'late', 'slow', 'http_error', 'garbage', 'unauthorized']

const patient: Patient = {
  era: era === 'modern' ? 'modern' : 'legacy',
  ping: PING === 'unsupported' || PING === 'silent' ? PING : 'answered',
  tools: () => (existsSync(TOOLS_FILE ?? '') ? ['read', 'write'] : ['read']),
  ailment: undefined,
  ...(LATE_MS && { lateMs: Number(LATE_MS) }),
  ...(ANSWER_MS && { answerMs: Number(ANSWER_MS) }),
  ...(SILENCE_FILE && { onSilence: () => writeFileSync(SILENCE_FILE, '') }),
  blocking: { spin, wait },
}

/** With its processor, as far as nobody else wants it, and without. */
function spin(seconds: number): void {
  setPriority(constants.priority.PRIORITY_LOW)
  const endMs = performance.now() + seconds * 1000
  while (performance.now() < endMs);
}

function wait(seconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000)
}

const kept: Buffer[] = []
/** What it does at once. */
const acts: Readonly<Record<string, () => void>> = {
  exit: () => process.exit(0),
  fail: () => process.exit(3),
  spin: () => spin(Number.POSITIVE_INFINITY),
  grow: () => void kept.push(Buffer.alloc(300 * 1024 * 1024, 1)),
}

process.on('SIGUSR2', () => {
  const what = AILMENT_FILE ? readFileSync(AILMENT_FILE, 'utf8') : ill
  patient.ailment = ailments.find((known) => known === what)
  acts[what ?? '']?.()
})
if (GRANDCHILD) spawn('sleep', ['1000000'], { stdio: 'inherit' })

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

import { type IncomingHttpHeaders, request } from 'node:http'
import { type Clock, sleep } from '../clock.ts'
import type { AuthConfig, Config } from '../config/config.ts'
import { errorMessage } from '../errors.ts'
import type { Running } from './serve.ts'

/** What is wrong; nothing is when it is undefined. */
export type Complaint = string | undefined

/** One thing that is tried out. A rejection counts as a complaint. */
export interface Check {
  readonly name: string
  readonly run: () => Complaint | Promise<Complaint>
}

/** The temporary sidecar that the checks are about. */
export interface Instance {
  readonly running: Running
  readonly config: Config
  /** What the temporary server is called. */
  readonly server: string
  readonly clock: Clock
  /** When no time is left, which `signal` tells by aborting. */
  readonly endsMs: number
  readonly signal: AbortSignal
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface Question {
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string | number>>
}

/** Asks the admin listener. */
export function askAdmin(
  { running, config, signal }: Instance,
  path: string,
  question: Question = {},
): Promise<Answer> {
  return ask(
    running.adminUrl + path,
    { ...question, headers: { ...bearer(config.adminAuth), ...question.headers } },
    signal,
  )
}

/** Asks the data listener. */
export function askData({ running, config, signal }: Instance, path: string, question: Question = {}): Promise<Answer> {
  return ask(running.dataUrl + path, { ...question, headers: { ...bearer(config.auth), ...question.headers } }, signal)
}

/** The header that a listener asks for, if it asks for one. */
export function bearer({ bearerToken }: AuthConfig): Record<string, string> {
  return bearerToken === undefined ? {} : { authorization: `Bearer ${bearerToken}` }
}

/** One request without a body, whatever length of one its headers announce. */
function ask(url: string, { method = 'GET', headers = {} }: Question, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, agent: false, signal }, (answer) => {
      answer.setEncoding('utf8')
      let body = ''
      answer.on('data', (text: string) => (body += text))
      answer.on('error', reject)
      answer.on('end', () => {
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body })
        sent.destroy()
      })
    })
    sent.on('error', reject)
    // Ending it now would tell the server that the announced body is cut short.
    if (headers['content-length'] === undefined) sent.end()
    else sent.flushHeaders()
  })
}

const pollMs = 50
const patienceMs = 5000

/** What a last look and the checks after it still need. */
const reserveMs = 1000

/** Repeats a check until it has no complaint; gives the last one when it keeps having some. */
export async function untilFine(
  { clock, endsMs, signal }: Instance,
  check: () => Promise<Complaint>,
): Promise<Complaint> {
  const untilMs = Math.min(clock.now() + patienceMs, endsMs - reserveMs)
  for (;;) {
    const complaint = await check().catch((error: unknown) => errorMessage(error))
    if (complaint === undefined || clock.now() >= untilMs) return complaint
    await sleep(clock, pollMs, signal)
  }
}

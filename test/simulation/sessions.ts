import { giveUpAfter } from '../../src/clock.ts'
import { KnownError } from '../../src/errors.ts'
import type { SessionDirectory } from '../../src/sessions/directory.ts'
import type { Session, SessionPeer } from '../../src/sessions/session.ts'
import type { Answer, RequestOptions } from '../../src/upstreams/peer.ts'
import type { ServerPlan, SessionPlan } from './faults.ts'
import type { Referee } from './referee.ts'
import type { SimulatedServer } from './server.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface SimulatedSessionsOptions {
  readonly plan: ServerPlan
  readonly server: SimulatedServer
  readonly time: VirtualTime
  readonly directory: SessionDirectory
  readonly referee: Referee
}

const client = { ip: '127.0.0.1', userAgent: 'simulated' }
const pong: Answer = { message: Buffer.from('{"jsonrpc":"2.0","id":"ping","result":{}}') }

/**
 * The sessions of clients with one server behind a URL: mostly silent, sometimes at work, sometimes hung while the server
 * is well. They are asked by the real session heartbeats; how our `ping` gets into a session is left out.
 */
export class SimulatedSessions {
  readonly #options: SimulatedSessionsOptions
  #opened = 0

  constructor(options: SimulatedSessionsOptions) {
    this.#options = options
  }

  start(): void {
    const { plan, time } = this.#options
    for (const session of plan.sessions ?? []) time.at(session.atMs, () => this.#open(session))
  }

  #open(plan: SessionPlan): void {
    const { plan: server, server: simulated, time, directory, referee } = this.#options
    if (time.now() >= plan.untilMs) return
    const isServed = simulated.reply('session').kind === 'answer'
    const id = `${server.name} ${this.#opened++}`
    const session = isServed ? directory.add({ id, upstream: server.name, transport: 'http', client }) : undefined
    if (!session) return time.at(time.now() + plan.gapMs, () => this.#open(plan))
    const { ends } = simulated
    referee.sessionOpened(session, {
      isForgotten: () => simulated.ends !== ends,
      isHung: () => isHung(plan, time.now()) && simulated.ends === ends,
    })
    session.serverPeer = { canAsk: () => true, request: (asked) => this.#ask(session, plan, asked, ends) }
    time.at(time.now() + plan.gapMs, () => this.#use(session, plan, ends))
  }

  /** Now and then its client does something; when the session is gone, it opens another. */
  #use(session: Session, plan: SessionPlan, ends: number): void {
    const { server, time, directory } = this.#options
    const isOver = directory.get(session.upstream, session.id) !== session
    if (isOver || time.now() >= plan.untilMs) {
      directory.end(session, 'deleted')
      return this.#open(plan)
    }
    directory.touch(session)
    session.pending += 1
    time.at(time.now() + plan.worksForMs, () => {
      session.pending -= 1
      directory.touch(session)
      const isAnswered = server.ends === ends && server.reply('session').kind === 'answer' && !isHung(plan, time.now())
      if (isAnswered) directory.answered(session)
      time.at(time.now() + plan.gapMs, () => this.#use(session, plan, ends))
    })
  }

  #ask(
    session: Session,
    plan: SessionPlan,
    { timeoutMs }: RequestOptions,
    ends: number,
  ): ReturnType<SessionPeer['request']> {
    const { server, time, referee } = this.#options
    referee.sessionAsked(session)
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        timer.cancel()
        forget()
        settle()
      }
      const fail = (code: KnownError['code'], why: string) => end(() => reject(new KnownError(code, why)))
      const timer = giveUpAfter(time, timeoutMs, () => fail('upstream_timeout', 'no answer to ping'))
      const forget = server.whenItEnds(() => fail('upstream_reset', 'connection reset'))
      const reply = server.reply('session')
      const isForgotten = server.ends !== ends
      if ((isHung(plan, time.now()) && !isForgotten) || reply.kind === 'nothing') return
      time.at(time.now() + ('afterMs' in reply ? reply.afterMs : 0), () => {
        if (reply.kind === 'refused') fail('upstream_refused', 'connection refused')
        else if (reply.kind === 'locked') fail('upstream_unauthorized', 'HTTP 401')
        else if (reply.kind !== 'answer') fail('upstream_http_error', 'HTTP 500')
        else if (server.ends !== ends) fail('upstream_session_gone', 'HTTP 404')
        else end(() => resolve(pong))
      })
    })
  }
}

/** Whether the server answers everybody but this session. */
function isHung({ hangs }: SessionPlan, nowMs: number): boolean {
  return hangs.some(({ atMs, untilMs }) => atMs <= nowMs && nowMs < untilMs)
}

import type { LiveUpstream } from '../../src/cli/fleet.ts'
import { trafficEvidence } from '../../src/cli/evidence.ts'
import { KnownError } from '../../src/errors.ts'
import { Admission, type AdmissionDeps } from '../../src/proxy/admission.ts'
import type { TrafficEvents } from '../../src/proxy/observe.ts'
import type { Limited } from '../../src/upstreams/queue.ts'
import type { Errand, ServerPlan } from './faults.ts'
import type { Ledger } from './ledger.ts'
import { type Random, between } from './random.ts'
import type { Referee } from './referee.ts'
import type { Reply, SimulatedServer } from './server.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface ClientsOptions {
  readonly plan: ServerPlan
  readonly server: SimulatedServer
  readonly time: VirtualTime
  readonly random: Random
  readonly limits: Limited
  readonly admission: AdmissionDeps
  readonly traffic: TrafficEvents
  readonly ledger: Ledger
  readonly referee: Referee
  readonly live: Pick<LiveUpstream, 'access' | 'isBeingReplaced'>
}

type End = { readonly kind: 'answer' | 'refusal' } | { readonly kind: 'failure'; readonly error: KnownError }

/** The clients of one server: what they ask takes the way of every request through limits, queue and circuit breaker. */
export class SimulatedClients {
  readonly #options: ClientsOptions

  constructor(options: ClientsOptions) {
    this.#options = options
  }

  start(): void {
    const { plan, time } = this.#options
    for (const errand of plan.errands ?? []) time.at(errand.atMs, () => this.#run(errand))
  }

  #run(errand: Errand): void {
    const { time, random } = this.#options
    switch (errand.kind) {
      case 'burst':
        for (let left = errand.count; left > 0; left--) this.#ask()
        return
      case 'work':
        return this.#ask(errand)
      case 'steady': {
        this.#ask()
        const nextMs = time.now() + errand.gapMs * between(random, 0, 2)
        if (nextMs < errand.untilMs) time.at(nextMs, () => this.#run(errand))
      }
    }
  }

  #ask(work?: Errand & { readonly kind: 'work' }): void {
    const { plan, server, time, limits, admission: deps, referee } = this.#options
    if (!server.isOpen()) return this.#wake()
    if (this.#isLeaving()) return
    const admission = new Admission(deps, plan.name, limits)
    const askedMs = time.now()
    admission.enter('answer', 'tools/call', (refusal) => {
      if (!refusal) return this.#send(admission, askedMs, work)
      admission.over()
      referee.requestRefused(plan.name, refusal, time.now() - askedMs)
    })
  }

  /** Who wants a process that rests gets it; the request itself would wait for its start. */
  #wake(): void {
    const { access } = this.#options.live
    if (access.kind !== 'stdio') return
    const { upstream } = access
    this.#options.referee.wanted(this.#options.plan.name)
    const release = () => upstream.releaseResident()
    void Promise.resolve(upstream.borrowResident()).then(release, release)
  }

  /** A process that is about to be replaced gets nothing new. */
  #isLeaving(): boolean {
    const { live } = this.#options
    const line = live.access.kind === 'stdio' ? live.access.upstream.residentLine() : undefined
    return live.isBeingReplaced() || line?.isLeaving === true
  }

  /** In the order in which the proxy does it: what it holds is given back before anybody hears how it ended. */
  #send(admission: Admission, askedMs: number, work: (Errand & { readonly kind: 'work' }) | undefined): void {
    const { plan, server, time, traffic, ledger, referee } = this.#options
    const { name } = plan
    if (plan.kind === 'stdio' && this.#isLeaving()) return admission.over()
    const ticket = referee.requestStarts(name, time.now() - askedMs)
    let isOver = false
    const end = (how: End) => {
      if (isOver) return
      isOver = true
      forget()
      const evidence = how.kind === 'failure' ? trafficEvidence(how.error) : undefined
      referee.requestEnds(name, ticket, how.kind === 'answer' ? 'ok' : evidence ? 'failed' : 'nothing')
      admission.over()
      if (how.kind === 'answer') server.served()
      ledger.operation(name, how.kind === 'failure')
      if (how.kind === 'answer') traffic.onAnswered(name)
      if (how.kind === 'failure') traffic.onFailed(name, how.error)
    }
    const forget = server.whenItEnds(() => end({ kind: 'failure', error: this.#broken() }))
    admission.sent({ isExcused: () => false, onOverdue: (error) => end({ kind: 'failure', error }) })
    if (work && server.work(work.forMs, work.usesCpu)) referee.works(name, time.now() + work.forMs)
    const reply = server.reply()
    const outcome = this.#endOf(reply)
    if (!outcome) return
    time.at(time.now() + ('afterMs' in reply ? reply.afterMs : 0), () => end(outcome))
  }

  /** Undefined where nothing comes. */
  #endOf({ kind }: Reply): End | undefined {
    const isStdio = this.#options.plan.kind === 'stdio'
    switch (kind) {
      case 'answer':
        return { kind: 'answer' }
      case 'locked':
        return { kind: 'refusal' }
      case 'refused':
        if (isStdio) return { kind: 'failure', error: this.#broken() }
        return { kind: 'failure', error: new KnownError('upstream_refused', 'connection refused') }
      case 'garbage':
      case 'error':
        // What is no JSON-RPC on stdout is for nobody.
        if (isStdio) return undefined
        return { kind: 'failure', error: new KnownError('upstream_http_error', 'HTTP 500 without a JSON-RPC answer') }
      case 'nothing':
        return undefined
    }
  }

  #broken(): KnownError {
    const isStdio = this.#options.plan.kind === 'stdio'
    return new KnownError(isStdio ? 'upstream_exited' : 'upstream_reset', 'connection reset')
  }
}

/**
 * The faults that servers have, what mcp-vitals concludes from each and what it does: real processes and connections,
 * every transport and era where the fault exists. `node test/e2e/fault-table.ts` measures them and prints the table of
 * the README; fault-table.test.ts asserts it.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer as createTlsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DebugUpstream } from '../../src/admin/debug.ts'
import { defaults } from '../../src/defaults.ts'
import type { Outcome } from '../../src/heartbeat/classify.ts'
import type { State } from '../../src/heartbeat/verdict.ts'
import { type RestartReason, restartReasons } from '../../src/upstreams/upstream.ts'
import { listeningUrl, repoRoot, startProcess } from '../peers/spawn.ts'
import { certificateAuthority, hasOpenssl } from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { halfOpenable } from '../support/half-open.ts'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { type Ailment, type Patient, patientServer } from '../support/patient.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { groupMembers } from '../support/processes.ts'
import { compileCache } from '../support/program.ts'
import { startVitals } from '../support/vitals.ts'
import { quickInventoryAgeMs } from '../peers/quick-law.ts'
import { type BlockingCall, blockingCall } from './fault-call.ts'
import { type Era, type Place, launched, ourProcesses, pathOf, stdio, url, urls } from './fault-places.ts'
import { type Change, type Seen, changeOf, watch } from './fault-watch.ts'

/** A server that was set up for one row. */
interface Subject {
  /** Its entry in `mcpServers`. */
  readonly entry: object
  /**
   * Makes it ill, once it is healthy; absent where it is from the start. Gives the wall time at which the illness began
   * where that is later than its call.
   */
  readonly inject?: (pid: number | undefined, url: string) => void | Promise<number | void>
  /** What else must hold in the end. */
  readonly aftermath?: () => unknown
}

interface Fault {
  /** For the README. */
  readonly fault: string
  readonly places: readonly Place[]
  readonly subject: (place: Place, kit: Kit) => Promise<Subject>
  /** Who stands in front of it, if not one that has nothing special. */
  readonly by?: 'quick' | 'spinning' | 'stalled'
  /** The state that the log must tell of after the fault. */
  readonly verdict: State
  /** The log must tell of nothing at all: it is in that state, and stays there. */
  readonly isSilent?: true
  /** What must not follow might follow later: more heartbeats are waited for. */
  readonly lingers?: true
  /**
   * On a busy machine its moment may be missed, so that it is made again until it came to that outcome. What is told
   * meanwhile counts from the first time on.
   */
  readonly isRepeated?: true
  /** On a busy machine it may have been in that state before: the one with that reason counts. */
  readonly isRestless?: true
  readonly reasons: Reasons | ((place: Place) => Reasons)
  readonly outcome: Outcome
  /** The request that came to it, where not any. */
  readonly method?: string
  readonly action: RestartReason | 'none'
  /** Where it is in the end. */
  readonly finally: State
  /** What it is asked in the end, if that is to have changed. */
  readonly rung?: string
  /** States that must not be told of. */
  readonly never?: readonly State[]
  /** From the fault to the verdict by the control law; what a busy machine may add is `boundSeconds`. */
  readonly lawSeconds: number
}

/** What must be said; each is asserted of all that was. */
export interface Reasons {
  /** With the verdict, in the log; absent where nothing is told. */
  readonly verdict?: RegExp
  /** With each heartbeat of that outcome, in `/debug/heartbeat`. */
  readonly beats: RegExp
  /** In the log, with a process that hangs; absent where none does. */
  readonly hang?: RegExp
}

export type Row = Fault & { readonly name: string; readonly place: Place }

/** What must be said of this row. */
export function reasonsOf({ reasons, place }: Row): Reasons {
  return typeof reasons === 'function' ? reasons(place) : reasons
}

/** What came of one row. */
export interface Measured {
  readonly detectedSeconds: number
  readonly verdict: State
  /** Why, as the log says; undefined where nothing is told. */
  readonly verdictReason: string | undefined
  /** What the heartbeats of that outcome were called, and the hangs. */
  readonly beatReasons: readonly string[]
  readonly hangReasons: readonly string[]
  readonly restarts: readonly (readonly [reason: string, count: number])[]
  /** `mcp_upstream_up` in the end; undefined where there is no such series. */
  readonly up: number | undefined
  /** What `mcp_upstream_unavailable_seconds_total` and the changes to the verdict have gained by the fault. */
  readonly unavailableSeconds: number
  readonly changes: number
  /** The changes of state that the log told of since the fault, each with its reason. */
  readonly told: readonly (readonly [state: string, reason: string])[]
}

const node = process.execPath
const patientScript = 'test/peers/patient.ts'

function processEntry({ where, transport, era }: Place, kit: Kit, ill: string, env: Readonly<Record<string, string>>) {
  const command = {
    command: node,
    args: [patientScript, transport, era, ill],
    cwd: repoRoot,
    env: { ...compileCache, ...env },
  }
  if (where === 'stdio') return command
  const port = kit.ports.pop()
  const launch = { ...command, env: { ...command.env, PORT: String(port) } }
  return { url: `http://127.0.0.1:${port}${pathOf(transport)}`, launch }
}

function signalled(signal: NodeJS.Signals, ill = 'none', env: Readonly<Record<string, string>> = {}) {
  return async (place: Place, kit: Kit): Promise<Subject> => ({
    entry: processEntry(place, kit, ill, env),
    inject: (pid) => void process.kill(pid ?? Number.NaN, signal),
  })
}

/** A server of our own process that falls ill. */
function ailing(ailment: Ailment) {
  return async ({ transport, era }: Place, kit: Kit): Promise<Subject> => {
    const patient = healthy(era)
    const { origin, stop } = await patientServer(patient)
    kit.stops.push(stop)
    return {
      entry: { url: origin + pathOf(transport) },
      inject: () => {
        patient.ailment = ailment
      },
    }
  }
}

function healthy(era: Era, ping: Patient['ping'] = 'answered'): Patient {
  return { era, ping, tools: () => ['read'], ailment: undefined }
}

function withPing(ping: Patient['ping']) {
  return async (place: Place, kit: Kit): Promise<Subject> => {
    if (place.where === 'stdio') return { entry: processEntry(place, kit, 'none', { PING: ping }) }
    const { origin, stop } = await patientServer(healthy(place.era, ping))
    kit.stops.push(stop)
    return { entry: { url: origin + pathOf(place.transport) } }
  }
}

/** How long our own event loop stands still, and what an answer takes there. */
const stallMs = 2000
const slowAnswerMs = 500

/**
 * Leaves one heartbeat unanswered, and has us stand still meanwhile: then it may have been our own fault. Its answers
 * take their time, so that the noise of a busy machine is small beside it and the stall alone would make them slow.
 */
async function stalling(place: Place, kit: Kit): Promise<Subject> {
  if (place.where !== 'url') return stallingProcess(place, kit)
  let silence = Promise.withResolvers<void>()
  const patient: Patient = { ...healthy(place.era), answerMs: slowAnswerMs, onSilence: () => silence.resolve() }
  const { origin, stop } = await patientServer(patient)
  kit.stops.push(stop)
  return {
    entry: { url: origin + pathOf(place.transport) },
    inject: () =>
      kit.alone(async () => {
        silence = Promise.withResolvers<void>()
        patient.ailment = 'silent_once'
        await silence.promise
        return kit.stall()
      }),
  }
}

function stallingProcess(place: Place, kit: Kit): Subject {
  const file = join(kit.directory, `silence-${place.where}-${place.transport}-${place.era}`)
  const env = { ANSWER_MS: String(slowAnswerMs), SILENCE_FILE: file }
  return {
    entry: processEntry(place, kit, 'silent_once', env),
    inject: (pid = Number.NaN) =>
      kit.alone(async () => {
        await rm(file, { force: true })
        process.kill(pid, 'SIGUSR2')
        await eventually(() => existsSync(file), { what: 'a heartbeat is left unanswered' })
        return kit.stall()
      }),
  }
}

const callSeconds = 60
/** How long the call may last without a word of the server, and a busy machine beside it. */
const patienceSeconds = 240

/** A process that is not ours, behind a URL. */
async function strangeProcess({ transport, era }: Place, kit: Kit) {
  const args = [patientScript, transport, era]
  const peer = await startProcess({ args, env: { PORT: '0' }, ready: listeningUrl, termGraceMs: 1000 })
  kit.stops.push(async () => {
    process.kill(peer.pid, 'SIGKILL')
    await peer.exited
  })
  return peer
}

/** A client's call keeps the only thread of the server: one works meanwhile, the others wait for somebody else. */
async function called(place: Place, kit: Kit): Promise<Subject> {
  const name = place.where === 'stdio' && place.era === 'legacy' ? 'spin' : 'wait'
  const server =
    place.where === 'url' ? { url: (await strangeProcess(place, kit)).ready } : processEntry(place, kit, 'none', {})
  let call: BlockingCall | undefined
  return {
    entry: { ...server, stall_timeout_seconds: patienceSeconds },
    inject: async (_pid, at) => {
      call = await blockingCall(at, place, { name, seconds: callSeconds })
      return call.sentMs
    },
    aftermath: async () => {
      const answer = await call?.done
      if (!answer?.body.includes('is done')) throw new Error(`the client got ${answer?.status} ${answer?.body}`)
    },
  }
}

/** Refuses `initialize`, and with it everybody. */
async function unwelcoming({ transport, era }: Place, kit: Kit): Promise<Subject> {
  const patient: Patient = { ...healthy(era), refusesInitialize: true }
  const { origin, stop } = await patientServer(patient)
  kit.stops.push(stop)
  return { entry: { url: origin + pathOf(transport) } }
}

/** The longest time-out of a server that is to be late whenever it is slow. */
const shortSeconds = 3

/** Short intervals, so that the table does not take minutes. */
export const intervals = { min_interval_seconds: 1, max_interval_seconds: 2 } as const

/**
 * The times of the control law (README, "The interval" and "Time-outs") for servers that answer within milliseconds:
 * their time-out is the shortest, and with it over the next heartbeat is due, whose interval is shorter.
 */
const nextBeatSeconds = intervals.max_interval_seconds
const timeoutSeconds = defaults.heartbeat.minTimeoutMs / 1000
const { missesToDown } = defaults.heartbeat
const law = {
  /** Who is told of it at once: the end of a process. */
  atOnce: 0,
  /** The next heartbeat tells. */
  oneBeat: nextBeatSeconds,
  /** The next one leaves its time-out unused. */
  oneSilence: nextBeatSeconds + timeoutSeconds,
  /** Each miss is silence until its time-out, or an answer at once and 10 % of jitter on the shortest interval. */
  silence: nextBeatSeconds + missesToDown * timeoutSeconds,
  misses: nextBeatSeconds + (missesToDown - 1) * intervals.min_interval_seconds * 1.1,
  /** Our own start and the first heartbeat, which comes at once. */
  start: 3,
  /** A start of the server, which is asked at once, and then once more. */
  restart: 2 + nextBeatSeconds,
  /** The second heartbeat of all is a `ping`; one that is not answered leaves room for another request after 1 s. */
  ladder: 3 + nextBeatSeconds + 1,
  /** A heartbeat that was left unanswered is counted when nobody waits for it any more. */
  unanswered: nextBeatSeconds + defaults.heartbeat.lateAnswerMs / 1000,
  /** The late answer to the next one, and two more that are in time. */
  late: nextBeatSeconds + 4 + defaults.heartbeat.goodsToHealthy * nextBeatSeconds,
  /** As many slow answers as it takes for that to be usual, one after the other. */
  slow: defaults.heartbeat.slowToUsual * (nextBeatSeconds + 4),
} as const

/**
 * How long a verdict may take on a machine that others keep busy: after one stall of our own, time-outs are twice as
 * long, and programs get the processor some seconds later than they should. What needs no heartbeat needs no time-out.
 */
export function boundSeconds({ lawSeconds }: Pick<Row, 'lawSeconds'>): number {
  return lawSeconds === law.atOnce ? 3 : 2 * lawSeconds + 10
}

const hung = { verdict: 'down', finally: 'healthy', action: 'hung', outcome: 'timeout', by: 'quick' } as const
const down = { verdict: 'down', finally: 'down', action: 'none' } as const
/** One heartbeat that says so, and then the next rung. */
const pingless = {
  verdict: 'healthy',
  finally: 'healthy',
  never: ['down'],
  outcome: 'unsupported',
  method: 'ping',
  rung: 'tools/list',
  action: 'none',
  lawSeconds: law.ladder,
} as const
const initialized = /^initialize answered \(2025-11-25\)$/
const restarted = { verdict: 'down', finally: 'healthy', lawSeconds: law.atOnce } as const
const unanswered = {
  reasons: { verdict: /^3 misses in a row: no answer within \d+ ms$/, beats: /^no answer within \d+ ms$/ },
  outcome: 'timeout',
  lawSeconds: law.silence,
} as const
/** The same words with the verdict and with each heartbeat. */
const both = (reason: RegExp): Reasons => ({ verdict: reason, beats: reason })
const missed = (reason: string): Reasons => ({
  verdict: new RegExp(`^3 misses in a row: ${reason}$`),
  beats: new RegExp(`^${reason}$`),
})
/** How a process ended, in the words for what it is. */
const ended = (how: string) => (place: Place) =>
  both(new RegExp(`^${place.where === 'stdio' ? 'resident' : 'server'} process \\d+ ${how}$`))
const legacyOnly = [stdio('legacy'), url('http', 'legacy'), url('sse', 'legacy')]

/** In the order of the README. */
const faults: readonly Fault[] = [
  {
    ...restarted,
    fault: 'crash (SIGKILL)',
    places: ourProcesses,
    subject: signalled('SIGKILL'),
    reasons: ended('was killed by SIGKILL'),
    outcome: 'exited',
    action: 'signal',
  },
  {
    ...restarted,
    fault: 'exit with code 0',
    places: ourProcesses,
    subject: signalled('SIGUSR2', 'exit'),
    reasons: ended('exited with code 0'),
    outcome: 'exited',
    action: 'exit',
  },
  {
    fault: 'command not found (exit 127)',
    // It never speaks, so it has no era.
    places: [stdio('legacy'), launched('http', 'legacy'), launched('sse', 'legacy')],
    subject: async ({ where, transport }, kit) => {
      const launch = { command: 'sh', args: ['-c', 'exit 127'] }
      const at = `http://127.0.0.1:${kit.ports.pop()}${pathOf(transport)}`
      return { entry: where === 'stdio' ? launch : { url: at, launch } }
    },
    verdict: 'crash_loop',
    finally: 'crash_loop',
    reasons: (place) => {
      const how = String.raw`exited with code 127 \(its command or interpreter was not found\)`
      return { verdict: new RegExp(`^${how}; the next try comes in 600 s$`), beats: ended(how)(place).beats }
    },
    lawSeconds: law.start,
    outcome: 'exited',
    action: 'none',
  },
  {
    ...restarted,
    fault: 'its child outlives it',
    places: ourProcesses,
    subject: async (place, kit) => {
      let group = 0
      return {
        entry: processEntry(place, kit, 'none', { GRANDCHILD: '1' }),
        inject: async (pid = 0) => {
          group = pid
          await eventually(() => groupMembers(group).length === 2, { what: 'there is a grandchild' })
          const killedMs = Date.now()
          process.kill(pid, 'SIGKILL')
          return killedMs
        },
        aftermath: () => eventually(() => groupMembers(group).length === 0, { what: 'the grandchild has gone too' }),
      }
    },
    reasons: ended('was killed by SIGKILL'),
    outcome: 'exited',
    action: 'signal',
  },
  {
    fault: 'killed, and a tool is gone after the restart',
    places: ourProcesses,
    subject: async (place, kit) => {
      const file = join(kit.directory, `tools-${kit.ports.length}-${place.transport}-${place.era}`)
      await writeFile(file, '')
      return {
        entry: processEntry(place, kit, 'none', { TOOLS_FILE: file }),
        inject: async (pid) => {
          await rm(file)
          process.kill(pid ?? Number.NaN, 'SIGKILL')
        },
      }
    },
    verdict: 'degraded',
    finally: 'degraded',
    reasons: (place) => ({
      verdict: /^it serves other tools than before: 4 then, 3 now, 1 gone \(write\)$/,
      beats: ended('was killed by SIGKILL')(place).beats,
    }),
    lawSeconds: law.restart,
    outcome: 'exited',
    action: 'signal',
  },
  {
    fault: 'a tool is gone, and nobody saw a restart',
    by: 'quick',
    places: urls,
    subject: async ({ transport, era }, kit) => {
      const tools = ['read', 'write']
      const { origin, stop } = await patientServer({ ...healthy(era), tools: () => tools })
      kit.stops.push(stop)
      return { entry: { url: origin + pathOf(transport) }, inject: () => void tools.pop() }
    },
    verdict: 'degraded',
    finally: 'degraded',
    never: ['down'],
    reasons: {
      verdict: /^it serves other tools than before: 2 then, 1 now, 1 gone \(write\)$/,
      beats: /^(initialize|ping|server\/discover) answered/,
    },
    lawSeconds: quickInventoryAgeMs / 1000 + nextBeatSeconds,
    outcome: 'ok',
    action: 'none',
  },
  {
    ...down,
    fault: 'stopped (SIGSTOP)',
    places: urls,
    subject: async (place, kit) => {
      const peer = await strangeProcess(place, kit)
      return { entry: { url: peer.ready }, inject: () => void process.kill(peer.pid, 'SIGSTOP') }
    },
    ...unanswered,
  },
  {
    ...hung,
    fault: 'stopped (SIGSTOP), and ours',
    places: ourProcesses,
    subject: signalled('SIGSTOP'),
    ...unanswered,
    reasons: { ...unanswered.reasons, hang: /^hung: no output for \d+ s, and a signal has stopped it$/ },
  },
  {
    ...hung,
    by: 'spinning',
    fault: 'spins, and nobody asked it to',
    places: ourProcesses,
    subject: signalled('SIGUSR2', 'spin'),
    ...unanswered,
    reasons: { ...unanswered.reasons, hang: /^hung: no output for \d+ s, and it uses \d+ % of a core$/ },
  },
  {
    fault: `tool call of ${callSeconds} s on its only thread`,
    by: 'spinning',
    places: [...ourProcesses, ...urls],
    subject: called,
    verdict: 'busy',
    finally: 'healthy',
    never: ['down'],
    reasons: ({ where }) => {
      if (where === 'url') return both(/^busy: a request is under way, and nobody can tell whether it works$/)
      const verdict = /^busy: a request is under way, and it uses \d+ % of a core$/
      // The process of the session that calls may be looked at before it has said a word.
      return { verdict, beats: new RegExp(`${verdict.source}|^process \\d+ runs: it has only just started$`) }
    },
    lawSeconds: law.oneSilence,
    outcome: 'inconclusive',
    action: 'none',
  },
  {
    fault: `our own event loop stands still for ${stallMs / 1000} s`,
    by: 'stalled',
    places: [...ourProcesses, ...urls],
    subject: stalling,
    verdict: 'healthy',
    isSilent: true,
    isRepeated: true,
    finally: 'healthy',
    never: ['down'],
    reasons: { beats: /^our own event loop stood still$/ },
    lawSeconds: law.unanswered,
    outcome: 'inconclusive',
    action: 'none',
  },
  {
    ...down,
    fault: 'accepts, never answers',
    places: urls,
    subject: ailing('silent'),
    ...unanswered,
  },
  {
    ...down,
    fault: 'half-open TCP',
    places: urls,
    subject: async ({ transport, era }, kit) => {
      const { origin, stop } = await patientServer(healthy(era))
      const way = await halfOpenable(new URL(origin))
      kit.stops.push(stop, way.stop)
      return { entry: { url: way.origin + pathOf(transport) }, inject: way.cut }
    },
    ...unanswered,
  },
  {
    fault: 'answers once after 4 s',
    places: [stdio('legacy'), stdio('modern'), ...urls],
    subject: async (place, kit) =>
      place.where === 'stdio' ? signalled('SIGUSR2', 'late')(place, kit) : ailing('late')(place, kit),
    isRepeated: true,
    verdict: 'healthy',
    finally: 'healthy',
    never: ['down'],
    reasons: ({ era }) => {
      const answered = `${era === 'modern' ? 'server/discover' : 'ping'} answered`
      return {
        verdict: new RegExp(`^${answered}$`),
        beats: new RegExp(`^${answered}, after its time-out of \\d+ ms$`),
      }
    },
    lawSeconds: law.late,
    outcome: 'late',
    action: 'none',
  },
  {
    fault: `answers after 4 s, each time (time-out ${shortSeconds} s)`,
    places: [stdio('legacy'), stdio('modern'), ...urls],
    subject: async (place, kit) => {
      const subject = place.where === 'stdio' ? signalled('SIGUSR2', 'slow')(place, kit) : ailing('slow')(place, kit)
      const { entry, ...rest } = await subject
      // Else its time-out follows, and it is late only once or twice.
      return { ...rest, entry: { ...entry, heartbeat: { max_timeout_seconds: shortSeconds } } }
    },
    verdict: 'healthy',
    finally: 'healthy',
    never: ['down'],
    isRestless: true,
    lingers: true,
    reasons: ({ era }) => ({
      verdict: /^it answers every heartbeat, though slowly$/,
      beats: new RegExp(`^${era === 'modern' ? 'server/discover' : 'ping'} answered, after its time-out of \\d+ ms$`),
    }),
    lawSeconds: law.slow,
    outcome: 'late',
    action: 'none',
  },
  {
    ...down,
    fault: 'answers 500',
    places: urls,
    subject: ailing('http_error'),
    reasons: ({ transport }) => {
      if (transport === 'http') return missed('HTTP 500 without a JSON-RPC answer')
      // The first miss is of a message, and then the stream cannot be opened.
      const isNoStream = missed('HTTP 500 instead of an event stream')
      return { ...isNoStream, beats: /^HTTP 500 (without a JSON-RPC answer|instead of an event stream)$/ }
    },
    lawSeconds: law.misses,
    outcome: 'http_error',
  },
  {
    ...down,
    fault: 'answers garbage',
    // By short times for hangs: whoever writes does not hang.
    by: 'quick',
    places: [...ourProcesses, ...urls],
    subject: async (place, kit) =>
      place.where === 'url' ? ailing('garbage')(place, kit) : signalled('SIGUSR2', 'garbage')(place, kit),
    lingers: true,
    reasons: ({ transport }) => {
      if (transport === 'http') return missed('HTTP 200 with a body that is no answer to the request')
      return missed(String.raw`no answer within \d+ ms, but (a message that is|\d+ messages that are) no JSON-RPC`)
    },
    outcome: 'invalid',
    lawSeconds: law.silence,
  },
  {
    ...down,
    fault: 'name does not resolve',
    places: [url('http', 'legacy'), url('sse', 'legacy')],
    subject: async ({ transport }) => ({ entry: { url: `http://nowhere.invalid${pathOf(transport)}` } }),
    reasons: both(/^http:\/\/nowhere\.invalid: getaddrinfo (ENOTFOUND|EAI_AGAIN) nowhere\.invalid$/),
    lawSeconds: law.start,
    outcome: 'refused',
  },
  {
    ...down,
    fault: 'certificate expired',
    places: hasOpenssl() ? [url('http', 'legacy'), url('sse', 'legacy')] : [],
    subject: async ({ transport }, kit) => {
      const authority = certificateAuthority()
      const server = createTlsServer(authority.issue('DNS:localhost', { isExpired: true }))
      const port = await listenOn(server)
      const file = join(kit.directory, `ca-${transport}.pem`)
      await writeFile(file, authority.ca)
      kit.stops.push(
        async () => authority.close(),
        () => stopped(server),
      )
      return { entry: { url: `https://localhost:${port}${pathOf(transport)}`, tls: { ca_file: file } } }
    },
    reasons: both(/^https:\/\/localhost:\d+: certificate has expired$/),
    lawSeconds: law.start,
    outcome: 'refused',
  },
  {
    fault: 'answers 401',
    places: urls,
    subject: ailing('unauthorized'),
    verdict: 'needs_auth',
    finally: 'needs_auth',
    never: ['down'],
    reasons: both(/^HTTP 401: credentials are missing or refused$/),
    lawSeconds: law.oneBeat,
    outcome: 'unauthorized',
    action: 'none',
  },
  {
    fault: '`initialize` gets a JSON-RPC error',
    places: [url('http', 'legacy'), url('sse', 'legacy')],
    subject: unwelcoming,
    verdict: 'degraded',
    finally: 'degraded',
    never: ['down', 'healthy'],
    reasons: both(/^initialize answered with JSON-RPC error -32603: no licence$/),
    lawSeconds: law.start,
    outcome: 'ok',
    action: 'none',
  },
  {
    fault: '`ping` unsupported',
    places: legacyOnly,
    subject: withPing('unsupported'),
    ...pingless,
    reasons: { verdict: initialized, beats: /^ping answered with JSON-RPC error -32601$/ },
  },
  {
    fault: '`ping` never answered',
    places: legacyOnly,
    subject: withPing('silent'),
    ...pingless,
    reasons: { verdict: initialized, beats: /^tools\/list answered$/ },
    outcome: 'ok',
    method: 'tools/list',
  },
  {
    fault: '`ping` gets 500',
    places: [url('http', 'legacy'), url('sse', 'legacy')],
    subject: withPing('fails'),
    ...pingless,
    reasons: { verdict: initialized, beats: /^ping failed \(HTTP 500.*\), and tools\/list answered$/ },
  },
  {
    fault: '`ping` gets 202 and no answer',
    places: [url('http', 'legacy')],
    subject: withPing('swallowed'),
    ...pingless,
    reasons: { verdict: initialized, beats: /^ping failed \(.+\), and tools\/list answered$/ },
  },
]

const rows: readonly Row[] = faults.flatMap((fault) =>
  fault.places.map((place) => ({ ...fault, place, name: nameOf(fault, place) })),
)

function nameOf({ fault }: Fault, { where, transport, era }: Place): string {
  const words = [fault.replaceAll(/[^a-z0-9]+/gi, '-'), where, transport, era]
  return words.join('-').slice(0, 63).replace(/^-/, '')
}

/** What subjects are made with, and what ends them. */
interface Kit {
  readonly directory: string
  readonly ports: number[]
  /** Has the mcp-vitals of those rows stand still. */
  stall: () => Promise<number>
  /** One after the other. */
  readonly alone: <T>(act: () => Promise<T>) => Promise<T>
  readonly stops: (() => Promise<unknown>)[]
}

/**
 * The rows go in groups, each with an mcp-vitals of its own, one after the other: all at once they are too much for a
 * small machine. `quick` has shorter times for hangs, and so has `spinning`, whose servers leave the others and
 * mcp-vitals too little of the processor; `stalled` stands still now and then.
 */
export const groups = ['urls', 'stalled', 'processes', 'quick', 'spinning'] as const
export type Group = (typeof groups)[number]
const quickGroups: ReadonlySet<Group> = new Set<Group>(['quick', 'spinning'])

export function rowsOf(group: Group): readonly Row[] {
  return rows.filter(({ by, place }) => group === (by ?? (place.where === 'url' ? 'urls' : 'processes')))
}

/** Starts mcp-vitals in front of the servers of a group; `directory` is an empty folder. */
export async function faultTable(directory: string, group: Group) {
  const members = rowsOf(group)
  const ports = await Promise.all(members.map(() => freePort()))
  const kit: Kit = {
    directory,
    ports: [...new Set(ports)],
    stops: [],
    stall: () => Promise.resolve(0),
    alone: inTurn(),
  }
  const changes: Change[] = []
  const subjects = new Map<string, Subject>()
  for (const row of members) subjects.set(row.name, await row.subject(row.place, kit))
  const startedMs = Date.now()
  const onLine = (line: string) => changes.push(...changeOf(line))
  const config = configWith(members.map(({ name }) => [name, subjects.get(name)?.entry]))
  const company = await patientServer(healthy('legacy'))
  kit.stops.push(company.stop)
  const vitals = quickGroups.has(group)
    ? await startVitals({ config: inCompany(config, company.origin), onLine, script: quickVitals })
    : await startVitals({ config, onLine })
  kit.stall = () => standStill(vitals.pid)
  const seen = watch(vitals)
  const stop = async () => {
    await seen.stop()
    await vitals.stop()
    for (const one of kit.stops.toReversed()) await one()
  }
  const run = (row: Row): Promise<Measured> => {
    const subject = subjects.get(row.name)
    if (!subject) throw new Error(`there is no ${row.name}`)
    return measure(row, { subject, url: `${vitals.dataUrl}/${row.name}/mcp`, seen, changes, startedMs })
  }
  return { run, stop }
}

function inTurn(): Kit['alone'] {
  let last: Promise<unknown> = Promise.resolve()
  return (act) => {
    const done = last.then(act)
    last = done.catch(() => undefined) // Whoever acts hears of it.
    return done
  }
}

/** Gives the wall time of its beginning. */
async function standStill(pid: number): Promise<number> {
  const startedMs = Date.now()
  process.kill(pid, 'SIGSTOP')
  await sleep(stallMs)
  process.kill(pid, 'SIGCONT')
  return startedMs
}

function configWith(entries: readonly (readonly [name: string, entry: object | undefined])[]) {
  return {
    heartbeat: { heartbeat_interval_seconds: 1, adaptive_heartbeat: intervals },
    mcpServers: Object.fromEntries(entries),
  }
}

const quickVitals = 'test/peers/quick-vitals.ts'

/** Where most servers fall silent together, nothing that hangs is ended: the fault may be ours. So most are well. */
function inCompany({ mcpServers, ...config }: ReturnType<typeof configWith>, origin: string) {
  const names = Object.keys(mcpServers).map((_name, at) => `well-${at}`)
  return {
    ...config,
    mcpServers: { ...mcpServers, ...Object.fromEntries(names.map((name) => [name, { url: `${origin}/mcp` }])) },
  }
}

interface Bench {
  readonly subject: Subject
  /** Where clients reach it. */
  readonly url: string
  readonly seen: Seen
  readonly changes: readonly Change[]
  readonly startedMs: number
}

/** A probe's time-out is then well below the four seconds of a late answer. */
const settledTimeoutMs = 3500
/** Each thing that must come of a fault; the longest is the end of a client's call. */
const rowPatienceMs = (callSeconds + 60) * 1000
/** Where nothing is to follow, it might follow later. */
const heartbeatsAfterwards = 3
/** What a heartbeat is called that only says something about us. */
const ownStall = 'our own event loop stood still'
const { lateAnswerMs } = defaults.heartbeat
const mostTries = 5
/** The next heartbeat, its answer, and a look at the metrics. */
const heartbeatSeenMs = 8000

async function measure(row: Row, { subject, url: at, seen, changes, startedMs }: Bench): Promise<Measured> {
  const { name, verdict, outcome, method, rung } = row
  let firstMs = startedMs
  let injectedMs = startedMs
  const told = () => changes.filter((change) => change.upstream === name && change.atMs >= firstMs)
  const comes = async <T>(what: string, check: () => T | undefined | false): Promise<T> => {
    const described = () => `${name} ${what}; it was told: ${JSON.stringify(told())}`
    return eventually(check, { timeoutMs: rowPatienceMs, what: 'as below' }).catch((error: unknown) => {
      throw new Error(described(), { cause: error })
    })
  }
  const seriesOf = (metric: string) => seen.seriesOf(name).filter((series) => series.name === metric)
  const sum = (metric: string, wanted: Readonly<Record<string, string>>) =>
    seriesOf(metric)
      .filter(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value))
      .reduce((total, { value }) => total + value, 0)
  const asked = method === undefined ? {} : { method }
  const counted = () => sum('mcp_heartbeat_duration_seconds_count', { outcome, ...asked })
  const unavailable = () => sum('mcp_upstream_unavailable_seconds_total', {})
  const changesSeen = () => sum('mcp_upstream_state_changes_total', { to: verdict })
  let before = { counted: 0, unavailable: 0, changes: 0 }
  const reasons = reasonsOf(row)
  const findVerdict = () =>
    told().find(({ state, reason }) => state === verdict && (!row.isRestless || reasons.verdict?.test(reason)))
  for (let tries = 0, isDone = subject.inject === undefined; !isDone && tries < mostTries; tries++) {
    const { process } = await comes('should be healthy', () => isSettled(seen.debug()?.upstreams[name]))
    if (tries === 0) {
      before = { counted: counted(), unavailable: unavailable(), changes: changesSeen() }
      firstMs = Date.now()
    }
    injectedMs = Date.now()
    injectedMs = (await subject.inject?.(process?.pid ?? undefined, at)) ?? injectedMs
    if (row.isRepeated) await sleep(heartbeatSeenMs)
    isDone = !row.isRepeated || counted() > before.counted
  }
  await comes(`should have heartbeats that are ${outcome}`, () => counted() > before.counted)
  const countedMs = Date.now()
  const found = row.isSilent ? undefined : await comes(`should be ${verdict}`, findVerdict)
  const asks = () => sum('mcp_heartbeat_probe_info', rung === undefined ? {} : { method: rung }) === 1
  await comes(`should be asked ${rung ?? 'anything'}`, asks)
  // Whether a probe or the process's end is noticed first is chance; what the failure is called is not.
  const called = () => {
    const { failures = [], recent = [] } = seen.debug()?.upstreams[name] ?? {}
    const all = [...failures, ...recent].filter(({ at: iso }) => Date.parse(iso) >= firstMs - lateAnswerMs)
    const meant = all.filter((one) => one.outcome === outcome && (method === undefined || one.method === method))
    return meant.map(({ reason }) => reason).filter((reason) => row.isSilent || reason !== ownStall)
  }
  await comes('should have it in its history', () => called().length > 0)
  const beats = () => sum('mcp_heartbeats_total', {})
  const beatsNeeded = beats() + (row.isSilent || row.lingers ? heartbeatsAfterwards : 0)
  await comes('should have more heartbeats', () => beats() >= beatsNeeded)
  const beatReasons = called()
  if (row.action === 'hung') await comes('should be restarted', () => sum('mcp_upstream_restarts_total', {}) > 0)
  await comes(`should be ${row.finally} in the end`, () => sum('mcp_upstream_state', { state: row.finally }) === 1)
  await subject.aftermath?.()
  const restarts = restartReasons.map((why) => [why, sum('mcp_upstream_restarts_total', { reason: why })] as const)
  return {
    up: seriesOf('mcp_upstream_up')[0]?.value,
    unavailableSeconds: unavailable() - before.unavailable,
    changes: changesSeen() - before.changes,
    // Where nothing is told, or it was so from the start, the heartbeat is what was found.
    detectedSeconds: ((rung === undefined && found ? found.atMs : countedMs) - injectedMs) / 1000,
    verdict,
    verdictReason: found?.reason,
    beatReasons,
    hangReasons: told().flatMap(({ state, reason }) => (state === undefined ? [reason] : [])),
    restarts: restarts.filter(([, count]) => count > 0),
    told: told().flatMap(({ state, reason }) => (state === undefined ? [] : [[state, reason]])),
  }
}

function isSettled(upstream: DebugUpstream | undefined): DebugUpstream | false {
  if (upstream?.state !== 'healthy' || upstream.tools === null) return false
  return upstream.heartbeats.total >= 3 && upstream.timeout_ms < settledTimeoutMs && upstream
}

/** The README's table: a line for each fault and conclusion, with the longest time that it took anywhere. */
function markdown(results: readonly { readonly row: Row; readonly measured: Measured }[]): string {
  const lines = Map.groupBy(results, ({ row: { fault } }) => fault)
  const table = [...lines].map(([fault, all]) => {
    const [first] = all
    const seconds = Math.max(...all.map(({ measured }) => measured.detectedSeconds))
    const detected = first?.row.verdict === 'healthy' ? 'never down' : `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`
    const places = new Set(all.map(({ row }) => placeText(row.place)))
    const action = first?.row.action === 'none' ? 'none' : `restart (\`${first?.row.action}\`)`
    return [fault, [...places].join(', '), `\`${first?.row.verdict}\``, `\`${first?.row.outcome}\``, detected, action]
  })
  const header = ['fault', 'servers', 'verdict', 'outcome', 'detected after', 'action']
  return [header, header.map(() => '---'), ...table].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function placeText({ where, transport, era }: Place): string {
  const revision = era === 'modern' ? ' 2026-07-28' : ''
  return `${transport}${revision}${where === 'launched' ? ' (launched)' : ''}`
}

async function main(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-faults-'))
  const results: { readonly row: Row; readonly measured: Measured }[] = []
  try {
    for (const group of groups) {
      const table = await faultTable(directory, group)
      try {
        results.push(
          ...(await Promise.all(rowsOf(group).map(async (row) => ({ row, measured: await table.run(row) })))),
        )
      } finally {
        await table.stop()
      }
    }
    console.log(markdown(results.toSorted((a, b) => rows.indexOf(a.row) - rows.indexOf(b.row))))
  } finally {
    await rm(directory, { recursive: true })
  }
}

if (import.meta.main) await main()

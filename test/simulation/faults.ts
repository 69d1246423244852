import type { Traits } from './answers.ts'
import { type Random, between, pick, seeded } from './random.ts'
import type { VirtualTime } from './virtual-time.ts'
import type { ProbeMode } from '../../src/heartbeat/probe.ts'
import type { RestartPolicy } from '../../src/upstreams/upstream.ts'

/** How an upstream is reached, and who runs it. */
export type ServerKind = 'url' | 'launched' | 'stdio'

/** What befalls one server from `atMs` to `untilMs`. */
export type Fault = { readonly atMs: number; readonly untilMs: number } &
  /**
   * Nobody listens. A process of ours ends, with exit code 0 if it is done, and those started until then end before
   * they are ready.
   */
  (
    | { readonly kind: 'crash'; readonly isDone?: boolean }
    /**
     * It does nothing, because a signal stopped it or it waits for a lock, or it spins; afterwards it answers what was
     * asked meanwhile. A process of ours that is started in its place is well.
     */
    | { readonly kind: 'hang'; readonly how: 'stopped' | 'spinning' | 'deadlocked' }
    /** It uses more memory than it may, and serves as before. */
    | { readonly kind: 'leak' }
    /** What is sent is lost. */
    | { readonly kind: 'partition' }
    /** It answers with what is no JSON-RPC, or with 500. */
    | { readonly kind: 'garbage' }
    | { readonly kind: 'errors' }
    /** It answers 401. */
    | { readonly kind: 'locked' }
    /** It answers all the same: slower, after so long, or not each time (but it never fails twice in a row). */
    | { readonly kind: 'slow'; readonly factor: number; readonly plusMs: number }
    | { readonly kind: 'late'; readonly delayMs: number }
    | { readonly kind: 'flaky'; readonly ratio: number }
  )

/** What befalls us. */
export type OwnFault = { readonly atMs: number } & (
  | { readonly kind: 'stall'; readonly forMs: number }
  /** Our event loop is busy: every second it stands still for so long. */
  | { readonly kind: 'overload'; readonly untilMs: number; readonly stallMs: number }
  | { readonly kind: 'wall_jump'; readonly byMs: number }
)

export interface ServerPlan {
  readonly name: string
  readonly kind: ServerKind
  readonly rttMs: number
  /** From the start of a process until it answers. */
  readonly bootMs: number
  /** In the order of time; they do not overlap. */
  readonly faults: readonly Fault[]
  /** Of a process of ours; it is always started again unless given. */
  readonly restart?: RestartPolicy
  /** Whether the memory of a process of ours has a limit. */
  readonly hasMemoryLimit?: boolean
  /** Those of a legacy server unless given. */
  readonly traits?: Traits
  /** `active` unless given. */
  readonly probe?: ProbeMode
  /** Sessions with a server behind a URL; none unless given. */
  readonly sessions?: readonly SessionPlan[]
  /** What its clients do; nothing unless given. */
  readonly errands?: readonly Errand[]
}

/** One client with a session, for as long as it lasts; it opens another when the server has forgotten the one it had. */
export interface SessionPlan {
  readonly atMs: number
  readonly untilMs: number
  /** It uses the session every so often, each time for so long. */
  readonly gapMs: number
  readonly worksForMs: number
  /** When the server answers everybody but this session. */
  readonly hangs: readonly { readonly atMs: number; readonly untilMs: number }[]
}

/** What clients ask of one server. */
export type Errand = { readonly atMs: number } & (
  | { readonly kind: 'steady'; readonly untilMs: number; readonly gapMs: number }
  /** Many at once: more than may be under way, and perhaps more than may wait. */
  | { readonly kind: 'burst'; readonly count: number }
  /** One request that keeps the whole server at work, or waiting for somebody else. */
  | { readonly kind: 'work'; readonly forMs: number; readonly usesCpu: boolean }
)

export interface Plan {
  readonly durationMs: number
  readonly servers: readonly ServerPlan[]
  readonly own: readonly OwnFault[]
}

/** What has to lead to `down`, as long as it lasts; with the others the server answers. */
export function isOutage({ kind }: Fault): boolean {
  return kind !== 'slow' && kind !== 'late' && kind !== 'flaky' && kind !== 'leak'
}

const second = 1000
const minute = 60 * second
const hour = 60 * minute

/** A small world in which everything goes wrong that can. */
export function anyFaults(seed: number, upstreams: number, hours: number): Plan {
  const random = seeded(seed, 'faults')
  const durationMs = hours * hour
  const partitions = eventsOf(random, durationMs, { gapMs: [10 * minute, 40 * minute] }, (atMs) => ({
    atMs,
    untilMs: atMs + between(random, 10 * second, 4 * minute),
    share: between(random, 0.3, 1),
  }))
  const remoteShare = random()
  const servers = Array.from({ length: upstreams }, (_, at): ServerPlan => {
    const kind = random() < remoteShare ? 'url' : pick(random, ['launched', 'stdio'])
    const apart = kind !== 'url' ? [] : partitions.filter(({ share }) => random() < share)
    const cut = apart.map(({ atMs, untilMs }): Fault => ({ kind: 'partition', atMs, untilMs }))
    const own = eventsOf(random, durationMs, { gapMs: [3 * minute, 15 * minute] }, (atMs) =>
      anyFault(random, kind, atMs),
    )
    const isFree = (fault: Fault) =>
      cut.every(({ atMs, untilMs }) => fault.untilMs + 3 * minute < atMs || untilMs + 3 * minute < fault.atMs)
    const manner = anyManner(seeded(seed, `manner ${at}`))
    // Where only clients ask, and many at once, failures that are two apart may come one after the other.
    const isFair = ({ kind: what }: Fault) => what !== 'flaky' || manner.probe === 'active'
    const faults = [...cut, ...own.flat().filter(isFree)].filter(isFair).toSorted((a, b) => a.atMs - b.atMs)
    const locked = faults.filter((fault) => fault.kind === 'hang' && fault.how === 'deadlocked')
    // What waits for a lock mostly does so for a client.
    const victims = locked.map(({ atMs }): Errand => ({ kind: 'burst', atMs: atMs + 1, count: 1 }))
    const errands = [...anyErrands(seeded(seed, `clients ${at}`), durationMs), ...victims]
    const rttMs = between(random, 1, 150)
    return {
      name: `${kind}-${at}`,
      kind,
      rttMs,
      bootMs: between(random, 200, 8000),
      faults,
      errands,
      ...manner,
      sessions: anySessions(seeded(seed, `sessions ${at}`), kind, durationMs),
    }
  })
  return {
    durationMs,
    servers,
    own: eventsOf(random, durationMs, { gapMs: [2 * minute, 12 * minute] }, (atMs) => ownFault(random, atMs)),
  }
}

/** What kind of server it is, and how it is configured; most are as most are. */
function anyManner(random: Random): Pick<ServerPlan, 'restart' | 'hasMemoryLimit' | 'traits' | 'probe'> {
  const traits: Traits = {
    era: pick(random, ['legacy', 'legacy', 'legacy', 'modern', 'both']),
    ping: pick(random, ['answered', 'answered', 'answered', 'unsupported', 'silent']),
    unknownSession: pick(random, [400, 404]),
  }
  // One whose first end is its last has little more to tell, and one that is not asked still less.
  const [policy, mode] = [random(), random()]
  return {
    traits,
    restart: policy < 0.05 ? 'never' : policy < 0.15 ? 'on_failure' : 'always',
    hasMemoryLimit: random() < 0.7,
    probe: mode < 0.03 ? 'off' : mode < 0.1 ? 'passive' : 'active',
  }
}

/** A third of the servers behind URLs have sessions. */
function anySessions(random: Random, server: ServerKind, durationMs: number): readonly SessionPlan[] {
  if (server === 'stdio' || random() < 0.67) return []
  return Array.from({ length: 1 + Math.floor(random() * 3) }, () => {
    const atMs = between(random, 0, 20 * minute)
    const hangs = eventsOf(random, durationMs, { gapMs: [8 * minute, 40 * minute] }, (hangsAtMs) => ({
      atMs: hangsAtMs,
      untilMs: hangsAtMs + between(random, 10 * second, 5 * minute),
    }))
    return {
      atMs,
      untilMs: between(random, atMs, durationMs),
      gapMs: between(random, 20 * second, 10 * minute),
      worksForMs: between(random, 0, 30 * second),
      hangs,
    }
  })
}

/** Clients come and go; half of the servers have none. */
function anyErrands(random: Random, durationMs: number): readonly Errand[] {
  if (random() < 0.5) return []
  return eventsOf(random, durationMs, { gapMs: [minute, 15 * minute] }, (atMs) => anErrand(random, atMs))
}

function anErrand(random: Random, atMs: number): Errand {
  const kind = pick(random, ['steady', 'steady', 'steady', 'burst', 'work', 'work'])
  switch (kind) {
    case 'steady':
      return {
        kind,
        atMs,
        untilMs: atMs + between(random, 30 * second, 4 * minute),
        gapMs: 10 ** between(random, 2.5, 4),
      }
    case 'burst':
      return { kind, atMs, count: Math.floor(between(random, 5, 230)) }
    case 'work':
      return { kind, atMs, forMs: between(random, 5, 55) * second, usesCpu: random() < 0.7 }
  }
}

/** Things that happen one after the other, with a gap in between, and quiet minutes at both ends. */
function eventsOf<T extends object>(
  random: Random,
  durationMs: number,
  { gapMs: [least, most] }: { readonly gapMs: readonly [number, number] },
  make: (atMs: number) => T,
): T[] {
  const events: T[] = []
  let atMs = between(random, minute, most)
  while (atMs < durationMs - 8 * minute) {
    const event = make(atMs)
    events.push(event)
    atMs = endOf(event, atMs) + between(random, least, most)
  }
  return events
}

function endOf(event: object, atMs: number): number {
  const last: unknown = Array.isArray(event) ? event.at(-1) : event
  const isLong = typeof last === 'object' && last !== null && 'untilMs' in last && typeof last.untilMs === 'number'
  return isLong ? Number(last.untilMs) : atMs
}

/** One fault, or several that belong together. */
function anyFault(random: Random, server: ServerKind, atMs: number): readonly Fault[] {
  const kind = pick(random, [
    'crash',
    'crash',
    'hang',
    'garbage',
    'errors',
    'locked',
    'slow',
    'late',
    'flaky',
    'flapping',
    'leak',
  ])
  const untilMs = atMs + between(random, 5 * second, 4 * minute)
  switch (kind) {
    case 'slow':
      return [{ kind, atMs, untilMs, factor: between(random, 1, 10), plusMs: between(random, 0, 500) }]
    case 'late':
      return [{ kind, atMs, untilMs, delayMs: between(random, 2 * second, 9 * second) }]
    case 'flaky':
      return [{ kind, atMs, untilMs, ratio: between(random, 0.1, 0.5) }]
    case 'flapping':
      return flapping(random, atMs)
    case 'crash':
      // A process that ends is often well again as soon as it was started anew.
      return [{ kind, atMs, untilMs: random() < 0.5 ? atMs : untilMs, isDone: random() < 0.3 }]
    case 'errors':
    case 'locked':
      // A stdio server has neither statuses nor credentials.
      return [{ kind: server === 'stdio' ? 'garbage' : kind, atMs, untilMs }]
    case 'hang':
      return [{ kind, atMs, untilMs, how: pick(random, ['stopped', 'spinning', 'deadlocked']) }]
    case 'garbage':
      return [{ kind, atMs, untilMs }]
    case 'leak':
      // What a server of somebody else uses is nothing to us.
      return server === 'url' ? [] : [{ kind, atMs, untilMs }]
  }
}

function flapping(random: Random, fromMs: number): readonly Fault[] {
  const kind = pick(random, ['crash', 'hang', 'garbage'])
  const faults: Fault[] = []
  let atMs = fromMs
  for (let left = 3 + Math.floor(random() * 4); left > 0; left--) {
    const untilMs = atMs + between(random, second, minute)
    faults.push(kind === 'hang' ? { kind, atMs, untilMs, how: 'stopped' } : { kind, atMs, untilMs })
    atMs = untilMs + between(random, second, minute)
  }
  return faults
}

function ownFault(random: Random, atMs: number): OwnFault {
  switch (pick(random, ['stall', 'stall', 'overload', 'wall_jump'])) {
    case 'stall':
      return { kind: 'stall', atMs, forMs: 10 ** between(random, 2, 4.5) }
    case 'overload':
      return {
        kind: 'overload',
        atMs,
        untilMs: atMs + between(random, 10 * second, 3 * minute),
        stallMs: between(random, 50, 700),
      }
    case 'wall_jump':
      return { kind: 'wall_jump', atMs, byMs: between(random, -24 * hour, 24 * hour) }
  }
}

/** A calm fleet in which each server falls silent once an hour for two to five minutes, some of them after a prelude. */
export function hourlyOutages(seed: number, upstreams: number, hours: number, preludes: number): Plan {
  const servers = Array.from({ length: upstreams }, (_, at): ServerPlan => {
    const random = seeded(seed, `server ${at}`)
    const faults = Array.from({ length: Math.floor(hours) }, (_hour, hourAt) => {
      const atMs = hourAt * hour + between(random, 10 * minute, 50 * minute)
      const outage: Fault = {
        kind: 'hang',
        how: 'stopped',
        atMs,
        untilMs: atMs + between(random, 2 * minute, 5 * minute),
      }
      const prelude = preludeOf(random, atMs)
      return random() < preludes ? [prelude, outage] : [outage]
    })
    return { name: `server-${at}`, kind: 'url', rttMs: between(random, 1, 150), bootMs: 0, faults: faults.flat() }
  })
  return { durationMs: hours * hour, servers, own: [] }
}

/** One to five minutes in which it is about to fail, and shows it. */
function preludeOf(random: Random, untilMs: number): Fault {
  const atMs = untilMs - between(random, minute, 5 * minute)
  if (random() < 0.5) return { kind: 'slow', atMs, untilMs, factor: between(random, 4, 10), plusMs: 100 }
  return { kind: 'flaky', atMs, untilMs, ratio: between(random, 0.2, 0.5) }
}

export interface Ourselves {
  readonly time: VirtualTime
  /** What the meter of our event loop says. */
  readonly ownLoad: { loopDelayP99Ms: number; loopUtilisation: number }
  readonly onTrouble: (fromMs: number, untilMs: number) => void
  /** The same, where all of the meter's signs say that it is too much. */
  readonly onOverload: (fromMs: number, untilMs: number) => void
}

/** From here on a loop that stands still every second counts as wholly overloaded (`defaults.load`). */
const heavyStallMs = 250
/** The meter looks back over this long. */
const loadWindowMs = 10 * second

/** Lets a fault of our own happen when it is due. */
export function befall(fault: OwnFault, { time, ownLoad, onTrouble, onOverload }: Ourselves): void {
  const measure = (loopDelayP99Ms: number, loopUtilisation: number) =>
    Object.assign(ownLoad, { loopDelayP99Ms, loopUtilisation })
  const calmDown = () => measure(0, 0.05)
  switch (fault.kind) {
    case 'wall_jump':
      return time.at(fault.atMs, () => time.jumpWall(fault.byMs))
    case 'stall':
      return time.at(fault.atMs, () => {
        onTrouble(time.now(), time.now() + fault.forMs)
        time.stall(fault.forMs)
        measure(fault.forMs, Math.min(1, fault.forMs / loadWindowMs))
        time.at(time.now() + loadWindowMs, calmDown)
      })
    case 'overload': {
      onTrouble(fault.atMs, fault.untilMs)
      if (fault.stallMs >= heavyStallMs) onOverload(fault.atMs, fault.untilMs)
      const stall = () => {
        time.stall(fault.stallMs)
        measure(fault.stallMs, 0.1 + fault.stallMs / second)
        const nextMs = time.now() + second - fault.stallMs
        if (nextMs < fault.untilMs) time.at(nextMs, stall)
        else time.at(time.now() + loadWindowMs, calmDown)
      }
      return time.at(fault.atMs, stall)
    }
  }
}

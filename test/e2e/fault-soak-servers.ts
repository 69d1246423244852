/** The servers of the soak of faults: real processes at every place, official ones and patients that fall ill on demand. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../../deploy/stack/ports.ts'
import { everythingStdio } from '../peers/everything.ts'
import { type RunningProcess, listeningUrl, repoRoot, startProcess } from '../peers/spawn.ts'
import { halfOpenable } from '../support/half-open.ts'
import { type Place, launched, ourProcesses, pathOf, stdio, url, urls } from './fault-places.ts'

/** How often a server is asked: at short intervals, so that there are more faults in a minute, or at the defaults. */
export type Pace = 'quick' | 'default'
export const quickIntervals = { min_interval_seconds: 1, max_interval_seconds: 2 } as const

/** `official` ones are of the SDKs; a `patient` is a server of ours that falls ill when it is told to. */
type Make = 'official' | 'patient'

export interface Server {
  readonly name: string
  readonly place: Place
  readonly make: Make
  readonly pace: Pace
  /** Its entry in `mcpServers`. */
  readonly entry: object
  /** What a patient suffers from, read at SIGUSR2, and the file while which exists it has a second tool. */
  readonly ailmentFile: string
  readonly toolsFile: string
  /** Only where the process is not one of mcp-vitals'. */
  readonly guest: Guest | undefined
}

/** A server that we start, and mcp-vitals only knows by its URL. */
export interface Guest {
  readonly pid: () => number
  readonly start: () => Promise<void>
  /** The network on the way to it fails, and is mended. */
  readonly cut: () => void
  readonly mend: () => void
  readonly stop: () => Promise<void>
}

export interface Wish {
  readonly place: Place
  readonly make: Make
  readonly pace: Pace
}

/** Every place with both makes at short intervals, and some at the defaults. */
export const wholeFleet: readonly Wish[] = [
  ...[...ourProcesses, ...urls].flatMap((place) => [
    { place, make: 'official', pace: 'quick' } as const,
    { place, make: 'patient', pace: 'quick' } as const,
  ]),
  ...[stdio('legacy'), stdio('modern'), launched('sse', 'legacy'), url('http', 'modern'), url('sse', 'legacy')].map(
    (place) => ({ place, make: 'patient', pace: 'default' }) as const,
  ),
]

/** As few as have every kind of fault. */
export const smallFleet: readonly Wish[] = [
  { place: stdio('legacy'), make: 'patient', pace: 'quick' },
  { place: stdio('modern'), make: 'official', pace: 'quick' },
  { place: launched('http', 'modern'), make: 'patient', pace: 'quick' },
  { place: launched('sse', 'legacy'), make: 'patient', pace: 'quick' },
  { place: url('http', 'modern'), make: 'official', pace: 'quick' },
  { place: url('http', 'legacy'), make: 'patient', pace: 'quick' },
  { place: url('sse', 'legacy'), make: 'patient', pace: 'quick' },
]

/** Gets one server ready; a guest is started. */
export async function serverFor(wish: Wish, directory: string, env: Environment): Promise<Server> {
  const { place, make, pace } = wish
  const { where, transport, era } = place
  const name = [make, where, ...(where === 'stdio' ? [] : [transport]), era, pace].join('-')
  const [ailmentFile, toolsFile] = [join(directory, `${name}.ailment`), join(directory, `${name}.tools`)]
  await Promise.all([writeFile(ailmentFile, ''), writeFile(toolsFile, '')])
  const known = { name, place, make, pace, ailmentFile, toolsFile }
  const patientEnv = { AILMENT_FILE: ailmentFile, TOOLS_FILE: toolsFile, LATE_MS: String(lateMs) }
  const port = String(await freePort())
  const all = { ...env, ...(make === 'patient' && patientEnv), PORT: port }
  const entry = { ...(pace === 'quick' && quickHeartbeat), max_memory_mb: memoryLimitMb, ...patience }
  const args = argsOf(wish)
  // Some have a child of their own, which must not outlive them.
  const withChild = { ...all, ...(make === 'patient' && era === 'legacy' && { GRANDCHILD: '1' }) }
  const ours = { command: process.execPath, args, env: withChild, cwd: repoRoot }
  if (where === 'stdio') return { ...known, entry: { ...entry, ...ours }, guest: undefined }
  const direct = `http://127.0.0.1:${port}`
  if (where === 'launched') {
    return { ...known, entry: { ...entry, url: direct + pathOf(transport), launch: ours }, guest: undefined }
  }
  const { origin, guest } = await guestAt(args, all, make === 'patient')
  const { max_memory_mb: _ours, ...remote } = entry
  return { ...known, entry: { ...remote, url: origin + pathOf(transport) }, guest }
}

/** After how long a patient answers that is late: above every time-out of a sidecar that is well itself. */
const lateMs = 7000
/** A patient that grows is above this with what it grows by alone. */
const memoryLimitMb = 280
/** A client's call may take long. */
const patience = { stall_timeout_seconds: 240 }
const quickHeartbeat = { heartbeat: { heartbeat_interval_seconds: 1, adaptive_heartbeat: quickIntervals } }

type Environment = Readonly<Record<string, string>>

function argsOf({ place: { transport, era }, make }: Wish): readonly string[] {
  if (make === 'patient') return ['test/peers/patient.ts', transport, era]
  const [everything] = everythingStdio.args
  if (transport === 'sse' || era === 'modern') return ['test/peers/soak-server.ts', transport]
  if (transport === 'stdio') return [everything, 'stdio']
  const preloads = ['./deploy/demo/loopback-only.mjs', './test/peers/announce-port.mjs']
  return [...preloads.flatMap((file) => ['--import', file]), everything, 'streamableHttp']
}

async function guestAt(args: readonly string[], env: Environment, hasWay: boolean) {
  const direct = `http://127.0.0.1:${env.PORT}`
  const run = () => startProcess({ args, env, ready: listeningUrl, termGraceMs: 1000 })
  let running: RunningProcess<string> = await run()
  const way = hasWay ? await halfOpenable(new URL(direct)) : undefined
  const guest: Guest = {
    pid: () => running.pid,
    start: async () => {
      await running.exited
      running = await run()
    },
    cut: () => way?.cut(),
    mend: () => way?.mend(),
    stop: async () => {
      await way?.stop()
      await running.stop()
    },
  }
  return { origin: way?.origin ?? direct, guest }
}

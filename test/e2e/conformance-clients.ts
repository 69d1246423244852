/**
 * Runs the client scenarios of the official MCP conformance suite twice, against the suite's own servers directly and
 * through a mcp-vitals with `public_url`, and compares the verdicts check by check.
 *
 *   npm run conformance:clients                                all of them, in every revision that they are for
 *   npm run conformance:clients -- auth/metadata-default …     these only
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { endWithSignals, repoRoot } from '../peers/spawn.ts'

/** One scenario in one revision; those of an extension name none. */
export interface ClientScenario {
  readonly name: string
  readonly version: string | undefined
}

/** The verdicts of each check, each once and in a fixed order: how often it was made says nothing. */
export type Verdicts = ReadonlyMap<string, string>

export interface ClientComparison {
  readonly scenario: ClientScenario
  readonly direct: Verdicts
  readonly through: Verdicts
  readonly differences: readonly ClientDifference[]
}

export interface ClientDifference {
  readonly check: string
  readonly direct: string
  readonly through: string
  /** Why a proxy at another address cannot but differ here; undefined when it could. */
  readonly why: string | undefined
}

interface Explanation {
  readonly scenario?: string
  readonly check: string
  readonly direct: string
  readonly through: string
  readonly why: string
}

/** Every difference that is there for a reason; the list is closed. */
const explained: readonly Explanation[] = [
  {
    check: 'resource-parameter-matches-prm',
    direct: 'SUCCESS',
    through: 'FAILURE',
    why:
      'the suite compares the resource that the client asks a token for with the address of its own server; ' +
      'the client uses ours, as RFC 9728 §3.3 demands',
  },
  ...(
    [
      ['client-registration', 'FAILURE'],
      ['authorization-request', 'FAILURE'],
      ['token-request', 'FAILURE'],
      ['valid-bearer-token', 'absent'],
    ] as const
  ).map(([check, through]) => ({
    scenario: 'auth/2025-03-26-oauth-endpoint-fallback',
    check,
    direct: 'SUCCESS',
    through,
    why:
      'the server has no metadata, so a client of 2025-03-26 logs in at the address where it finds the server, ' +
      'and ours is no authorization server',
  })),
]

const suite = 'node_modules/@modelcontextprotocol/conformance/dist/index.js'
const client = 'node test/peers/conformance-client.ts'
const clientDeadlineMs = 30_000
const runDeadlineMs = 90_000

/** Every client scenario that the suite ships, once for each revision of the two eras and the oldest that it is for. */
export async function clientScenarios(): Promise<ClientScenario[]> {
  const text = await runSuite(['list', '--client'])
  return scenariosIn(text)
}

/** Reads `- auth/iss-supported [2025-11-25,2026-07-28]`: the newest legacy revision and the modern one are enough. */
export function scenariosIn(listing: string): ClientScenario[] {
  const after = listing.slice(Math.max(0, listing.indexOf('Client scenarios')))
  const end = after.indexOf('Authorization server scenarios')
  const section = end === -1 ? after : after.slice(0, end)
  return [...section.matchAll(/^ *- (\S+) \[([^\]]*)\]/gm)].flatMap(
    ([, name = '', versions = '']): ClientScenario[] => {
      if (versions === 'extension') return [{ name, version: undefined }]
      const all = versions.split(',')
      const legacy = all.filter((version) => version < '2026').at(-1)
      const modern = all.find((version) => version >= '2026')
      return [legacy, modern].flatMap((version) => (version === undefined ? [] : [{ name, version }]))
    },
  )
}

/** Runs one scenario both ways, one after the other. */
export async function compareClient(scenario: ClientScenario): Promise<ClientComparison> {
  const direct = await verdictsOf(scenario, {})
  const through = await verdictsOf(scenario, { THROUGH_VITALS: 'yes' })
  return { scenario, direct, through, differences: differencesOf(scenario, direct, through) }
}

/** The checks on which the two runs disagree; a side without the check reads `absent`. */
export function differencesOf({ name }: ClientScenario, direct: Verdicts, through: Verdicts): ClientDifference[] {
  const checks = [...new Set([...direct.keys(), ...through.keys()])]
  return checks.flatMap((check) => {
    const one = direct.get(check) ?? 'absent'
    const other = through.get(check) ?? 'absent'
    if (one === other) return []
    const reason = explained.find(
      (known) =>
        (known.scenario ?? name) === name && known.check === check && known.direct === one && known.through === other,
    )
    return [{ check, direct: one, through: other, why: reason?.why }]
  })
}

const checksFile = z.array(z.looseObject({ id: z.string(), status: z.string() }))

async function verdictsOf({ name, version }: ClientScenario, env: Readonly<Record<string, string>>): Promise<Verdicts> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-conformance-'))
  try {
    const revision = version === undefined ? [] : ['--spec-version', version]
    const how = ['--scenario', name, ...revision, '--timeout', String(clientDeadlineMs), '-o', directory]
    const output = await runSuite(['client', '--command', client, ...how], env)
    const files = await readdir(directory, { recursive: true })
    const file = files.find((path) => path.endsWith('checks.json'))
    if (file === undefined) throw new Error(`the conformance suite made no check of ${name}:\n${output}`)
    return verdictsIn(checksFile.parse(JSON.parse(await readFile(join(directory, file), 'utf8'))))
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** What is only for information is no verdict. */
export function verdictsIn(checks: readonly { readonly id: string; readonly status: string }[]): Verdicts {
  const found = new Map<string, Set<string>>()
  for (const { id, status } of checks) {
    if (status === 'INFO') continue
    const all = found.get(id) ?? new Set()
    found.set(id, all.add(status))
  }
  return new Map([...found].map(([id, all]) => [id, [...all].toSorted().join('+')]))
}

/** The suite exits with 1 when a check fails; only one that could not run, or ran too long, is an error here. */
function runSuite(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const options = {
    cwd: repoRoot,
    timeout: runDeadlineMs,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, PATH: `${join(process.execPath, '..')}:${process.env['PATH'] ?? ''}`, ...env },
  }
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [suite, ...args], options, (error, stdout, stderr) => {
      const output = stdout + stderr
      if (error && error.code !== 1) reject(new Error(`the conformance suite broke off:\n${output}`, { cause: error }))
      else resolve(output)
    })
  })
}

const count = (verdicts: Verdicts, status: string) => [...verdicts.values()].filter((one) => one === status).length

/** One line for each difference and each scenario. */
export function formatComparison({ scenario, direct, through, differences }: ClientComparison): string {
  const name = `${scenario.name} ${scenario.version ?? 'extension'}`
  const lines = differences.map(
    ({ check, direct: one, through: other, why }) =>
      `${name} › ${check}: ${one} direct, ${other} through the proxy (${why ?? 'NOT EXPLAINED'})`,
  )
  const totals = [direct, through].map((side) => `${count(side, 'SUCCESS')} of ${side.size}`)
  return [...lines, `${name}: ${totals[0]} passed direct, ${totals[1]} through the proxy`].join('\n')
}

/** Two at a time: each is a suite, a client and a mcp-vitals. */
const atATime = 2

async function main(names: readonly string[]): Promise<number> {
  const all = await clientScenarios()
  const wanted = names.length === 0 ? all : all.filter(({ name }) => names.includes(name))
  if (wanted.length === 0) throw new Error(`no such scenario; there are ${all.map(({ name }) => name).join(', ')}`)
  const waiting = [...wanted]
  const done: ClientComparison[] = []
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const comparison = await compareClient(next)
      done.push(comparison)
      console.log(formatComparison(comparison))
    }
  }
  await Promise.all(Array.from({ length: atATime }, work))
  const sum = (side: 'direct' | 'through') => done.reduce((total, one) => total + count(one[side], 'SUCCESS'), 0)
  const checks = done.reduce((total, { direct }) => total + direct.size, 0)
  const differences = done.flatMap((one) => one.differences)
  const unexplained = differences.filter(({ why }) => why === undefined)
  console.log(
    `${done.length} scenarios, ${checks} checks: ${sum('direct')} passed direct, ${sum('through')} through the proxy, ` +
      `${differences.length} differences, ${unexplained.length} of them not explained`,
  )
  return unexplained.length === 0 ? 0 : 1
}

if (import.meta.main) {
  endWithSignals()
  process.exitCode = await main(process.argv.slice(2))
}

/**
 * Runs the official MCP conformance suite against a server directly and through a proxy, and compares the runs check by
 * check: a transparent proxy changes no verdict, good or bad. Behind mcp-vitals the same server also stands as a stdio
 * and as an HTTP+SSE server, where a list holds each difference that the protocol itself makes.
 *
 *   npm run conformance                      through mcp-vitals, to servers of all three transports
 *   npm run conformance -- --through pipe    through the bare node:http pipe of the benchmark
 *   npm run conformance -- --direct URL      another server, directly and through mcp-vitals; --through URL another proxy
 *   npm run conformance -- --requirements 2026-07-28
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { endWithSignals, repoRoot, startPeer } from '../peers/spawn.ts'
import { startVitals } from '../support/vitals.ts'
import { type Behind, behinds, isApplicable, judge } from './conformance-explanations.ts'

/** The requirement sets that the suite ships, one per era. */
export const requirementSets = ['2025-11-25', '2026-07-28'] as const
export type RequirementSet = (typeof requirementSets)[number]

/** One verdict of the suite. `key` is unique in a run: scenario, check id, and which occurrence of it. */
export interface Check {
  readonly key: string
  readonly status: string
  readonly errorMessage: string | undefined
}

/** A check whose verdict differs; a side without the check reads `absent`. */
export interface Difference {
  readonly requirements: RequirementSet
  readonly key: string
  readonly direct: string
  readonly through: string
  readonly errorMessage: string | undefined
}

/** One requirement set, run both ways. */
export interface Comparison {
  readonly requirements: RequirementSet
  readonly behind: Behind
  readonly direct: readonly Check[]
  readonly through: readonly Check[]
  readonly differences: readonly Difference[]
}

/** A proxy in front of a server of some transport. */
export interface Through {
  readonly behind: Behind
  readonly url: string
}

export interface CompareOptions {
  readonly directUrl: string
  readonly through: readonly Through[]
  readonly requirements?: readonly RequirementSet[]
}

/** Runs every requirement set against all URLs where it applies, one run after the other. */
export async function compareConformance(options: CompareOptions): Promise<Comparison[]> {
  const { directUrl, requirements = requirementSets } = options
  const comparisons: Comparison[] = []
  for (const set of requirements) {
    const direct = await runConformance(directUrl, set)
    for (const { behind, url } of options.through) {
      if (!isApplicable(behind, set)) continue
      const through = await runConformance(url, set)
      const differences = differencesOf(set, direct, through)
      comparisons.push({ requirements: set, behind, direct, through, differences })
    }
  }
  return comparisons
}

/** What is wrong with a comparison, in words; nothing where the proxy is transparent. */
export function faultsOf({ requirements, behind, direct, differences }: Comparison): string[] {
  const { unexplained, outdated } = judge(behind, requirements, differences)
  const where = `${requirements}  ${behind}`
  return [
    ...(direct.length === 0 ? [`${where}  no check ran`] : []),
    ...unexplained.map(({ key, direct, through, errorMessage }) =>
      `${where}  ${key}: ${direct} direct, ${through} through the proxy  ${errorMessage ?? ''}`.trimEnd(),
    ),
    ...outdated.map((text) => `${where}  no longer occurs, so its explanation has to go: ${text}`),
  ]
}

/** The checks on which the two runs disagree, in the order of the suite. */
export function differencesOf(
  requirements: RequirementSet,
  direct: readonly Check[],
  through: readonly Check[],
): Difference[] {
  const directByKey = new Map(direct.map((check) => [check.key, check]))
  const throughByKey = new Map(through.map((check) => [check.key, check]))
  const keys = new Set([...directByKey.keys(), ...throughByKey.keys()])
  return [...keys].flatMap((key) => {
    const one = directByKey.get(key)
    const other = throughByKey.get(key)
    if (one?.status === other?.status) return []
    const errorMessage = other?.errorMessage ?? one?.errorMessage
    return [{ requirements, key, direct: one?.status ?? 'absent', through: other?.status ?? 'absent', errorMessage }]
  })
}

const checksFile = z.array(z.looseObject({ id: z.string(), status: z.string(), errorMessage: z.string().optional() }))

const suite = 'node_modules/@modelcontextprotocol/conformance/dist/index.js'
const runDeadlineMs = 180_000

/** Runs one requirement set against one URL and reads the verdicts that the suite wrote. */
export async function runConformance(url: string, requirements: RequirementSet): Promise<Check[]> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-conformance-'))
  try {
    const output = await runSuite(['server', '--url', url, '--requirements', requirements, '-o', directory])
    const checks = await readChecks(directory)
    if (checks.length === 0) throw new Error(`the conformance suite made no check against ${url}:\n${output}`)
    return checks
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** The suite exits with 1 when a check fails; only one that could not run, or ran too long, is an error here. */
function runSuite(args: readonly string[]): Promise<string> {
  const options = { cwd: repoRoot, timeout: runDeadlineMs, maxBuffer: 64 * 1024 * 1024 }
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [suite, ...args], options, (error, stdout, stderr) => {
      const output = stdout + stderr
      if (error && error.code !== 1) reject(new Error(`the conformance suite broke off:\n${output}`, { cause: error }))
      else resolve(output)
    })
  })
}

async function readChecks(directory: string): Promise<Check[]> {
  const checks: Check[] = []
  for (const run of (await readdir(directory)).toSorted()) {
    const occurrences = new Map<string, number>()
    const file: unknown = JSON.parse(await readFile(join(directory, run, 'checks.json'), 'utf8'))
    for (const { id, status, errorMessage } of checksFile.parse(file)) {
      const nth = (occurrences.get(id) ?? 0) + 1
      occurrences.set(id, nth)
      checks.push({ key: `${scenarioOf(run)} › ${id}${nth > 1 ? ` #${nth}` : ''}`, status, errorMessage })
    }
  }
  return checks
}

/** `server-tools-list-2026-11-22T12-31-51-820Z` → `tools-list`. */
function scenarioOf(directoryName: string): string {
  return directoryName.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, '')
}

const passed = (checks: readonly Check[]) => checks.filter(({ status }) => status === 'SUCCESS').length
const failures = (checks: readonly Check[]) => checks.filter(({ status }) => status === 'FAILURE').length

/** The report as text: the faults, then one line of totals per comparison. */
export function formatComparisons(comparisons: readonly Comparison[]): string {
  const totals = comparisons.map((comparison) => {
    const { requirements, behind, direct, through, differences } = comparison
    const { unexplained } = judge(behind, requirements, differences)
    return [
      `${requirements}, server over ${behind}: ${passed(direct)} passed direct, ${passed(through)} passed through the proxy,`,
      `differences: ${differences.length} (${differences.length - unexplained.length} explained by the protocol),`,
      `${direct.length} checks; ${failures(direct)} fail direct, ${failures(through)} fail through the proxy`,
    ].join(' ')
  })
  return [...comparisons.flatMap(faultsOf), ...totals].join('\n')
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      direct: { type: 'string' },
      through: { type: 'string' },
      requirements: { type: 'string', multiple: true },
    },
  })
  const wanted = values.requirements ?? requirementSets
  const requirements = requirementSets.filter((set) => wanted.includes(set))
  if (requirements.length === 0) throw new Error(`unknown --requirements, use one of ${requirementSets.join(', ')}`)
  const stops: Stops = []
  try {
    const directUrl = values.direct ?? (await started(startPeer('test/peers/everything-v2.ts'), stops)).ready
    const proxies = await startProxy(values.through, directUrl, stops)
    // Somebody else's server has no other form that we could put behind a bridge.
    const through = values.direct === undefined ? proxies : proxies.filter(({ behind }) => behind === 'http')
    const comparisons = await compareConformance({ directUrl, through, requirements })
    console.log(formatComparisons(comparisons))
    return comparisons.flatMap(faultsOf).length === 0 ? 0 : 1
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

export type Stops = (() => Promise<void>)[]

async function started<T extends { readonly stop: () => Promise<void> }>(start: Promise<T>, stops: Stops): Promise<T> {
  const running = await start
  stops.push(running.stop)
  return running
}

/** A URL is used as it is, `pipe` starts the bare pipe, nothing starts mcp-vitals. */
async function startProxy(through: string | undefined, upstream: string, stops: Stops): Promise<Through[]> {
  if (through === undefined) return startBridges(upstream, stops)
  if (through !== 'pipe') return [{ behind: 'http', url: through }]
  const { origin, pathname } = new URL(upstream)
  const pipe = await started(startPeer('test/bench/bare-pipe.ts', { UPSTREAM: origin }), stops)
  return [{ behind: 'http', url: `${pipe.ready}${pathname}` }]
}

/** mcp-vitals in front of the server at this URL, and of the same one as a stdio and as an HTTP+SSE server. */
export async function startBridges(http: string, stops: Stops): Promise<Through[]> {
  const sse = await started(startPeer('test/peers/everything-v2-sse.ts'), stops)
  const stdio = { command: process.execPath, args: ['test/peers/everything-v2-stdio.ts'], cwd: repoRoot }
  const mcpServers: Readonly<Record<Behind, object>> = { http: { url: http }, stdio, sse: { url: sse.ready } }
  const vitals = await started(startVitals({ config: { mcpServers } }), stops)
  return behinds.map((behind) => ({ behind, url: `${vitals.dataUrl}/${behind}/mcp` }))
}

if (import.meta.main) {
  endWithSignals()
  process.exitCode = await main()
}

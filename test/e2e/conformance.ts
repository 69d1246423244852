/**
 * Runs the official MCP conformance suite against a server twice, directly and through a proxy, and compares the two
 * runs check by check: a transparent proxy changes no verdict, good or bad.
 *
 *   npm run conformance                      through mcp-vitals
 *   npm run conformance -- --through pipe    through the bare node:http pipe of the benchmark
 *   npm run conformance -- --direct URL --through URL
 *   npm run conformance -- --requirements 2026-07-28
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { repoRoot, startPeer } from '../peers/spawn.ts'
import { startVitals } from '../support/vitals.ts'

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
  readonly direct: readonly Check[]
  readonly through: readonly Check[]
  readonly differences: readonly Difference[]
}

export interface CompareOptions {
  readonly directUrl: string
  readonly throughUrl: string
  readonly requirements?: readonly RequirementSet[]
}

/** Runs every requirement set against both URLs, one run after the other. */
export async function compareConformance(options: CompareOptions): Promise<Comparison[]> {
  const { directUrl, throughUrl, requirements = requirementSets } = options
  const comparisons: Comparison[] = []
  for (const set of requirements) {
    const direct = await runConformance(directUrl, set)
    const through = await runConformance(throughUrl, set)
    comparisons.push({ requirements: set, direct, through, differences: differencesOf(set, direct, through) })
  }
  return comparisons
}

/** True when every set ran and no verdict differs. */
export function isTransparent(comparisons: readonly Comparison[]): boolean {
  const ran = comparisons.every(({ direct }) => direct.length > 0)
  return comparisons.length > 0 && ran && comparisons.every(({ differences }) => differences.length === 0)
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

/** The report as text: the differences, then one line of totals per requirement set. */
export function formatComparisons(comparisons: readonly Comparison[]): string {
  const differences = comparisons.flatMap((comparison) => comparison.differences)
  const lines = differences.map(({ requirements, key, direct, through, errorMessage }) =>
    `${requirements}  ${key}: ${direct} direct, ${through} through the proxy  ${errorMessage ?? ''}`.trimEnd(),
  )
  const totals = comparisons.map(({ requirements, direct, through, differences }) =>
    [
      `${requirements}: ${passed(direct)} passed direct, ${passed(through)} passed through the proxy,`,
      `differences: ${differences.length}`,
      `(${direct.length} checks; ${failures(direct)} fail direct, ${failures(through)} fail through the proxy)`,
    ].join(' '),
  )
  return [...lines, ...totals].join('\n')
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      direct: { type: 'string' },
      through: { type: 'string' },
      requirements: { type: 'string', multiple: true },
    },
  })
  const stops: (() => Promise<void>)[] = []
  try {
    let directUrl = values.direct
    if (directUrl === undefined) {
      const fixture = await startPeer('test/peers/everything-v2.ts')
      stops.push(fixture.stop)
      directUrl = fixture.ready
    }
    const proxy = await startProxy(values.through, directUrl)
    stops.push(proxy.stop)
    const wanted = values.requirements ?? requirementSets
    const requirements = requirementSets.filter((set) => wanted.includes(set))
    if (requirements.length === 0) throw new Error(`unknown --requirements, use one of ${requirementSets.join(', ')}`)
    const comparisons = await compareConformance({ directUrl, throughUrl: proxy.url, requirements })
    console.log(formatComparisons(comparisons))
    return isTransparent(comparisons) ? 0 : 1
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

/** A URL is used as it is, `pipe` starts the bare pipe, nothing starts mcp-vitals. */
async function startProxy(through: string | undefined, upstream: string) {
  const { origin, pathname } = new URL(upstream)
  if (through === 'pipe') {
    const pipe = await startPeer('test/bench/bare-pipe.ts', { UPSTREAM: origin })
    return { url: `${pipe.ready}${pathname}`, stop: pipe.stop }
  }
  if (through !== undefined) return { url: through, stop: async () => {} }
  const vitals = await startVitals({ config: { mcpServers: { fixture: { url: upstream } } } })
  return { url: `${vitals.dataUrl}/fixture/mcp`, stop: vitals.stop }
}

if (import.meta.main) process.exitCode = await main()

import { startPeer } from '../peers/spawn.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { coldStarts, residentAtRest, starts } from './cold-start.ts'
import { type FleetPlan, calmSeconds, fleetFigures } from './fleet.ts'
import { type Check, type Floor, floors } from './floors.ts'
import { type Cell, type Plan, type Row, type Target, cellName, runMatrix } from './matrix.ts'
import { bytesPerStream } from './memory.ts'
import { installPeers, startPeers } from './peers.ts'
import type { SectionReport } from './report.ts'
import { type Figures, recordFigures, scrapeFigures, scrapeMemoryRatio, seriesCount } from './telemetry.ts'
import { type Place, modernTarget, rawTarget, sessionTarget } from './targets.ts'

export type Stops = (() => Promise<void>)[]

interface Bench {
  readonly plan: Plan
  readonly fleet: FleetPlan
  /** An empty folder. */
  readonly directory: string
  readonly stops: Stops
}

export const sectionNames = [
  'http',
  'stdio',
  'peers',
  'instrumentation',
  'telemetry',
  'memory',
  'cold-start',
  'fleet',
] as const
export type SectionName = (typeof sectionNames)[number]

export const sections: Readonly<Record<SectionName, (bench: Bench) => Promise<SectionReport>>> = {
  http: async ({ plan, stops }) => {
    const echo = await startEcho(stops)
    const vitals = await startFront({ url: echo.url }, stops)
    const targets = [
      rawTarget({ name: 'direct', ...echo }),
      rawTarget({ name: 'pipe', ...(await startPipe(echo.url, stops)) }),
      rawTarget({ name: 'vitals', pid: vitals.pid, url: `${vitals.dataUrl}/echo/mcp` }),
    ]
    const cells = [100, 10_000, 1_000_000].flatMap((bytes) => cellsOf(bytes, 1, 16, 64))
    const rows = await runMatrix(targets, { cells, reference: 'pipe', plan })
    const checks = rowsOf(rows, 'vitals').flatMap((row): Check[] => {
      const floor = row.answerBytes < 1_000_000 ? floors.httpSmall : floors.httpLarge
      return [
        { floor, cell: cellName(row), ratio: row.ratio },
        { floor: floors.httpMedian, cell: cellName(row), ratio: row.p50Ratio },
      ]
    })
    return { title: 'A Streamable HTTP server', reference: 'pipe', rows, checks, notes: [] }
  },

  stdio: async ({ plan, stops }) => {
    const [legacy, modern] = [await startFront(stdioEcho, stops), await startFront(stdioEcho, stops)]
    const bridges = [
      await startBridge(bareBridge, 'test/bench/hono-stdio-bridge.ts', stops),
      await startBridge(leastStdio, 'test/bench/bare-stdio-bridge.ts', stops),
    ]
    const place = ({ pid, dataUrl }: RunningVitals) => ({ name: 'vitals', pid, url: `${dataUrl}/echo/mcp` })
    const cells = [...cellsOf(100, 1, 16, 64), ...cellsOf(10_000, 16)]
    // Each is compared with the bare bridges under the same requests: those of 2026-07-28 are three times as long.
    const beside = async (vitals: RunningVitals, open: (place: Place) => Promise<Target>) => {
      const targets = []
      for (const one of [...bridges, place(vitals)]) targets.push(await open(one))
      return runMatrix(targets, { cells, reference: bareBridge, plan })
    }
    const parts = [
      { what: 'one session', rows: await beside(legacy, sessionTarget) },
      { what: '2026-07-28', rows: await beside(modern, modernTarget) },
    ]
    return {
      title: 'A stdio server over Streamable HTTP',
      reference: bareBridge,
      rows: parts.flatMap(({ what, rows }) => named(rows, what)),
      checks: parts.flatMap(({ what, rows }) =>
        rowsOf(rows, 'vitals').map((row) => ({
          floor: floors.stdio,
          cell: `${cellName(row)} ${what}`,
          ratio: row.ratio,
        })),
      ),
      notes: parts.flatMap(({ what, rows }) => besideLeast(rows).map((note) => `${what}, ${note}`)),
    }
  },

  peers: async ({ plan, directory, stops }) => {
    const installed = await installPeers(directory)
    const notes = [...installed.values()].flatMap((found) =>
      found.kind === 'missing' ? [`SKIPPED ${found.name}: ${found.reason}`] : [],
    )
    const cells = cellsOf(100, 16)
    const echo = await startEcho(stops)
    const http = await startFront({ url: echo.url }, stops)
    const httpTargets = [
      await sessionTarget({ name: 'vitals', pid: http.pid, url: `${http.dataUrl}/echo/mcp` }),
      await sessionTarget({ name: leastHttp, ...(await startPipe(echo.url, stops)) }),
      ...(await startPeers(installed, { kind: 'http', url: echo.url }, stops)),
    ]
    const httpRows = await runMatrix(httpTargets, { cells, reference: 'vitals', plan })
    const stdio = await startFront(stdioEcho, stops)
    const stdioTargets = [
      await sessionTarget({ name: 'vitals', pid: stdio.pid, url: `${stdio.dataUrl}/echo/mcp` }),
      await sessionTarget(await startBridge(leastStdio, 'test/bench/bare-stdio-bridge.ts', stops)),
      ...(await startPeers(installed, { kind: 'stdio', script: stdioScript }, stops)),
    ]
    const stdioRows = await runMatrix(stdioTargets, { cells, reference: 'vitals', plan })
    return {
      title: 'Beside other people’s proxies at their defaults',
      reference: 'vitals',
      rows: [...named(httpRows, 'http server'), ...named(stdioRows, 'stdio server')],
      checks: [
        ...overBestPeer(httpRows, 'vitals').map((ratio) => ({ floor: floors.peersHttp, cell: '100 B × 16', ratio })),
        ...overBestPeer(stdioRows, 'vitals').map((ratio) => ({ floor: floors.peersStdio, cell: '100 B × 16', ratio })),
      ],
      notes: [
        ...notes,
        ...cpuBesideOurs(httpRows),
        ...cpuBesideOurs(stdioRows),
        ...overBestPeer(httpRows, leastHttp).map((ratio) => `${leastHttp}: ${ratio.toFixed(2)} of the best peer’s`),
        ...overBestPeer(stdioRows, leastStdio).map((ratio) => `${leastStdio}: ${ratio.toFixed(2)} of the best peer’s`),
      ],
    }
  },

  instrumentation: async ({ plan, stops }) => {
    const echo = await startEcho(stops)
    const off = await startPeer('test/bench/uninstrumented.ts', { UPSTREAM: echo.url })
    stops.push(off.stop)
    const on = await startFront({ url: echo.url }, stops)
    const targets = [
      rawTarget({ name: 'off', pid: off.pid, url: off.ready }),
      rawTarget({ name: 'on', pid: on.pid, url: `${on.dataUrl}/echo/mcp` }),
    ]
    const rows = await runMatrix(targets, { cells: cellsOf(100, 1, 16, 64), reference: 'off', plan })
    const checks = rowsOf(rows, 'on').map((row) => ({
      floor: floors.instrumentation,
      cell: cellName(row),
      ratio: row.ratio,
    }))
    return { title: 'Histograms, exemplars, trace ids and heartbeats', reference: 'off', rows, checks, notes: [] }
  },

  telemetry: async ({ plan }) => {
    const scrape = await scrapeFigures(plan.rounds)
    const record = await recordFigures(plan.rounds)
    const check = (floor: Floor, { ratios }: Figures, cell: string) => ({ floor, cell, ratio: ratios[cell] ?? NaN })
    return {
      title: 'A scrape and a measurement by themselves',
      rows: [],
      checks: [
        check(floors.scrapeOfStock, scrape, 'exporter-prometheus'),
        check(floors.scrapeOfPromClient, scrape, 'prom-client'),
        check(floors.recording, record, 'the bare SDK'),
        { floor: floors.scrapeMemory, cell: 'this process', ratio: await scrapeMemoryRatio() },
      ],
      notes: [
        `a scrape ${scrape.ownMs.toFixed(2)} ms, an operation ${((record.ownMs * 1000) / seriesCount).toFixed(2)} µs`,
      ],
    }
  },

  memory: async ({ stops }) => {
    const echo = await startEcho(stops)
    const pipe = await bytesPerStream(await startPipe(echo.url, stops))
    const vitals = await startFront({ url: echo.url }, stops)
    const ours = await bytesPerStream({ pid: vitals.pid, url: `${vitals.dataUrl}/echo/mcp` })
    const title = 'Memory of an idle event stream'
    if (pipe === undefined || ours === undefined) {
      return { title, rows: [], checks: [], notes: ['SKIPPED: there is no /proc on this system'] }
    }
    const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`
    return {
      title,
      rows: [],
      checks: [{ floor: floors.streamMemory, cell: '1,000 to 3,000 streams', ratio: ours / pipe }],
      notes: [`pipe ${kib(pipe)}, vitals ${kib(ours)}`],
    }
  },

  'cold-start': async ({ plan, directory, stops }) => {
    const title = 'From the start to the first answered initialize, and at rest, with one HTTP server'
    const echo = await startEcho(stops)
    const ways = starts(directory)
    const measured = await coldStarts(ways, echo.url, 2 * plan.rounds)
    const vitals = ways.at(-1)
    const residentBytes = vitals && (await residentAtRest(vitals, echo.url))
    const restMib = residentBytes === undefined ? [] : [residentBytes / 1024 / 1024]
    return {
      title,
      rows: [],
      checks: [
        ...measured.slice(1).map(({ name, ratio }) => ({ floor: floors.coldStart, cell: name, ratio })),
        ...restMib.map((ratio) => ({ floor: floors.restMemory, cell: 'vitals', ratio })),
      ],
      notes: measured.map(
        ({ name, elapsedMs, cpuMs }) => `${name}: ${elapsedMs.toFixed(0)} ms, CPU ${cpuMs?.toFixed(0) ?? '–'} ms`,
      ),
    }
  },

  fleet: async ({ fleet, stops }) => {
    const title = `${fleet.upstreams} servers, heartbeated every 30 s`
    const figures = await fleetFigures(fleet, stops)
    if (!figures) return { title, rows: [], checks: [], notes: ['SKIPPED: there is no /proc on this system'] }
    const { cpuPercent, residentMib, intervalsSeconds, unhealthy } = figures
    const cell = `${fleet.calmMs / 1000} s of calm`
    return {
      title,
      rows: [],
      checks: [
        { floor: floors.fleetCpu, cell, ratio: cpuPercent },
        { floor: floors.fleetMemory, cell, ratio: residentMib },
        { floor: floors.fleetShortest, cell, ratio: (intervalsSeconds[0] ?? Number.NaN) / calmSeconds.least },
        { floor: floors.fleetLongest, cell, ratio: (intervalsSeconds.at(-1) ?? Number.NaN) / calmSeconds.most },
        { floor: floors.fleetUnhealthy, cell, ratio: unhealthy.length },
      ],
      notes: [`${intervalsSeconds.length} intervals were seen`, ...unhealthy],
    }
  },
}

const stdioScript = 'test/peers/echo-stdio.ts'
const stdioEcho = { command: process.execPath, args: [stdioScript] }

async function startEcho(stops: Stops): Promise<{ readonly url: string; readonly pid: number }> {
  const echo = await startPeer('test/peers/echo-server.ts')
  stops.push(echo.stop)
  return { url: echo.ready, pid: echo.pid }
}

async function startPipe(upstream: string, stops: Stops): Promise<{ readonly url: string; readonly pid: number }> {
  const pipe = await startPeer('test/bench/bare-pipe.ts', { UPSTREAM: new URL(upstream).origin })
  stops.push(pipe.stop)
  return { url: `${pipe.ready}/mcp`, pid: pipe.pid }
}

async function startBridge(name: string, file: string, stops: Stops): Promise<Place> {
  const bridge = await startPeer(file)
  stops.push(bridge.stop)
  return { name, pid: bridge.pid, url: bridge.ready }
}

async function startFront(echo: Readonly<Record<string, unknown>>, stops: Stops): Promise<RunningVitals> {
  const vitals = await startVitals({ config: { mcpServers: { echo } } })
  stops.push(vitals.stop)
  return vitals
}

function cellsOf(answerBytes: number, ...concurrencies: number[]): Cell[] {
  return concurrencies.map((concurrency) => ({ answerBytes, concurrency }))
}

function rowsOf(rows: readonly Row[], name: string): Row[] {
  return rows.filter(({ target }) => target === name)
}

function named(rows: readonly Row[], what: string): Row[] {
  return rows.map((row) => ({ ...row, target: `${what}: ${row.target}` }))
}

/**
 * What a request costs each peer in CPU time. Unlike requests/s it says nothing of the generator and the server, which
 * share these cores and weigh as much as the proxy between them.
 */
function cpuBesideOurs(rows: readonly Row[]): string[] {
  const ours = rowsOf(rows, 'vitals')[0]?.cpuSecondsPer1000
  return rows.flatMap(({ target, cpuSecondsPer1000 }) =>
    target === 'vitals' || ours === undefined || cpuSecondsPer1000 === undefined
      ? []
      : [`${target}: ${(cpuSecondsPer1000 / ours).toFixed(1)} times our CPU time for a request`],
  )
}

/** A bare bridge that routes by Hono, as we do: the one that the floor is about. */
const bareBridge = 'bare bridge'

/** The least that anything in our place does, which shows how far ahead of the others one can be at all. */
const leastHttp = 'bare pipe'
const leastStdio = 'node:http bridge'
const notPeers: ReadonlySet<string> = new Set(['vitals', leastHttp, leastStdio])

/** How our requests/s compare with those of the least that anything in our place does, to which no floor is held. */
function besideLeast(rows: readonly Row[]): string[] {
  const least = new Map(rowsOf(rows, leastStdio).map((row) => [cellName(row), row.ratio]))
  return rowsOf(rows, 'vitals').map((row) => {
    const ratio = row.ratio / (least.get(cellName(row)) ?? Number.NaN)
    return `${cellName(row)}: ${ratio.toFixed(2)} of the ${leastStdio}’s requests/s`
  })
}

/** How many times the requests of the fastest peer that target carries; none if there is no peer. */
function overBestPeer(rows: readonly Row[], name: string): number[] {
  const peers = rows.filter(({ target }) => !notPeers.has(target))
  const best = Math.max(...peers.map(({ ratio }) => ratio))
  return peers.length === 0 ? [] : rowsOf(rows, name).map(({ ratio }) => ratio / best)
}

/** Asks a real Prometheus what a dashboard would show. */
import { eventually } from '../support/eventually.ts'
import type { RunningPrometheus } from '../support/prometheus.ts'
import { allChosen } from './query-rules.ts'
import type { ShippedPanel } from './shipped.ts'

/** Longer than any test, so that whatever happened in it is within them. */
const windows = { range: 120, rateInterval: 120 }

/** What it is about: a Prometheus, and the servers that it knows of. */
export interface Viewer {
  readonly from: RunningPrometheus
  readonly servers: readonly string[]
}

export interface Series {
  readonly metric: Readonly<Record<string, string>>
  readonly value?: readonly [number, string]
  readonly values?: readonly (readonly [number, string])[]
}

/** What a panel gets: the series of a query that have a number to show. */
async function ask(from: RunningPrometheus, expr: string, isInstant: boolean): Promise<Series[]> {
  const now = Date.now() / 1000
  const { result } = (await (isInstant
    ? from.api('query', { query: expr })
    : from.api('query_range', { query: expr, start: String(now - 60), end: String(now), step: '2' }))) as {
    result: Series[]
  }
  return result.filter(({ value, values: all = [] }) =>
    [...(value ? [value] : []), ...all].some(([, text]) => Number.isFinite(Number(text))),
  )
}

/** The query with everything chosen, once for each of these servers where a dashboard is about one. */
export function chosen(expr: string, servers: readonly string[]): string[] {
  const all = allChosen(expr, windows)
  return all.includes('"$upstream"') ? servers.map((name) => all.replaceAll('"$upstream"', `"${name}"`)) : [all]
}

/** The first series that come of it, for whichever server has some. */
export async function shown({ from, servers }: Viewer, expr: string, isInstant: boolean): Promise<Series[]> {
  for (const query of chosen(expr, servers)) {
    const series = await ask(from, query, isInstant)
    if (series.length > 0) return series
  }
  return []
}

/** The labels that a panel shows as columns, or in legends. */
function labelsOf({ transformations = [], targets }: ShippedPanel): string[] {
  const columns = Object.keys(transformations[1]?.options['renameByName'] ?? {})
  const inLegends = targets.flatMap(({ legendFormat = '' }) => [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)])
  return [...inLegends.map(([, label = '']) => label), ...columns.filter((column) => !column.startsWith('Value'))]
}

async function answersOf(viewer: Viewer, { targets }: ShippedPanel) {
  const asked = targets.map(async ({ refId, expr, instant }) => ({ refId, series: await shown(viewer, expr, instant) }))
  return Promise.all(asked)
}

/** Whether a panel shows nothing at all. */
export async function isEmpty(viewer: Viewer, panel: ShippedPanel): Promise<boolean> {
  return (await answersOf(viewer, panel)).every(({ series }) => series.length === 0)
}

/** What is missing in a panel: queries without a series, and labels that no series has. */
export async function gaps(viewer: Viewer, panel: ShippedPanel): Promise<string[]> {
  const answers = await answersOf(viewer, panel)
  const labels = new Set(answers.flatMap(({ series }) => series.flatMap(({ metric }) => Object.keys(metric))))
  return [
    ...answers.filter(({ series }) => series.length === 0).map(({ refId }) => `query ${refId}`),
    ...labelsOf(panel).filter((label) => !labels.has(label)),
  ]
}

/** Asks again until there is nothing missing, as time goes on. */
export async function untilNone(what: string, missing: () => Promise<string[]>): Promise<void> {
  let last: readonly string[] = []
  await eventually(
    async () => {
      last = await missing()
      return last.length === 0
    },
    { what, timeoutMs: 40_000 },
  ).catch((error: unknown) => {
    throw new Error(`${what} lacks ${last.join(', ')}`, { cause: error })
  })
}

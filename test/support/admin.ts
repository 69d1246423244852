/** What the admin listener of a running mcp-vitals says, for tests. */
import { eventually } from './eventually.ts'
import { type DebugReport, type DebugUpstream, debugReportSchema } from '../../src/admin/debug.ts'
import type { RunningVitals } from './vitals.ts'

/** `/debug/heartbeat`, checked against its own schema. */
export async function debugReport({ adminUrl }: Pick<RunningVitals, 'adminUrl'>): Promise<DebugReport> {
  const response = await fetch(`${adminUrl}/debug/heartbeat`)
  return debugReportSchema.parse(await response.json())
}

/** What `/debug/heartbeat` says of one upstream. */
export async function debugUpstream(vitals: Pick<RunningVitals, 'adminUrl'>, name: string): Promise<DebugUpstream> {
  const upstream = (await debugReport(vitals)).upstreams[name]
  if (!upstream) throw new Error(`/debug/heartbeat knows no upstream "${name}"`)
  return upstream
}

/** The upstream, once it is in that state. */
export function becomesState(
  vitals: Pick<RunningVitals, 'adminUrl'>,
  name: string,
  state: string,
  timeoutMs: number,
): Promise<DebugUpstream> {
  return eventually(
    async () => {
      const upstream = await debugUpstream(vitals, name)
      if (upstream.state === state) return upstream
      throw new Error(`it is ${upstream.state}: ${upstream.reason}`)
    },
    { timeoutMs, what: `${name} is ${state}` },
  )
}

type Labels = Readonly<Record<string, string>>

/** The value of the one series of that name that carries all these labels; undefined when there is none. */
export async function metricValue(
  vitals: Pick<RunningVitals, 'adminUrl'>,
  name: string,
  labels: Labels = {},
): Promise<number | undefined> {
  const values = await metricValues(vitals, name, labels)
  if (values.length > 1) throw new Error(`${values.length} series match ${name} ${JSON.stringify(labels)}`)
  return values[0]
}

/** The values of all series of that name that carry these labels. */
export async function metricValues(
  { adminUrl }: Pick<RunningVitals, 'adminUrl'>,
  name: string,
  labels: Labels = {},
): Promise<number[]> {
  return seriesValues(await (await fetch(`${adminUrl}/metrics`)).text(), name, labels)
}

/** The same out of the text of `/metrics`. */
export function seriesValues(text: string, name: string, labels: Labels = {}): number[] {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return text
    .split('\n')
    .filter(
      (line) =>
        (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && wanted.every((pair) => hasLabel(line, pair)),
    )
    .map((line) =>
      Number(
        line
          .slice(Math.max(line.lastIndexOf('}') + 1, name.length))
          .trim()
          .split(' ')[0],
      ),
    )
}

function hasLabel(line: string, pair: string): boolean {
  return line.includes(`{${pair}`) || line.includes(`,${pair}`)
}

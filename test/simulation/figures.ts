import type { WorldReport } from './world.ts'

/** What one or more worlds came to. */
export interface Figures {
  readonly worlds: number
  readonly outages: number
  /** Outages that began in calm and were noticed: how long that took, the shortest first. */
  readonly detectionSeconds: readonly number[]
  readonly falseAlarms: number
  readonly probesPerSecond: number
  readonly mostPerSecond: number
  readonly restarts: number
}

export function figuresOf(reports: readonly WorldReport[]): Figures {
  const outages = reports.flatMap((report) => report.outages)
  const seconds = reports.reduce((sum, report) => sum + report.seconds, 0)
  const probes = reports.reduce((sum, report) => sum + report.probes, 0)
  const delays = outages.flatMap(({ isClear, detectedMs, sinceMs }) =>
    isClear && detectedMs !== undefined ? [(detectedMs - sinceMs) / 1000] : [],
  )
  return {
    worlds: reports.length,
    outages: outages.length,
    detectionSeconds: delays.toSorted((a, b) => a - b),
    falseAlarms: reports.flatMap(({ violations }) => violations).filter(({ rule }) => rule === 'false_down').length,
    probesPerSecond: probes / seconds,
    mostPerSecond: Math.max(0, ...reports.map(({ mostPerSecond }) => mostPerSecond)),
    restarts: reports.reduce((sum, report) => sum + report.restarts, 0),
  }
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Of sorted values; by nearest rank. */
export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? NaN
}

/** A Markdown table, one line for each named row. */
export function table(rows: readonly (readonly [name: string, figures: Figures])[]): string {
  const head = ['', 'outages', 'detected after: mean', 'p99', 'max', 'false alarms', 'probes/s', 'restarts']
  const lines = rows.map(([name, figures]) => {
    const { outages, detectionSeconds, falseAlarms, probesPerSecond, restarts } = figures
    const delays = [mean(detectionSeconds), quantile(detectionSeconds, 0.99), quantile(detectionSeconds, 1)]
    const texts = delays.map((seconds) => `${seconds.toFixed(1)} s`)
    return [name, String(outages), ...texts, String(falseAlarms), probesPerSecond.toFixed(1), String(restarts)]
  })
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

import { cpus } from 'node:os'
import { type Check, isKept } from './floors.ts'
import { type Row, cellName } from './matrix.ts'

/** One part of the benchmark, as it came out. */
export interface SectionReport {
  readonly title: string
  /** Whose requests per second the ratios are to. */
  readonly reference?: string
  readonly rows: readonly Row[]
  readonly checks: readonly Check[]
  readonly notes: readonly string[]
}

export const machine = () => `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, node ${process.version}`

/** `load` is the machine's load average before and after: far above its cores, others disturbed the measurement. */
export function formatSection(report: SectionReport & { readonly load: readonly (number | undefined)[] }): string {
  const { title, reference, rows, checks, notes, load } = report
  const loads = load.map((one) => one?.toFixed(1) ?? '–').join(' before, ')
  return [
    `## ${title}`,
    ...tableOf(rows, reference),
    `load average ${loads} after, ${cpus().length} cores`,
    ...notes,
    ...checks.map(formatCheck),
  ].join('\n')
}

function tableOf(rows: readonly Row[], reference = ''): string[] {
  if (rows.length === 0) return []
  const ratio = `of ${reference}`
  const header = ['answer × conc.', 'target', 'req/s', ratio, 'p50 ms', ratio, 'p99 ms', 'CPU s/1000', 'RSS MiB']
  const table = rows.map((row) => [
    cellName(row),
    row.target,
    row.requestsPerSecond.toFixed(0),
    row.ratio.toFixed(2),
    row.p50Ms.toFixed(2),
    row.p50Ratio.toFixed(2),
    row.p99Ms.toFixed(2),
    row.cpuSecondsPer1000?.toFixed(3) ?? '–',
    row.residentMib?.toFixed(0) ?? '–',
  ])
  const saturated = rows.filter(({ generatorCpuRatio }) => generatorCpuRatio > 0.9)
  return [
    ...alignColumns([header, ...table]),
    ...saturated.map((row) => `the generator was the limit: ${cellName(row)} ${row.target}`),
  ]
}

function alignColumns(table: readonly (readonly string[])[]): string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  return table.map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  '))
}

function formatCheck(check: Check): string {
  const { floor, cell, ratio } = check
  const limit = 'least' in floor ? `at least ${floor.least}` : `at most ${floor.most}`
  return `${isKept(check) ? 'PASS' : 'FAIL'} ${ratio.toFixed(2)} (${limit}) ${cell}: ${floor.what}`
}

/** What Prometheus' own rule tester makes of queries. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AlertCase, Series } from './alert-cases.ts'

function written({ name, labels, samples }: Series) {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return {
    series: `${name}{${pairs.join(',')}}`,
    values: samples.map((sample) => (sample === 'gone' ? 'stale' : sample)).join(' '),
  }
}

/** The series that are asked, and the minutes between their samples. */
export type Asked = Pick<AlertCase, 'series' | 'step'>

/** As promtool wants times. */
export const seconds = (minutes: number) => `${Math.round(minutes * 60)}s`

/** What a query gives at a time. */
interface Expected {
  readonly expr: string
  readonly eval_time: string
  readonly exp_samples: readonly { readonly labels: string; readonly value: number }[]
}

/** What promtool says when these queries are asked of these series; nothing if all is as expected. */
export function tested(promtool: string, { series, step = 0.25 }: Asked, expected: readonly Expected[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'mcp-vitals-promtool-'))
  const file = join(directory, 'test.yaml')
  const interval = seconds(step)
  const tests = [{ interval, input_series: series.map(written), promql_expr_test: expected }]
  try {
    // YAML reads JSON.
    writeFileSync(file, JSON.stringify({ rule_files: [], evaluation_interval: interval, tests }))
    const { status, stdout, stderr } = spawnSync(promtool, ['test', 'rules', file], { encoding: 'utf8' })
    return status === 0 ? '' : `${stdout}${stderr}`.slice(0, 4000)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

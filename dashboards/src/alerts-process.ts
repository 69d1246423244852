/** Alerts on the processes that mcp-vitals starts. */
import { defaults } from '../../src/defaults.ts'
import { recorded } from './recording-rules.ts'
import { type Alert, debugPage, theServer, wholeValue } from './rule.ts'

const { crashes, memoryBytes, memoryGrowth, memoryHorizonSeconds } = defaults.alerts
const { crashLoopRetryMs } = defaults.supervision

const memory = recorded.memoryOfProcess

export const processAlerts: readonly Alert[] = [
  {
    alert: 'McpProcessCrashLooping',
    when: `a server’s process was started again at least ${crashes} times in 15 minutes (exit, signal, hung, memory), the last time within 5; or the server is \`crash_loop\``,
    expr: recorded.crashLooping,
    severity: 'critical',
    summary: 'The process of an MCP server does not stay up.',
    description:
      `{{ if lt $value ${crashes}.0 }}The process of ${theServer} cannot be started; mcp-vitals tries again every ` +
      `${crashLoopRetryMs / 60_000} minutes` +
      `{{ else }}The process of ${theServer} was started again ${wholeValue} times in the last 15 minutes, and each ` +
      'time its clients lost their sessions{{ end }}. ' +
      // It may be up at the moment, and its reason no more than that.
      `Why: "reason", "failures" and "process" of ${debugPage}`,
  },
  {
    alert: 'McpProcessMemoryGrowing',
    when: `a server’s processes will use more than ${memoryBytes / 2 ** 20} MiB each within ${memoryHorizonSeconds / 3600} hours, as the last hour went, and grew by ${Math.round((memoryGrowth - 1) * 100)} % in both halves of it, for 10 minutes`,
    // The two halves: a step, such as a model that was loaded, is no leak however steep.
    expr: `predict_linear(${memory}[1h], ${memoryHorizonSeconds}) > ${memoryBytes}
and
${memory} > ${memoryGrowth} * ${memory} offset 30m
and
${memory} offset 30m > ${memoryGrowth} * ${memory} offset 1h`,
    for: '10m',
    severity: 'warning',
    summary: 'The processes of an MCP server use more and more memory.',
    description:
      `At the pace of the last hour each process of ${theServer} will use ` +
      `{{ $value | humanize1024 }}B in ${memoryHorizonSeconds / 3600} hours. What each uses now: "process" of ${debugPage}`,
  },
]

/** Every alert there is: the rules for Prometheus and what mcp-vitals sends by itself bear the same names. */
export const alertNames = [
  'McpUpstreamDown',
  'McpUpstreamsSilentTogether',
  'McpHeartbeatErrorRateHigh',
  'McpHeartbeatSlow',
  'McpUpstreamFlapping',
  'McpProcessCrashLooping',
  'McpProcessMemoryGrowing',
  'McpUpstreamNeedsAuth',
  'McpInventoryShrank',
  'McpToolErrorRateHigh',
  'McpSessionsWithIssues',
  'McpConnectionPoolExhausted',
  'McpAvailabilityBurnRateHigh',
  'McpAvailabilityBurnRateSlow',
  'McpVitalsDown',
  'McpVitalsOverloaded',
  'McpVitalsConfigReloadFailed',
  'McpVitalsLabelOverflow',
] as const

export type AlertName = (typeof alertNames)[number]

/** Those that follow from the verdict on one upstream alone: what mcp-vitals sends by itself. */
export const verdictAlerts = [
  'McpUpstreamDown',
  'McpProcessCrashLooping',
  'McpUpstreamNeedsAuth',
  'McpInventoryShrank',
  'McpSessionsWithIssues',
] as const satisfies readonly AlertName[]

export type VerdictAlert = (typeof verdictAlerts)[number]

export type Severity = 'critical' | 'warning'

/** How bad each of them is, and what it says in a few words. */
export const verdictAlertTexts: Readonly<
  Record<VerdictAlert, { readonly severity: Severity; readonly summary: (upstream: string) => string }>
> = {
  McpUpstreamDown: { severity: 'critical', summary: (upstream) => `MCP server ${upstream} is down` },
  McpProcessCrashLooping: { severity: 'critical', summary: (upstream) => `MCP server ${upstream} crashes in a loop` },
  McpUpstreamNeedsAuth: {
    severity: 'critical',
    summary: (upstream) => `MCP server ${upstream} refuses our credentials`,
  },
  McpInventoryShrank: { severity: 'warning', summary: (upstream) => `MCP server ${upstream} lost or changed tools` },
  McpSessionsWithIssues: { severity: 'warning', summary: (upstream) => `Sessions with MCP server ${upstream} hang` },
}

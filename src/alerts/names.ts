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

/** Those that follow from the verdict on one upstream alone. */
export const verdictAlerts = [
  'McpUpstreamDown',
  'McpProcessCrashLooping',
  'McpUpstreamNeedsAuth',
  'McpInventoryShrank',
  'McpSessionsWithIssues',
] as const satisfies readonly AlertName[]

export type VerdictAlert = (typeof verdictAlerts)[number]

/** What mcp-vitals sends by itself: those, and the one about most upstreams at once. */
export const sentAlerts = [...verdictAlerts, 'McpUpstreamsSilentTogether'] as const satisfies readonly AlertName[]

export type SentAlert = (typeof sentAlerts)[number]

interface Text {
  readonly severity: 'critical' | 'warning'
  /** In a few words; `about` is the upstream. */
  readonly summary: (about: string) => string
}

/** How bad each of them is, and what it says. */
export const sentAlertTexts: Readonly<Record<SentAlert, Text>> = {
  McpUpstreamDown: { severity: 'critical', summary: (upstream) => `MCP server ${upstream} is down` },
  McpProcessCrashLooping: { severity: 'critical', summary: (upstream) => `MCP server ${upstream} crashes in a loop` },
  // Whether clients are refused, too, is not known here.
  McpUpstreamNeedsAuth: {
    severity: 'warning',
    summary: (upstream) => `MCP server ${upstream} refuses our credentials`,
  },
  McpInventoryShrank: { severity: 'warning', summary: (upstream) => `MCP server ${upstream} lost or changed tools` },
  McpSessionsWithIssues: { severity: 'warning', summary: (upstream) => `Sessions with MCP server ${upstream} hang` },
  McpUpstreamsSilentTogether: {
    severity: 'critical',
    summary: () => 'Most MCP servers fell silent at the same time',
  },
}

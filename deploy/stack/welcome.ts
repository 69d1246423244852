/** What runs, and where. */
export interface Places {
  readonly adminUrl: string
  readonly upstreamUrls: ReadonlyMap<string, string>
  /** Undefined where it is not installed, as Alertmanager's. */
  readonly prometheusUrl: string | undefined
  readonly alertmanagerUrl: string | undefined
  /** Where wrappers announce themselves to Prometheus. */
  readonly wrappersFolder: string
}

/** What a person wants to know first. */
export function welcome(places: Places): string {
  const { adminUrl, upstreamUrls, prometheusUrl, alertmanagerUrl, wrappersFolder } = places
  const pages: [string, string][] = [
    [`${adminUrl}/`, 'every upstream at a glance'],
    [`${adminUrl}/metrics`, 'what Prometheus scrapes'],
  ]
  const more: string[] = []
  if (prometheusUrl === undefined) more.push('Prometheus is not installed: apt-get install prometheus')
  else {
    pages.push(
      [`${prometheusUrl}/targets`, 'what it scrapes, and whether that works'],
      [`${prometheusUrl}/alerts`, 'every alert rule, and which of them fire'],
      [`${prometheusUrl}/graph`, 'queries'],
    )
    more.push(`Prometheus also scrapes what you start with mcp-vitals stdio --targets-dir ${wrappersFolder}`)
  }
  if (alertmanagerUrl === undefined) {
    more.push('Alertmanager is not installed: apt-get install prometheus-alertmanager')
  } else {
    pages.push([`${alertmanagerUrl}/`, 'what fires, and silences; what it would send is printed here'])
  }
  return [
    '',
    'The stack is running. Point your MCP client at',
    ...table([...upstreamUrls]),
    'and look at',
    ...table(pages),
    ...more,
    'Ctrl-C stops all of it.',
    '',
  ].join('\n')
}

/** Rows of two columns, the second aligned. */
function table(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([first]) => first.length))
  return rows.map(([first, second]) => `  ${first.padEnd(width)}  ${second}`)
}

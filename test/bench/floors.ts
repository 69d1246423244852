/** A limit that a figure of the benchmark must keep; figures are ratios of one run, so that the machine matters little. */
export type Floor = { readonly what: string } & ({ readonly least: number } | { readonly most: number })

/** Everything that the benchmark holds us to. */
export const floors = {
  httpSmall: { what: 'Streamable HTTP, answers up to 10 KB: requests/s, of the bare pipe’s', least: 0.85 },
  httpLarge: { what: 'Streamable HTTP, answers of 1 MB: requests/s, of the bare pipe’s', least: 0.9 },
  httpMedian: { what: 'Streamable HTTP: median latency, of the bare pipe’s', most: 1.2 },
  stdio: { what: 'stdio bridge: requests/s, of the bare bridge’s', least: 0.8 },
  peersHttp: { what: 'a Streamable HTTP server: requests/s, of the best peer’s', least: 10 },
  peersStdio: { what: 'a stdio server: requests/s, of the best peer’s', least: 4 },
  instrumentation: { what: 'with all instrumentation: requests/s, of those without', least: 0.88 },
  streamMemory: { what: 'memory of an idle event stream, of the bare pipe’s', most: 1.5 },
  scrapeOfStock: { what: 'a scrape of 10,000 histogram lines: time, of exporter-prometheus’', most: 0.2 },
  scrapeOfPromClient: { what: 'a scrape of 10,000 histogram lines: time, of prom-client’s', most: 1 },
  recording: { what: 'an operation on both its sides: time, of two bare records of the SDK', most: 1.2 },
  scrapeMemory: { what: 'memory after 1,000 scrapes of 10,000 lines, of that after 200', most: 1.1 },
  // 400 ms where a bare pipe takes 49 ms.
  coldStart: { what: 'start to the first answered initialize, of the bare pipe’s', most: 8.2 },
  restMemory: { what: 'MiB resident after 10 s with one HTTP server', most: 100 },
  fleetCpu: { what: 'a fleet that is well: percent of one core', most: 5 },
  fleetMemory: { what: 'a fleet that is well: MiB resident', most: 300 },
  // Servers see when a probe arrives, not when it starts: 3 % are theirs and the machine's.
  fleetShortest: {
    what: 'a fleet that is well: its shortest interval, of the shortest that jitter allows',
    least: 0.97,
  },
  fleetLongest: { what: 'a fleet that is well: its longest interval, of the longest that is allowed', most: 1.03 },
  fleetUnhealthy: { what: 'a fleet that is well: servers that are taken for ill', most: 0 },
} as const satisfies Readonly<Record<string, Floor>>

/** A figure beside its floor. */
export interface Check {
  readonly floor: Floor
  readonly cell: string
  readonly ratio: number
}

export function isKept({ floor, ratio }: Check): boolean {
  return 'least' in floor ? ratio >= floor.least : ratio <= floor.most
}

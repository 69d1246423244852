import type { Attributes } from '@opentelemetry/api'
import {
  DataPointType,
  type DataPoint,
  type Histogram,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics'
import type { Exemplar, ExemplarReservoir } from './exemplars.ts'
import { labelName, liveMetrics, unitName, type Metric } from './names.ts'
import { contentTypes, negotiate, type ExpositionFormat } from './negotiate.ts'
import type { RuntimeFamily, RuntimeMetrics } from './runtime.ts'

/** An answer to a scrape. */
export interface Scrape {
  readonly contentType: string
  readonly body: string
}

/** Turns what we measured into what Prometheus reads. */
export interface Exposition {
  /** Our metrics and the process's, in the format that `accept` prefers. */
  readonly scrape: (accept: string | undefined) => Promise<Scrape>
}

/**
 * The body of `/metrics`. `own` is our serializer (text or OpenMetrics with exemplars); `stock` is the text of
 * OpenTelemetry's own exporter and prom-client's, for those who trust those more, without exemplars.
 */
export function exposition(options: {
  readonly mode: 'own' | 'stock'
  readonly snapshot: () => Promise<ResourceMetrics>
  readonly runtime: RuntimeMetrics
  readonly exemplars: ExemplarReservoir
}): Exposition {
  const { mode, snapshot, runtime } = options
  if (mode === 'stock') {
    return {
      scrape: async () => {
        const { stockText } = await import('./stock.ts')
        const body = `${stockText(await snapshot())}\n${await runtime.text()}`
        return { contentType: contentTypes.text, body }
      },
    }
  }
  const writer = new ExpositionWriter(options.exemplars)
  return {
    scrape: async (accept) => {
      const format = negotiate(accept)
      const [resourceMetrics, families] = await Promise.all([snapshot(), runtime.collect()])
      return { contentType: contentTypes[format], body: writer.render(format, resourceMetrics, families) }
    },
  }
}

/**
 * Writes snapshots as Prometheus text 0.0.4 or OpenMetrics 1.0.0, ten times faster than the stock serializer: the
 * label string of an attribute set is made once. Every live family has its HELP and TYPE, even without a sample.
 */
export class ExpositionWriter {
  readonly #exemplars: ExemplarReservoir
  readonly #labels = new WeakMap<Attributes, string>()
  readonly #buckets = new WeakMap<readonly number[], readonly string[]>()
  readonly #families = liveMetrics()

  constructor(exemplars: ExemplarReservoir) {
    this.#exemplars = exemplars
  }

  render(format: ExpositionFormat, snapshot: ResourceMetrics, runtime: readonly RuntimeFamily[]): string {
    const byName = new Map<string, MetricData>()
    for (const { metrics } of snapshot.scopeMetrics) {
      for (const metric of metrics) byName.set(metric.descriptor.name, metric)
    }
    let text = targetInfo(format, snapshot.resource.attributes)
    for (const family of this.#families) {
      text += header(format, { ...family, name: family.family, unit: unitName(family) })
      const data = byName.get(family.instrument)
      if (data) text += this.#samples(format, family, data)
    }
    for (const family of runtime) text += runtimeFamily(format, family)
    return format === 'openmetrics' ? `${text}# EOF\n` : text
  }

  #samples(format: ExpositionFormat, { family }: Metric, data: MetricData): string {
    let text = ''
    if (data.dataPointType === DataPointType.HISTOGRAM) {
      for (const point of data.dataPoints) text += this.#histogram(format, family, point)
    } else if (data.dataPointType !== DataPointType.EXPONENTIAL_HISTOGRAM) {
      for (const point of data.dataPoints) text += this.#single(format, family, point)
    }
    return text
  }

  #single(format: ExpositionFormat, name: string, { attributes, value }: DataPoint<number>): string {
    const labels = this.#labelsOf(attributes)
    const sample = `${name}${labels === '' ? '' : `{${labels}}`} ${numberText(value)}`
    return `${sample}${this.#exemplar(format, attributes, 0)}\n`
  }

  #histogram(format: ExpositionFormat, name: string, { attributes, value }: DataPoint<Histogram>): string {
    const labels = this.#labelsOf(attributes)
    const start = `${name}_bucket{${labels}${labels === '' ? '' : ','}`
    const { boundaries, counts } = value.buckets
    const ends = this.#bucketEnds(boundaries)
    const exemplars = format === 'openmetrics' ? this.#exemplars.of(attributes) : undefined
    let cumulative = 0
    let text = ''
    for (let index = 0; index < counts.length; index++) {
      cumulative += counts[index] ?? 0
      text += start + ends[index] + cumulative + exemplarText(exemplars?.[index]) + '\n'
    }
    const braced = labels === '' ? '' : `{${labels}}`
    return `${text}${name}_sum${braced} ${numberText(value.sum ?? 0)}\n${name}_count${braced} ${value.count}\n`
  }

  #exemplar(format: ExpositionFormat, attributes: Attributes, index: number): string {
    return format === 'openmetrics' ? exemplarText(this.#exemplars.of(attributes)?.[index]) : ''
  }

  #labelsOf(attributes: Attributes): string {
    let text = this.#labels.get(attributes)
    if (text === undefined) this.#labels.set(attributes, (text = labelsText(attributes)))
    return text
  }

  #bucketEnds(boundaries: readonly number[]): readonly string[] {
    let ends = this.#buckets.get(boundaries)
    if (!ends) {
      ends = [...boundaries, Infinity].map((bound) => `le="${boundText(bound)}"} `)
      this.#buckets.set(boundaries, ends)
    }
    return ends
  }
}

interface Family {
  readonly name: string
  readonly kind: string
  readonly help: string
  readonly unit?: string | undefined
}

/** OpenMetrics 1.0.0: a counter's family lacks the `_total` of its samples, and a unit must be the family's suffix. */
function header(format: ExpositionFormat, { name, kind, help, unit }: Family): string {
  if (format === 'text') return `# HELP ${name} ${escapeText(help)}\n# TYPE ${name} ${kind}\n`
  const family = kind === 'counter' && name.endsWith('_total') ? name.slice(0, -'_total'.length) : name
  const unitLine = unit !== undefined && family.endsWith(`_${unit}`) ? `# UNIT ${family} ${unit}\n` : ''
  return `# HELP ${family} ${escapeQuoted(help)}\n# TYPE ${family} ${kind}\n${unitLine}`
}

/** The resource, once, as the compatibility specification wants it, in place of labels on every sample. */
function targetInfo(format: ExpositionFormat, attributes: Attributes): string {
  const family = format === 'text' ? { name: 'target_info', kind: 'gauge' } : { name: 'target', kind: 'info' }
  return `${header(format, { ...family, help: 'Target metadata' })}target_info{${labelsText(attributes)}} 1\n`
}

/** A family of prom-client: the same format, its samples already flat. */
function runtimeFamily(format: ExpositionFormat, { name, type, help, values }: RuntimeFamily): string {
  let text = header(format, { name, kind: String(type), help })
  for (const { metricName, labels, value } of values) {
    const pairs = Object.entries(labels).map(([key, label]) => `${key}="${runtimeLabel(key, label ?? '')}"`)
    text += `${metricName ?? name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${numberText(value)}\n`
  }
  return text
}

function runtimeLabel(key: string, value: string | number): string {
  return key === 'le' && typeof value === 'number' ? boundText(value) : escapeQuoted(String(value))
}

function labelsText(attributes: Attributes): string {
  const pairs: string[] = []
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    pairs.push(`${labelName(key)}="${escapeQuoted(text)}"`)
  }
  return pairs.join(',')
}

function exemplarText(exemplar: Exemplar | undefined): string {
  if (!exemplar) return ''
  const { span, value, wallMs } = exemplar
  return ` # {trace_id="${span.traceId}",span_id="${span.spanId}"} ${value} ${wallMs / 1000}`
}

/** Always a float, in both formats: Prometheus 2 would take `le="1"` and `le="1.0"` for two series. */
function boundText(bound: number): string {
  return Number.isInteger(bound) ? bound.toFixed(1) : numberText(bound)
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf'
  return value === -Infinity ? '-Inf' : String(value)
}

function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function escapeQuoted(text: string): string {
  return escapeText(text).replaceAll('"', '\\"')
}

/** An OpenTelemetry collector of a few lines: takes OTLP/HTTP protobuf and keeps the spans and the metrics. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface CollectedSpan {
  readonly service: string
  readonly traceId: string
  readonly spanId: string
  /** Empty for a root. */
  readonly parentId: string
  readonly name: string
  readonly kind: 'server' | 'client' | 'other'
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  readonly linkedTo: readonly string[]
  readonly isError: boolean
  readonly message: string
}

/** One point of a metric: a number, or what a histogram counted. */
export interface CollectedPoint {
  readonly service: string
  readonly name: string
  readonly unit: string
  readonly kind: 'gauge' | 'counter' | 'histogram'
  readonly isCumulative: boolean
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  /** Of a histogram its count. */
  readonly value: number
  readonly sum?: number
  readonly buckets?: { readonly bounds: readonly number[]; readonly counts: readonly number[] }
}

export interface Collector {
  /** What OTEL_EXPORTER_OTLP_ENDPOINT is to be. */
  readonly url: string
  readonly spans: readonly CollectedSpan[]
  /** The metrics of every push, in the order they came. */
  readonly pushes: readonly (readonly CollectedPoint[])[]
  /** `METHOD path content-type` of every request. */
  readonly requests: readonly string[]
  close(): Promise<void>
}

/** `isSilent`: it takes everything and answers nothing. */
export async function collector({ isSilent = false }: { readonly isSilent?: boolean } = {}): Promise<Collector> {
  const spans: CollectedSpan[] = []
  const pushes: CollectedPoint[][] = []
  const requests: string[] = []
  const http = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      requests.push(`${request.method} ${request.url} ${request.headers['content-type']}`)
      const body = Buffer.concat(chunks)
      if (request.url?.endsWith('/v1/metrics')) pushes.push(readMetrics(body))
      else spans.push(...readSpans(body))
      if (!isSilent) response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
    })
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    spans,
    pushes,
    requests,
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve())
        http.closeAllConnections()
      }),
  }
}

// opentelemetry/proto/trace/v1/trace.proto: field numbers.
const inRequest = { resourceSpans: 1 }
const inResourceSpans = { resource: 1, scopeSpans: 2 }
const inSpan = { traceId: 1, spanId: 2, parentId: 4, name: 5, kind: 6, attributes: 9, links: 13, status: 15 }
const kinds = new Map([
  [2, 'server'],
  [3, 'client'],
] as const)

function readSpans(body: Buffer): CollectedSpan[] {
  return all(body, inRequest.resourceSpans).flatMap((resourceSpans) => {
    const resource = attributesOf(all(resourceSpans, inResourceSpans.resource)[0] ?? Buffer.alloc(0), 1)
    const scopes = all(resourceSpans, inResourceSpans.scopeSpans)
    return scopes.flatMap((scope) => all(scope, 2)).map((span) => readSpan(span, String(resource['service.name'])))
  })
}

function readSpan(span: Buffer, service: string): CollectedSpan {
  const bytes = (field: number) => all(span, field)[0] ?? Buffer.alloc(0)
  const status = bytes(inSpan.status)
  return {
    service,
    traceId: bytes(inSpan.traceId).toString('hex'),
    spanId: bytes(inSpan.spanId).toString('hex'),
    parentId: bytes(inSpan.parentId).toString('hex'),
    name: bytes(inSpan.name).toString(),
    kind: kinds.get(number(span, inSpan.kind) as 2 | 3) ?? 'other',
    attributes: attributesOf(span, inSpan.attributes),
    linkedTo: all(span, inSpan.links).map((link) => (all(link, 1)[0] ?? Buffer.alloc(0)).toString('hex')),
    isError: number(status, 3) === 2,
    message: (all(status, 2)[0] ?? Buffer.alloc(0)).toString(),
  }
}

// opentelemetry/proto/metrics/v1/metrics.proto: field numbers.
const inMetric = { name: 1, unit: 3, gauge: 5, sum: 7, histogram: 9 }
const kindsOfMetrics = [
  ['gauge', inMetric.gauge],
  ['counter', inMetric.sum],
  ['histogram', inMetric.histogram],
] as const

function readMetrics(body: Buffer): CollectedPoint[] {
  return all(body, 1).flatMap((resourceMetrics) => {
    const resource = attributesOf(all(resourceMetrics, 1)[0] ?? Buffer.alloc(0), 1)
    const metrics = all(resourceMetrics, 2).flatMap((scope) => all(scope, 2))
    return metrics.flatMap((metric) => readMetric(metric, String(resource['service.name'])))
  })
}

function readMetric(metric: Buffer, service: string): CollectedPoint[] {
  const text = (field: number) => (all(metric, field)[0] ?? Buffer.alloc(0)).toString()
  return kindsOfMetrics.flatMap(([kind, field]) =>
    all(metric, field).flatMap((data) =>
      all(data, 1).map((point) => ({
        service,
        name: text(inMetric.name),
        unit: text(inMetric.unit),
        kind,
        isCumulative: number(data, 2) === 2,
        ...(kind === 'histogram' ? readHistogram(point) : readNumber(point)),
      })),
    ),
  )
}

/** A number is a double in field 4 or a fixed 64-bit integer in field 6. */
function readNumber(point: Buffer) {
  const value = all(point, 4)[0]?.readDoubleLE() ?? Number(all(point, 6)[0]?.readBigInt64LE() ?? 0)
  return { attributes: attributesOf(point, 7), value }
}

function readHistogram(point: Buffer) {
  const eights = (field: number) => {
    const packed = Buffer.concat(all(point, field))
    return Array.from({ length: packed.length / 8 }, (_, index) => packed.subarray(8 * index, 8 * index + 8))
  }
  return {
    attributes: attributesOf(point, 9),
    value: Number(all(point, 4)[0]?.readBigUInt64LE() ?? 0),
    sum: all(point, 5)[0]?.readDoubleLE() ?? 0,
    buckets: {
      bounds: eights(7).map((bytes) => bytes.readDoubleLE()),
      counts: eights(6).map((bytes) => Number(bytes.readBigUInt64LE())),
    },
  }
}

function attributesOf(message: Buffer, field: number): Record<string, string | number | boolean> {
  const pairs = all(message, field).map((pair) => {
    const value = all(pair, 2)[0] ?? Buffer.alloc(0)
    const text = all(value, 1)[0]
    const flag = fieldsOf(value).find((one) => one.field === 2)
    const double = fieldsOf(value).find((one) => one.field === 4 && Buffer.isBuffer(one.value))
    const read = text?.toString() ?? (flag ? flag.value === 1 : undefined)
    const figure = double && Buffer.isBuffer(double.value) ? double.value.readDoubleLE() : number(value, 3)
    return [(all(pair, 1)[0] ?? Buffer.alloc(0)).toString(), read ?? figure] as const
  })
  return Object.fromEntries(pairs)
}

function all(message: Buffer, field: number): Buffer[] {
  return fieldsOf(message).flatMap((one) => (one.field === field && Buffer.isBuffer(one.value) ? [one.value] : []))
}

function number(message: Buffer, field: number): number {
  const found = fieldsOf(message).find((one) => one.field === field)?.value
  return typeof found === 'number' ? found : 0
}

/** The fields of one protobuf message, undecoded: varints as numbers, all else as bytes. */
function fieldsOf(message: Buffer): { readonly field: number; readonly value: number | Buffer }[] {
  const fields: { field: number; value: number | Buffer }[] = []
  let at = 0
  const varint = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++] ?? 0
      value += (byte & 127) * 2 ** shift
      if (byte < 128) return value
    }
  }
  const bytes = (count: number) => message.subarray(at, (at += count))
  while (at < message.length) {
    const tag = varint()
    const wireType = tag % 8
    const value = wireType === 0 ? varint() : bytes(wireType === 1 ? 8 : wireType === 5 ? 4 : varint())
    fields.push({ field: Math.floor(tag / 8), value })
  }
  return fields
}

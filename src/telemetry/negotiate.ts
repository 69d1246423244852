/** The two expositions that Prometheus reads. */
export type ExpositionFormat = 'text' | 'openmetrics'

/** Exact: Prometheus 3 refuses a scrape whose content type it does not know. */
export const contentTypes: Readonly<Record<ExpositionFormat, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/**
 * The format that an `Accept` header prefers (RFC 9110 §12.5.1). OpenMetrics needs to be named: a browser's wildcard
 * gets the text, and so does a header that accepts neither, since a scrape that shows nothing helps nobody.
 */
export function negotiate(accept: string | undefined): ExpositionFormat {
  const ranges = (accept ?? '').split(',').map(parseRange)
  const openmetrics = quality(ranges, { type: 'application', subtype: 'openmetrics-text', version: '1.0.0' })
  const text = quality(ranges, { type: 'text', subtype: 'plain', version: '0.0.4' })
  return openmetrics.named && openmetrics.q > 0 && openmetrics.q >= text.q ? 'openmetrics' : 'text'
}

/** Whether an `Accept-Encoding` header takes gzip (RFC 9110 §12.5.3): named or by `*`, and not with a quality of 0. */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  const codings = new Map((acceptEncoding ?? '').split(',').map((part) => parseCoding(part)))
  const q = codings.get('gzip') ?? codings.get('x-gzip') ?? codings.get('*') ?? 0
  return q > 0 && q >= (codings.get('identity') ?? 0)
}

function parseCoding(text: string): [coding: string, q: number] {
  const [coding = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase())
  const values = new Map(parameters.map((parameter) => splitParameter(parameter)))
  return [coding, qualityOf(values.get('q'))]
}

function qualityOf(text: string | undefined): number {
  const q = Number(text ?? 1)
  return q >= 0 && q <= 1 ? q : 0
}

interface MediaRange {
  readonly type: string
  readonly subtype: string
  readonly version: string | undefined
  readonly q: number
}

function parseRange(text: string): MediaRange {
  const [mediaType = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase())
  const [type = '', subtype = ''] = mediaType.split('/')
  const values = new Map(parameters.map((parameter) => splitParameter(parameter)))
  return { type, subtype, version: values.get('version'), q: qualityOf(values.get('q')) }
}

function splitParameter(parameter: string): [string, string] {
  const at = parameter.indexOf('=')
  if (at < 0) return [parameter, '']
  return [
    parameter.slice(0, at).trim(),
    parameter
      .slice(at + 1)
      .trim()
      .replaceAll('"', ''),
  ]
}

/** The quality given by the most specific range that matches; `named` unless that is a wildcard. */
function quality(ranges: readonly MediaRange[], offer: { type: string; subtype: string; version: string }) {
  let best = { rank: 0, q: 0 }
  for (const range of ranges) {
    const rank = specificity(range, offer)
    if (rank > best.rank || (rank === best.rank && range.q > best.q)) best = { rank, q: rank === 0 ? 0 : range.q }
  }
  return { q: best.q, named: best.rank >= 3 }
}

/** 4 for type and version, 3 for the type, 2 for `type/*`, 1 for any, 0 for no match. */
function specificity(range: MediaRange, offer: { type: string; subtype: string; version: string }): number {
  if (range.type === '*' && range.subtype === '*') return 1
  if (range.type !== offer.type) return 0
  if (range.subtype === '*') return 2
  if (range.subtype !== offer.subtype) return 0
  if (range.version === undefined) return 3
  return range.version === offer.version ? 4 : 0
}

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { acceptsGzip, negotiate } from '../../src/telemetry/negotiate.ts'

describe('acceptsGzip (RFC 9110 §12.5.3)', () => {
  it.each<[string | undefined, boolean]>([
    [undefined, false],
    ['', false],
    ['gzip', true],
    ['GZIP', true],
    ['x-gzip', true],
    ['gzip;q=0', false],
    ['deflate, gzip;q=0.5', true],
    ['br, *;q=0.1', true],
    ['*;q=0', false],
    ['gzip;q=0, *', false],
    ['gzip;q=0.2, identity', false],
    ['gzip;q=1, identity;q=0.5', true],
    ['gzip;q=nonsense', false],
    ['br', false],
  ])('%s: %s', (header, accepted) => {
    expect(acceptsGzip(header)).toBe(accepted)
  })
})

describe('negotiate (RFC 9110 §12.5.1)', () => {
  it.each([
    ['no header', undefined, 'text'],
    ['empty', '', 'text'],
    ['curl', '*/*', 'text'],
    ['a browser', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'text'],
    [
      'Prometheus 2.42',
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    [
      'Prometheus 2.42 with native histograms',
      'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    [
      'Prometheus 3',
      'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
      'openmetrics',
    ],
    ['Prometheus 3, scrape_protocols: [PrometheusText0.0.4]', 'text/plain;version=0.0.4;q=0.6,*/*;q=0.5', 'text'],
    ['Prometheus 2.4', 'text/plain;version=0.0.4;q=1,*/*;q=0.1', 'text'],
    ['only the old OpenMetrics', 'application/openmetrics-text;version=0.0.1', 'text'],
    ['OpenMetrics without a version', 'application/openmetrics-text', 'openmetrics'],
    ['OpenMetrics less wanted', 'application/openmetrics-text;q=0.4, text/plain;q=0.5', 'text'],
    ['OpenMetrics refused', 'application/openmetrics-text;q=0, */*', 'text'],
    [
      'the version refused, the type wanted',
      'application/openmetrics-text, application/openmetrics-text;version=1.0.0;q=0',
      'text',
    ],
    ['equally wanted', 'text/plain, application/openmetrics-text', 'openmetrics'],
    ['other case, spaces and quotes', 'Application/OpenMetrics-Text ; Version="1.0.0" ; Q=0.9', 'openmetrics'],
    ['a broken quality', 'application/openmetrics-text;q=abc', 'text'],
    ['neither', 'application/json', 'text'],
  ])('%s', (_, accept, format) => expect(negotiate(accept)).toBe(format))

  it('answers whatever it is sent', () => {
    fc.assert(fc.property(fc.string(), (accept) => ['text', 'openmetrics'].includes(negotiate(accept))))
  })
})

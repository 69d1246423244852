import { describe, expect, it } from 'vitest'
import { telemetryResource } from '../../src/telemetry/resource.ts'

describe('telemetryResource (OpenTelemetry specification, Resource SDK)', () => {
  it.each([
    ['our own name by default', {}, 'mcp-vitals'],
    ['OTEL_SERVICE_NAME', { OTEL_SERVICE_NAME: 'edge' }, 'edge'],
    ['OTEL_RESOURCE_ATTRIBUTES', { OTEL_RESOURCE_ATTRIBUTES: 'service.name=a' }, 'a'],
    ['OTEL_SERVICE_NAME before it', { OTEL_SERVICE_NAME: 'b', OTEL_RESOURCE_ATTRIBUTES: 'service.name=a' }, 'b'],
    ['an empty name is none', { OTEL_SERVICE_NAME: '' }, 'mcp-vitals'],
  ])('service.name: %s', (_, env, name) => {
    expect(telemetryResource(env, '1.2.3').attributes).toMatchObject({
      'service.name': name,
      'service.version': '1.2.3',
    })
  })

  it('reads a percent-encoded list', () => {
    const env = { OTEL_RESOURCE_ATTRIBUTES: ' deployment.environment.name=prod , team=a%2Cb%3Dc,' }
    expect(telemetryResource(env, '1').attributes).toMatchObject({
      'deployment.environment.name': 'prod',
      team: 'a,b=c',
    })
  })

  it.each(['a=1,b', 'a=1,=2', 'a=1,b=c=d', 'a=1,b=%zz'])('discards the whole list on an error: %s', (list) => {
    expect(telemetryResource({ OTEL_RESOURCE_ATTRIBUTES: list }, '1').attributes).not.toHaveProperty('a')
  })
})

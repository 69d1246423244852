/** Colours, thresholds and value names that all dashboards share. */
import {
  MappingType,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type Threshold,
  type ValueMapping,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { defaults } from '../../../src/defaults.ts'
import { type State, states } from '../../../src/heartbeat/verdict.ts'
import { label, metrics } from '../../../src/telemetry/names.ts'
import { is } from '../promql.ts'
import type { Scope } from './scope.ts'

/** The share of failed heartbeats above which a server is suspect. */
export const errorShareLimit = defaults.heartbeat.errorRateThresholdPercent / 100

/** The time above which an answer is slow, in seconds. */
export const responseTimeLimit = defaults.heartbeat.responseTimeThresholdMs / 1000

/** Of availability: green where the objective is met. */
export function availabilitySteps(): ThresholdsConfigBuilder {
  return stepsFrom('red', [[defaults.alerts.availabilityObjectivePercent / 100, 'green']])
}

const stateColors: Readonly<Record<State, string>> = {
  starting: 'light-blue',
  healthy: 'green',
  suspect: 'yellow',
  busy: 'blue',
  degraded: 'orange',
  recovering: 'light-green',
  down: 'red',
  crash_loop: 'dark-red',
  needs_auth: 'purple',
  idle: 'semi-dark-blue',
  paused: 'super-light-blue',
  disabled: 'gray',
}

/** The names and colours of the numbers that `stateNumber` gives. */
export const stateMapping: ValueMapping = {
  type: MappingType.ValueToText,
  options: Object.fromEntries(
    states.map((state, index) => [String(index), { text: state, color: stateColors[state], index }]),
  ),
}

/** The state of each server as a number, its place in the list of states: Grafana's panels know no strings over time. */
export function stateNumber(scope: Scope): string {
  const terms = states.map(
    (state, index) => `${index} * (${scope.series(metrics.upstreamState, { [label.state]: is(state) })} == 1)`,
  )
  return terms.join('\n  or ')
}

export function mapping(
  names: Readonly<Record<string, { readonly text: string; readonly color: string }>>,
): ValueMapping {
  return {
    type: MappingType.ValueToText,
    options: Object.fromEntries(Object.entries(names).map(([value, result], index) => [value, { ...result, index }])),
  }
}

/** Green below the first limit; each limit begins with a colour of its own. */
export function thresholds(...limits: readonly (readonly [value: number, color: string])[]): ThresholdsConfigBuilder {
  return stepsFrom('green', limits)
}

/** No colour below the first limit. */
export function limitsOnly(...limits: readonly (readonly [value: number, color: string])[]): ThresholdsConfigBuilder {
  return stepsFrom('transparent', limits)
}

export function stepsFrom(
  base: string,
  limits: readonly (readonly [value: number, color: string])[],
): ThresholdsConfigBuilder {
  const steps: Threshold[] = [{ value: null, color: base }, ...limits.map(([value, color]) => ({ value, color }))]
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps)
}

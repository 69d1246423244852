import { hourlyOutages } from './faults.ts'
import { figuresOf, mean, quantile } from './figures.ts'
import { type Policy, type WorldReport, runWorld } from './world.ts'

/** A calm fleet whose servers fall silent once an hour; all of it follows from the seed. */
export interface Fleet {
  readonly seed: number
  readonly upstreams: number
  readonly hours: number
  readonly policy: Policy
  /** The share of the outages that announce themselves. */
  readonly preludes: number
}

export function liveThroughFleet({ seed, upstreams, hours, policy, preludes }: Fleet): Promise<WorldReport> {
  return runWorld({ seed, plan: hourlyOutages(seed, upstreams, hours, preludes), policy })
}

/** What the adaptive interval promises of 200 servers with an outage an hour each, which nothing but probes can find. */
interface Bounds {
  readonly meanSeconds: number
  readonly longestSeconds: number
  /** Of 200 servers. */
  readonly probesPerSecond: number
}

export const fleetServers = 200
const withPreludes: Bounds = { meanSeconds: 21, longestSeconds: 46, probesPerSecond: 10 }
const withoutPreludes: Bounds = { ...withPreludes, meanSeconds: 27 }

/**
 * What of that a fleet breaks, in words. The mean is that of all draws together: of one alone, with its 1,200 outages,
 * it strays by a quarter of a second. The rest holds for each draw.
 */
export function brokenPromises(draws: readonly WorldReport[], preludes: number, upstreams: number): readonly string[] {
  const { meanSeconds, longestSeconds, probesPerSecond } = preludes > 0 ? withPreludes : withoutPreludes
  const meanOfAll = mean(figuresOf(draws).detectionSeconds)
  const broken =
    meanOfAll <= meanSeconds ? [] : [`detected after ${meanOfAll.toFixed(2)} s on average, not ${meanSeconds} s`]
  for (const figures of draws.map((draw) => figuresOf([draw]))) {
    const longest = quantile(figures.detectionSeconds, 1)
    if (!(longest <= longestSeconds))
      broken.push(`detected after ${longest.toFixed(1)} s, not ${longestSeconds} s at most`)
    const most = (probesPerSecond * upstreams) / fleetServers
    if (!(figures.probesPerSecond <= most)) broken.push(`${figures.probesPerSecond.toFixed(2)} probes/s, not ${most}`)
    if (figures.falseAlarms > 0) broken.push(`${figures.falseAlarms} false alarms`)
    const missed = figures.outages - figures.detectionSeconds.length
    if (missed > 0) broken.push(`${missed} outages were not detected, or not from calm`)
  }
  return broken
}

/** How the mean of one draw strays. */
export function spread(draws: readonly WorldReport[]): string {
  const means = draws.map((draw) => mean(figuresOf([draw]).detectionSeconds)).toSorted((a, b) => a - b)
  const [least, most] = [quantile(means, 0), quantile(means, 1)]
  return `${draws.length} draws: mean ${least.toFixed(1)} to ${most.toFixed(1)} s, ${mean(means).toFixed(2)} s on average`
}

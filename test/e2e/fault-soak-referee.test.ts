import { describe, expect, it } from 'vitest'
import { type Counts, type Expectation, Referee } from './fault-soak-referee.ts'

const crash: Expectation = {
  verdict: 'down',
  reason: /SIGKILL/,
  outcome: 'exited',
  action: 'signal',
  withinMs: 5000,
}
const tool: Expectation = { ...crash, verdict: 'degraded', reason: /write/, mayBe: ['down'] }
const pause: Expectation = { ...crash, reason: /no answer/, outcome: 'timeout', action: 'hung' }

const counts = (restarts: Readonly<Record<string, number>> = {}, exited = 0): Counts => ({
  restarts: new Map(Object.entries(restarts)),
  heartbeats: new Map(Object.entries({ exited, timeout: exited })),
})

interface Story {
  readonly expected?: Expectation
  /** What the log told: state, when, and why. `hang` is the line about a process that hangs. */
  readonly told?: readonly (readonly [state: string, atMs: number, reason?: string])[]
  /** What was counted when the server was well again. */
  readonly after?: Counts
  /** What was counted at the very end, if that is something else. */
  readonly finally?: Counts
  /** Name, start, end. */
  readonly alerts?: readonly (readonly [name: string, startsAtMs: number, endsAtMs?: number])[]
  readonly trouble?: string
}

/** One fault of server `a`, from 10 s to 30 s, and what the referee says of what was told meanwhile. */
function problemsOf({ expected = crash, told = [], after, finally: last, alerts = [], trouble }: Story) {
  const referee = new Referee({ mustAfterMs: 8000, backdatedMs: 1000 })
  const episode = referee.open({ upstream: 'a', kind: 'fault', expected }, counts(), 10_000)
  const right = counts({ [expected.action]: 1 }, 1)
  for (const [state, atMs, reason = 'killed by SIGKILL'] of told) {
    referee.told({ upstream: 'a', state: state === 'hang' ? undefined : state, reason, atMs })
  }
  for (const [name, startsAtMs, endsAtMs] of alerts) referee.alerted({ name, upstream: 'a', startsAtMs, endsAtMs })
  referee.close(episode, after ?? right, 30_000, trouble)
  referee.finish('a', last ?? after ?? right)
  return referee.problems()
}

const found = ['down', 10_200] as const
const back = ['healthy', 12_000, 'ping answered'] as const

describe('the referee of the soak of faults', () => {
  it.each<[string, Story]>([
    ['a fault that is found, acted upon and over', { told: [found, ['recovering', 11_000], back] }],
    ['one that is suspected first', { told: [['suspect', 10_100, '1 miss'], found, back] }],
    [
      'a verdict that comes after another',
      { expected: tool, told: [found, ['degraded', 12_000, 'it lost write'], back] },
    ],
    [
      'a process that hangs',
      { expected: pause, told: [['down', 12_000, 'no answer within 2 s'], ['hang', 14_000, 'hung'], back] },
    ],
    [
      'an alert about what lasted, dated back to a heartbeat that the fault met',
      { told: [found, ['recovering', 19_000], back], alerts: [['McpUpstreamDown', 9500, 19_500]] },
    ],
    ['suspicion without a fault', { told: [['suspect', 5000, '1 miss'], ['healthy', 6000], found, back] }],
  ])('takes %s', (_, story) => expect(problemsOf(story)).toEqual([]))

  it.each<[string, Story, RegExp]>([
    ['a fault that nobody told of', { told: [['suspect', 10_100, '1 miss'], back] }, /^missed: fault of a/],
    ['one told of for another reason', { told: [['down', 10_200, 'no answer within 2 s'], back] }, /^missed: /],
    ['one that was found late', { told: [['down', 16_000], back] }, /^found late: fault of a after 6000 ms/],
    ['a verdict that does not follow', { told: [found, ['needs_auth', 11_000, '401'], back] }, /^wrong verdict: .*401/],
    ['an alarm before the fault', { told: [['down', 9000], found, back] }, /^false alarm: a is down/],
    ['an alarm when all is well again', { told: [found, back, ['degraded', 31_000]] }, /^false alarm: a is degraded/],
    ['a hang that is none', { told: [found, ['hang', 11_000, 'hung'], back] }, /^wrong verdict: .*hung/],
    ['a hang without a fault', { told: [found, back, ['hang', 31_000, 'hung']] }, /^false alarm: a is hung/],
    [
      'a restart that did not come',
      { told: [found, back], after: counts({}, 1) },
      /^wrong action: .* none, not 1 × signal/,
    ],
    ['one too many', { told: [found, back], after: counts({ signal: 2 }, 1) }, /^wrong action: .* 2 × signal, not/],
    [
      'one for another reason',
      { told: [found, back], after: counts({ hung: 1 }, 1) },
      /^wrong action: .* 1 × hung, not/,
    ],
    [
      'a restart when all was well again',
      { told: [found, back], finally: counts({ signal: 1, memory: 1 }, 1) },
      /^restarted without a fault: a: 1 × memory/,
    ],
    [
      'a heartbeat that was not counted',
      { told: [found, back], after: counts({ signal: 1 }) },
      /^not counted: .*exited/,
    ],
    ['a server that never came back', { told: [found], trouble: 'it is down' }, /^never well again: .*it is down/],
    [
      'an alert without a fault',
      { told: [found, back], alerts: [['McpUpstreamDown', 5000, 6000]] },
      /^false alert: McpUpstreamDown for a/,
    ],
    [
      'an alert about something else',
      { told: [found, back], alerts: [['McpUpstreamNeedsAuth', 10_500, 12_000]] },
      /^false alert: McpUpstreamNeedsAuth/,
    ],
    [
      'one about all servers, of which most are well',
      { told: [found, back], alerts: [['McpUpstreamsSilentTogether', 10_500, 12_000]] },
      /^false alert: McpUpstreamsSilentTogether/,
    ],
    [
      'an alert that did not come',
      { told: [found, ['recovering', 19_000], back] },
      /^no alert: a was down for 8800 ms/,
    ],
  ])('does not take %s', (_, story, problem) => {
    expect(problemsOf(story)).toEqual([expect.stringMatching(problem)])
  })

  it('tells one server from another', () => {
    const referee = new Referee({ mustAfterMs: 8000, backdatedMs: 1000 })
    const episode = referee.open({ upstream: 'a', kind: 'fault', expected: crash }, counts(), 10_000)
    referee.told({ upstream: 'b', state: 'down', reason: 'killed by SIGKILL', atMs: 10_200 })
    referee.close(episode, counts({ signal: 1 }, 1), 30_000)
    const problems = [expect.stringMatching(/^missed: fault of a/), expect.stringMatching(/^false alarm: b is down/)]
    expect(referee.problems()).toEqual(problems)
  })

  it('adds up what came of each kind', () => {
    const referee = new Referee({ mustAfterMs: 8000, backdatedMs: 1000 })
    for (const [openedMs, foundMs] of [
      [10_000, 10_500],
      [20_000, 21_500],
      [30_000, undefined],
    ] as const) {
      const episode = referee.open({ upstream: 'a', kind: 'fault', expected: crash }, counts(), openedMs)
      if (foundMs !== undefined) referee.told({ upstream: 'a', state: 'down', reason: 'SIGKILL', atMs: foundMs })
      referee.close(episode, counts(), openedMs + 5000)
    }
    expect(referee.kinds()).toEqual([{ kind: 'fault', injected: 3, found: 2, meanSeconds: 1, maxSeconds: 1.5 }])
  })
})

import { describe, expect, it } from 'vitest'
import { silentTogether } from '../../src/heartbeat/correlation.ts'
import { firstDecision } from '../../src/heartbeat/interval.ts'
import { silencesOf } from '../../src/heartbeat/monitored.ts'
import type { ProbeMode } from '../../src/heartbeat/probe.ts'
import { type State, newVerdict } from '../../src/heartbeat/verdict.ts'
import { intervalSettings } from '../support/settings.ts'

/** One upstream, silent since the beginning or not at all. */
function judged(name: string, state: State, probe: ProbeMode = 'active', isSilent = false) {
  const verdict = { ...newVerdict(state, 'so', 0), silentSinceMs: isSilent ? 0 : undefined }
  return { name, heartbeat: { glance: () => ({ verdict, interval: firstDecision(intervalSettings), probe }) } }
}

const silent = ['a', 'b', 'c', 'd', 'e'].map((name) => judged(name, 'down', 'active', true))
const seven = (state: State, probe?: ProbeMode) => Array.from({ length: 7 }, (_, at) => judged(`${at}`, state, probe))

describe('who has a say in whether upstreams fell silent together', () => {
  it.each<[string, State, ProbeMode?]>([
    ['idle', 'idle'],
    ['under maintenance', 'paused'],
    ['never judged', 'disabled', 'off'],
    ['in a crash loop', 'crash_loop'],
    ['only asked by clients', 'healthy', 'passive'],
  ])('none that is %s: nobody hears of it', (_, state, probe) => {
    expect(silentTogether(silencesOf([...silent, ...seven(state, probe)]))).toHaveLength(5)
  })

  it.each<State>(['healthy', 'busy', 'needs_auth'])('one that is asked and %s', (state) => {
    expect(silentTogether(silencesOf([...silent, ...seven(state)]))).toEqual([])
  })

  it('one that clients alone ask, and that left them without an answer', () => {
    const all = [...silent.slice(1), judged('p', 'suspect', 'passive', true), ...seven('idle')]
    expect(silentTogether(silencesOf(all))).toContain('p')
  })
})

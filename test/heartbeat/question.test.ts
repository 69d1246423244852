import { describe, expect, it } from 'vitest'
import { type Asked, questionFor } from '../../src/heartbeat/question.ts'

const asked: Asked = { mode: 'active', isPaused: false, probe: 'ping', era: 'legacy' }
const ping = { era: 'legacy', method: 'ping' }
const list = { era: 'legacy', method: 'tools/list' }
const discover = { era: 'modern', method: 'server/discover' }

describe('what a server may be asked besides its heartbeats', () => {
  it.each<[string, 'upstream' | 'session', Partial<Asked>, unknown]>([
    ['what those ask', 'upstream', {}, ping],
    ['the same in a session', 'session', {}, ping],
    ['its tools where it knows no ping', 'session', { probe: 'tools/list' }, list],
    ['in its own era', 'upstream', { probe: 'server/discover', era: 'modern' }, discover],
    ['but in that of the client inside a session', 'session', { probe: 'server/discover', era: 'modern' }, ping],
    ['nor is its tool list asked for otherwise', 'session', { probe: 'tools/list', era: 'modern' }, list],
    ['a ping where nothing is known yet', 'session', { probe: 'server/discover', era: undefined }, ping],
    ['nothing where nothing is asked', 'session', { probe: 'process' }, undefined],
    ['nothing under probe: passive', 'session', { mode: 'passive' }, undefined],
    ['nothing under probe: off', 'upstream', { mode: 'off' }, undefined],
    ['nothing during maintenance', 'upstream', { isPaused: true }, undefined],
  ])('%s', (_title, leg, changes, question) => {
    expect(questionFor(leg, { ...asked, ...changes })).toEqual(question)
  })
})

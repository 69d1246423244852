import { describe, expect, it } from 'vitest'
import { type ClientsProcess, type Way, wayTo } from '../../src/heartbeat/unasked.ts'

const idle: ClientsProcess = {
  hasSpoken: true,
  isIdle: true,
  isOpened: true,
  canAsk: true,
  waiting: 'nobody',
  isOverdue: false,
}

describe('the heartbeat of a process of a client', () => {
  it.each<[string, Partial<ClientsProcess>, Way['kind'], string?]>([
    ['asks it while it is idle', {}, 'ask'],
    ['is what it said lately, whoever waits', { isIdle: false, waiting: 'server' }, 'heard'],
    ['is that, too, while nothing could go in', { isIdle: false, canAsk: false }, 'heard'],
    ['is what it says to its client, who waits', { waiting: 'client' }, 'listen'],
    ['is the same before its first word', { waiting: 'client', hasSpoken: false, isOpened: false }, 'listen'],
    [
      'is a look at what has just started',
      { waiting: 'client', hasSpoken: false, isIdle: false },
      'look',
      'inconclusive',
    ],
    ['is a look where it waits for its client', { waiting: 'server' }, 'look', 'ok'],
    ['asks it when it has waited for its client for too long', { waiting: 'server', isOverdue: true }, 'ask'],
    ['is a look, however long, where its client waits for it, too', { waiting: 'both', isOverdue: true }, 'look', 'ok'],
    [
      'is a look that proves nothing where it has waited for too long, and cannot be asked',
      { waiting: 'server', isOverdue: true, canAsk: false },
      'look',
      'inconclusive',
    ],
    ['is a look, whoever waits, while nothing can go in', { waiting: 'client', canAsk: false }, 'look', 'inconclusive'],
    ['is a look where its client has yet to begin', { isOpened: false }, 'look', 'ok'],
    ['is a look where nobody ever spoke', { isOpened: false, hasSpoken: false }, 'look', 'inconclusive'],
  ])('%s', (_, facts, kind, outcome) => {
    const way = wayTo({ ...idle, ...facts })
    expect([way.kind, way.kind === 'look' ? way.proves.outcome : undefined]).toEqual([kind, outcome])
  })
})

import type { ServerResponse } from 'node:http'
import { afterEach, expect, it } from 'vitest'
import { serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { defaults } from '../../src/defaults.ts'
import { createLogger } from '../../src/log.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { mcpServer } from '../support/mcp-server.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

/**
 * A whole mcp-vitals in virtual time, with so many servers behind URLs, each of which is asked for a sign of life alone.
 * They answer at once, or when they are told to.
 */
async function fleetOf(servers: number, isHeld: boolean) {
  const clock = fakeClock()
  const open: ServerResponse[] = []
  const mcp = await mcpServer({
    reactions: {
      OPTIONS: (_message, response) => {
        if (isHeld) open.push(response)
        else response.writeHead(204).end()
      },
    },
  })
  closing.push(mcp.stop)
  const names = Array.from({ length: servers }, (_, index) => `u${index}`)
  const extra = {
    listen: '127.0.0.1:0',
    admin_listen: '127.0.0.1:0',
    heartbeat: { probe_method: 'transport' },
    mcpServers: Object.fromEntries(names.map((name) => [name, { url: mcp.url }])),
  }
  const { config } = loadConfig({ files: [], env: {}, extra })
  const log = createLogger({ level: 'error', format: 'json', isTerminal: false, write: () => undefined })
  const vitals = await serve({ config, env: {}, log, clock })
  closing.push(async () => {
    const stopped = vitals.stop()
    await clock.advance(defaults.shutdownDeadlineMs)
    await stopped
  })
  const asked = () => mcp.count('OPTIONS')
  /** So many have been asked, and nobody else is: virtual time stands still meanwhile, and the others could not wait. */
  const areAsked = async (count: number) => {
    await eventually(() => clock.advance(0).then(() => asked() >= count), { what: `${count} servers are asked` })
    for (let turn = 0; turn < 20; turn++) await clock.advance(0)
    expect(asked()).toBe(count)
  }
  return { clock, areAsked, release: () => open.splice(0).forEach((response) => response.writeHead(204).end()) }
}

it('all heartbeats together keep to 16 at a time', async () => {
  const { areAsked, release } = await fleetOf(40, true)
  await areAsked(16)
  release()
  await areAsked(32)
  release()
  await areAsked(40)
  release()
})

it('all heartbeats together keep to 50 within a second', async () => {
  const { clock, areAsked } = await fleetOf(150, false)
  for (const count of [50, 100, 150]) {
    await areAsked(count)
    await clock.advance(999)
    await areAsked(count)
    await clock.advance(1)
  }
})

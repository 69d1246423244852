/** One bad upstream never slows another (README, "Time-outs and limits"): each has limits, a queue and a circuit of its own. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { repoRoot } from '../peers/spawn.ts'
import { debugUpstream, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { type OpenPost, initializeMessage, openPost, openSession, post } from '../support/rpc.ts'
import { type ScriptedServer, scriptedServer, sendJson } from '../support/scripted-server.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const [maxInFlight, maxQueue] = [64, 128]
const scripted = { command: process.execPath, args: [join(repoRoot, 'test/peers/children/scripted-stdio.mjs')] }
/** What it has got stays where it is for the whole test. */
const patience = {
  max_in_flight: maxInFlight,
  max_queue: maxQueue,
  queue_timeout_seconds: 300,
  stall_timeout_seconds: 300,
  heartbeat: { probe: 'passive' },
}

let directory: string
let server: ScriptedServer
let vitals: RunningVitals
const open: OpenPost[] = []

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-bulkhead-'))
  const starts = join(directory, 'starts')
  await writeFile(starts, '')
  server = await scriptedServer(({ id, method }, response) => {
    if (id === undefined) response.writeHead(202).end()
    else if (method !== 'silent') sendJson(response, 200, { jsonrpc: '2.0', id, result: {} })
  })
  const { url } = server
  vitals = await startVitals({
    config: {
      mcpServers: {
        'bad-stdio': { ...scripted, ...patience },
        'bad-http': { url, ...patience },
        // Each of its starts holds a place for two seconds.
        mute: { command: 'sh', args: ['-c', `printf x >> ${starts}; exec sleep 600`], heartbeat: { probe: 'off' } },
        stdio: scripted,
        // The very address that the bad one has.
        http: { url },
      },
    },
  })
})

afterAll(async () => {
  for (const { disconnect } of open) disconnect()
  await server.stop()
  await vitals.stop()
  await rm(directory, { recursive: true, force: true })
})

const urlOf = (name: string) => `${vitals.dataUrl}/${name}/mcp`
const sessionAt = (name: string) => (name.endsWith('stdio') ? openSession(urlOf(name)) : Promise.resolve({}))
const request = (id: number, method: string) => ({ jsonrpc: '2.0', id, method })

describe.each(['bad-stdio', 'bad-http'])('%s, full to its last place', (bad) => {
  it('a server that leaves everything unanswered keeps nobody else waiting', async () => {
    const session = await sessionAt(bad)
    const asked = Array.from({ length: maxInFlight + maxQueue }, (_, id) =>
      openPost(urlOf(bad), request(id, 'silent'), session),
    )
    open.push(...asked)
    let over = 0
    for (const { done } of asked) void done.catch(() => undefined).then(() => (over += 1))
    const labels = { upstream: bad }
    const isFull = async () => (await metricValue(vitals, 'mcp_upstream_queue_length', labels)) === maxQueue
    await eventually(isFull, { what: `${maxQueue} requests wait` })
    const refused = await post(urlOf(bad), request(0, 'silent'), session)
    expect([refused.status, refused.messages[0]]).toMatchObject([503, { error: { data: { reason: 'queue_full' } } }])

    for (const good of ['stdio', 'http']) {
      const own = await sessionAt(good)
      // As many as may be under way at a time: not one place is taken by the other server's.
      const ids = Array.from({ length: maxInFlight }, (_, id) => id)
      const answers = await Promise.all(ids.map((id) => post(urlOf(good), request(id, 'ping'), own)))
      expect(answers.map(({ status }) => status)).toEqual(ids.map(() => 200))
      await fetch(`${vitals.adminUrl}/debug/heartbeat/${good}`, { method: 'POST' })
      const { state, circuit } = await debugUpstream(vitals, good)
      expect([state, circuit?.state]).toEqual(['healthy', 'closed'])
    }
    expect(over, 'requests of the bad server that have ended meanwhile').toBe(0)
    expect(await isFull()).toBe(true)
  })
})

describe('a deaf server, at which clients are stuck while they open their sessions', () => {
  it('leaves others their share of max_sessions', async () => {
    const [most, clients] = [8, 12]
    const deaf = { command: 'sh', args: ['-c', 'exec sleep 600'], heartbeat: { probe: 'off' } }
    const running = await startVitals({ config: { max_sessions: most, mcpServers: { deaf, stdio: scripted } } })
    const initialize = (name: string) => openPost(`${running.dataUrl}/${name}/mcp`, initializeMessage)
    const refused = () => metricValue(running, 'mcp_vitals_rejected_requests_total', { reason: 'too_many_sessions' })
    const stuck = Array.from({ length: clients }, () => initialize('deaf'))
    try {
      const kept = 1
      await eventually(async () => (await refused()) === clients - (most - kept), { what: 'as many as fit are stuck' })
      expect((await initialize('stdio').done).status).toBe(200)
      expect((await initialize('stdio').done).status).toBe(503)
    } finally {
      for (const { disconnect } of stuck) disconnect()
      await running.stop()
    }
  })
})

describe('a server that writes without end', () => {
  it('is read in turn with the others, which answer meanwhile', async () => {
    const endless = { command: 'yes', args: ['noise'], heartbeat: { probe: 'off' } }
    const running = await startVitals({ config: { mcpServers: { endless, http: { url: server.url } } } })
    const endlessly = { upstream: 'endless', reason: 'noise' }
    const noise = async () => (await metricValue(running, 'mcp_vitals_dropped_messages_total', endlessly)) ?? 0
    const opening = openPost(`${running.dataUrl}/endless/mcp`, initializeMessage)
    try {
      await eventually(async () => (await noise()) > 0, { what: 'it writes' })
      const ids = Array.from({ length: maxInFlight }, (_, id) => id)
      const answers = await Promise.all(ids.map((id) => post(`${running.dataUrl}/http/mcp`, request(id, 'ping'))))
      expect(answers.map(({ status }) => status)).toEqual(ids.map(() => 200))
      const before = await noise()
      await eventually(async () => (await noise()) > before, { what: 'it writes on' })
    } finally {
      opening.disconnect()
      await running.stop()
    }
  })
})

describe('mute, whose every start hangs', () => {
  it('another server starts before those who wait for it', async () => {
    const clients = 30
    const startsOf = async () => (await readFile(join(directory, 'starts'), 'utf8')).length
    const before = await startsOf()
    const waiting = Array.from({ length: clients }, () => openPost(urlOf('mute'), initializeMessage))
    open.push(...waiting)
    await eventually(async () => (await startsOf()) > before, { what: 'the first of them starts' })
    await sessionAt('stdio')
    expect((await startsOf()) - before).toBeLessThan(clients)
  })
})

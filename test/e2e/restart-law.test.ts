/** Clients of a server that crashes cannot make it start more often (README, "Starts that fail"). */
import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { repoRoot } from '../peers/spawn.ts'
import { becomesState, debugUpstream, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { initializeMessage, modernPost, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let directory: string
let vitals: RunningVitals
const startsOf = async (name: string) => (await readFile(join(directory, name), 'utf8')).length
/** A server that notes its start and ends before it says a word. */
const crasher = (name: string, code: number) => ({
  command: 'sh',
  args: ['-c', `printf x >> ${join(directory, name)}; exit ${code}`],
})

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-starts-'))
  const server = join(repoRoot, 'test/peers/children/scripted-stdio.mjs')
  const isThere = `test -f ${join(directory, 'installed')}`
  const run = `exec ${process.execPath} ${server}`
  // It notes its start, and is not found before somebody installs it.
  const absent = {
    command: 'sh',
    args: ['-c', `printf x >> ${join(directory, 'absent')}; ${isThere} && ${run}; exit 127`],
  }
  for (const name of ['loop', 'backoff', 'never', 'absent', 'launched']) await appendFile(join(directory, name), '')
  vitals = await startVitals({
    config: {
      mcpServers: {
        loop: crasher('loop', 127),
        backoff: crasher('backoff', 1),
        telling: { command: 'sh', args: ['-c', 'echo "no such database" >&2; exit 3'] },
        never: { ...crasher('never', 127), resident: 'never' },
        absent,
        particular: { command: process.execPath, args: [server], resident: 'never' },
        unused: { command: process.execPath, args: [server], resident: 'never' },
        once: { command: process.execPath, args: [server], restart: 'never' },
        launched: { url: 'http://127.0.0.1:1/mcp', launch: crasher('launched', 127) },
      },
    },
  })
})

afterAll(async () => {
  await vitals.stop()
  await rm(directory, { recursive: true, force: true })
})

const urlOf = (name: string) => `${vitals.dataUrl}/${name}/mcp`

async function refusal(name: string) {
  const { status, headers, messages } = await post(urlOf(name), initializeMessage)
  expect([status, messages[0]]).toMatchObject([503, { error: { data: { reason: 'upstream_restarting' } } }])
  return Number(headers['retry-after'])
}

describe('clients that come again and again', { timeout: 90_000 }, () => {
  it('start nothing in a crash loop, and its next try stays where it was', async () => {
    await becomesState(vitals, 'loop', 'crash_loop', 20_000)
    expect(await startsOf('loop')).toBe(1)
    let before = (await debugUpstream(vitals, 'loop')).process?.next_start_in_seconds ?? 0
    for (let client = 0; client < 8; client++) {
      const retryAfter = await refusal('loop')
      const left = (await debugUpstream(vitals, 'loop')).process?.next_start_in_seconds ?? 0
      expect(left).toBeLessThanOrEqual(before)
      expect(left).toBeGreaterThan(0)
      expect(retryAfter).toBeGreaterThanOrEqual(Math.floor(left))
      before = left
    }
    const modern = await modernPost(urlOf('loop'), { id: 1, method: 'tools/list' }).done
    expect(modern.status).toBe(503)
    expect(await startsOf('loop')).toBe(1)
    expect(await metricValue(vitals, 'mcp_upstream_restarts_total', { upstream: 'loop', reason: 'exit' })).toBe(0)
    expect((await debugUpstream(vitals, 'loop')).state).toBe('crash_loop')
  })

  it('do not shorten a back-off: each start that they cause, too, makes the next wait longer', async () => {
    const waits = new Set<number>()
    await eventually(
      async () => {
        const { status, headers } = await post(urlOf('backoff'), initializeMessage)
        if (status === 503) waits.add(Number(headers['retry-after']))
        return [...waits].some((wait) => wait > 4)
      },
      { timeoutMs: 60_000, what: 'a back-off of more than 4 s' },
    )
    // Five starts come before that; each may have made way for a session's, whose failure is the one that counts.
    expect(await startsOf('backoff')).toBeLessThanOrEqual(10)
  })

  it('are all that starts it under `resident: never`, and are refused likewise', async () => {
    // The first client hears that the pipe was closed, which may be a moment before the process is known to have ended.
    await eventually(async () => (await post(urlOf('never'), initializeMessage)).status === 503, { what: 'a refusal' })
    const starts = await startsOf('never')
    for (let client = 0; client < 8; client++) expect(await refusal('never')).toBeGreaterThan(500)
    expect(await startsOf('never')).toBe(starts)
    const { process } = await becomesState(vitals, 'never', 'crash_loop', 20_000)
    expect(process?.next_start_in_seconds).toBeGreaterThan(500)
    expect(await metricValue(vitals, 'mcp_upstream_up', { upstream: 'never' })).toBe(0)
  })
})

it('one client whose words end its process keeps nobody else out', async () => {
  const { params } = initializeMessage
  const deadly = { ...initializeMessage, params: { ...params, clientInfo: { name: 'deadly', version: '1' } } }
  const url = urlOf('particular')
  for (let turn = 0; turn < 6; turn++) {
    for (let times = 0; times < 2; times++) expect((await post(url, deadly)).status).toBe(502)
    const { status, headers } = await post(url, initializeMessage)
    expect(status).toBe(200)
    await fetch(url, { method: 'DELETE', headers: { 'mcp-session-id': String(headers['mcp-session-id']) } })
  }
}, 60_000)

describe('an operator who asks for a heartbeat now', { timeout: 60_000 }, () => {
  const ask = async (name: string) => {
    const response = await fetch(`${vitals.adminUrl}/debug/heartbeat/${name}`, { method: 'POST' })
    expect(response.status).toBe(200)
    return (await response.json()) as { state: string }
  }
  const restartsOf = (upstream: string) =>
    metricValue(vitals, 'mcp_upstream_restarts_total', { upstream, reason: 'manual' })

  it.each(['absent', 'launched'])(
    'has a crash loop tried once more (%s), which goes on if that fails',
    async (name) => {
      await becomesState(vitals, name, 'crash_loop', 20_000)
      for (let asked = 1; asked <= 2; asked++) {
        const before = await startsOf(name)
        await ask(name)
        // It is in its crash loop all the while, until something else is known.
        const waits = async () => ((await debugUpstream(vitals, name)).process?.next_start_in_seconds ?? 0) > 500
        await eventually(waits, { what: 'it waits for its next start' })
        expect((await debugUpstream(vitals, name)).state).toBe('crash_loop')
        expect([(await startsOf(name)) - before, await restartsOf(name)]).toEqual([1, asked])
      }
    },
  )

  it('finds the server recovering that could not be started before, and its clients are served', async () => {
    await refusal('absent')
    await appendFile(join(directory, 'installed'), '')
    expect(await ask('absent')).toMatchObject({ state: 'recovering' })
    expect((await post(urlOf('absent'), initializeMessage)).status).toBe(200)
  })

  it('lets the next client try under `resident: never`, and starts nothing by himself', async () => {
    await eventually(async () => (await post(urlOf('never'), initializeMessage)).status === 503, { what: 'a refusal' })
    const starts = await startsOf('never')
    await ask('never')
    expect(await startsOf('never')).toBe(starts)
    expect((await post(urlOf('never'), initializeMessage)).messages[0]).not.toMatchObject({
      error: { data: { reason: 'upstream_restarting' } },
    })
    expect(await startsOf('never')).toBe(starts + 1)
  })
})

describe('after a maintenance', { timeout: 60_000 }, () => {
  const ask = async (name: string, what: string) =>
    expect((await fetch(`${vitals.adminUrl}/debug/heartbeat/${name}/${what}`, { method: 'POST' })).status).toBe(200)
  const verdictOf = async (name: string) => {
    const { state, reason } = await debugUpstream(vitals, name)
    return { state, reason }
  }

  it.each([
    ['loop', 'crash_loop', /^exited with code 127 .* the next try comes in \d+ s$/],
    ['launched', 'crash_loop', /^exited with code 127 .* the next try comes in \d+ s$/],
    ['unused', 'idle', /^no session is open, and resident is never$/],
  ])('%s is what it was, at once: %s', async (name, state, reason) => {
    await becomesState(vitals, name, state, 20_000)
    await ask(name, 'pause?minutes=10')
    expect((await verdictOf(name)).state).toBe('paused')
    await ask(name, 'resume')
    expect(await verdictOf(name)).toEqual({ state, reason: expect.stringMatching(reason) })
  })

  it('what ended meanwhile for good is down, with its end', async () => {
    await becomesState(vitals, 'once', 'healthy', 20_000)
    const pid = (await debugUpstream(vitals, 'once')).process?.pid
    if (typeof pid !== 'number') throw new Error('it has no process')
    await ask('once', 'pause?minutes=10')
    process.kill(pid, 'SIGKILL')
    await eventually(async () => (await debugUpstream(vitals, 'once')).process?.pid === null, { what: 'its end' })
    await ask('once', 'resume')
    const { state, reason } = await becomesState(vitals, 'once', 'down', 20_000)
    expect([state, reason]).toEqual(['down', 'the resident process was killed by SIGKILL (restart: never)'])
  })
})

it('what the last process wrote to stderr stays, with its end, when none runs', async () => {
  const { process } = await eventually(
    async () => {
      const upstream = await debugUpstream(vitals, 'telling')
      return upstream.process?.pid === null && (upstream.process.last_ended?.stderr_tail ?? '') !== '' && upstream
    },
    { timeoutMs: 20_000, what: 'it waits for its next start' },
  )
  expect(process?.last_ended).toMatchObject({ how: 'exited with code 3', stderr_tail: 'no such database\n' })
  expect(process?.last_ended?.pid).toBeGreaterThan(0)
})

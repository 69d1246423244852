/** Nothing that a server started outlives it or us, not even what left its process group (README, "Nothing outlives us"). */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { repoRoot } from '../peers/spawn.ts'
import { becomesState, debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { groupMembers, markedProcesses } from '../support/processes.ts'
import { openSession } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const scripted = join(repoRoot, 'test/peers/children/scripted-stdio.mjs')
const mark = randomUUID()
/** With a process in a session of its own, as `setsid` and `detached: true` make it. */
const server = {
  command: 'sh',
  args: ['-c', `setsid sleep 1000 & exec ${process.execPath} ${scripted}`],
  env: { STRAY_TEST: mark },
}
const running = () => markedProcesses(mark)

let vitals: RunningVitals | undefined
afterEach(async () => {
  await vitals?.stop()
  for (const pid of running()) process.kill(pid, 'SIGKILL')
})

async function started(settings: Readonly<Record<string, unknown>> = {}, state = 'healthy') {
  vitals = await startVitals({ config: { mcpServers: { files: { ...server, ...settings } } } })
  await becomesState(vitals, 'files', state, 20_000)
  return vitals
}

/** The server, and what has left its group by now. */
const both = () =>
  eventually(() => running().length === 2 && running().every((pid) => groupMembers(pid).includes(pid)) && running(), {
    timeoutMs: 20_000,
    what: 'the server runs, and what left its group',
  })

const becomes = (count: number) =>
  eventually(() => running().length === count || undefined, { timeoutMs: 20_000, what: `${count} processes run` })

describe.runIf(process.platform === 'linux')('a process that left the group of its server', { timeout: 60_000 }, () => {
  it('goes when the server is killed and started again, and when mcp-vitals ends', async () => {
    const program = await started()
    const before = await both()
    process.kill((await debugUpstream(program, 'files')).process?.pid ?? 0, 'SIGKILL')
    await eventually(() => running().length === 2 && !running().some((pid) => before.includes(pid)) && true, {
      timeoutMs: 20_000,
      what: 'two others run in their place',
    })
    process.kill(program.pid, 'SIGTERM')
    expect(await program.exited).toBe('code 0')
    expect(running()).toEqual([])
  })

  it('goes with the session', async () => {
    const program = await started({ resident: 'never' }, 'idle')
    const url = `${program.dataUrl}/files/mcp`
    const session = await openSession(url)
    await both()
    await fetch(url, { method: 'DELETE', headers: session })
    await becomes(0)
  })

  it('goes when mcp-vitals is killed', async () => {
    const program = await started()
    await both()
    process.kill(program.pid, 'SIGKILL')
    await program.exited
    await becomes(0)
  })

  it('stays where the entry of the server sets MCP_VITALS_START', async () => {
    const program = await started({ env: { ...server.env, MCP_VITALS_START: '' } })
    await both()
    process.kill(program.pid, 'SIGTERM')
    expect(await program.exited).toBe('code 0')
    expect(running().length).toBe(1)
  })
})

/** What the dashboards show while all is well and nobody asks for anything, as on the first day. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ruleFiles } from '../../dashboards/src/rules.ts'
import { shippedDashboards } from '../dashboards/shipped.ts'
import { isEmpty, untilNone } from '../dashboards/viewer.ts'
import { everythingStdio } from '../peers/everything.ts'
import { needed, startPrometheus } from '../support/prometheus.ts'
import { type TinyServer, tinyServer } from '../support/tiny-server.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let tiny: TinyServer
let vitals: RunningVitals

beforeAll(async () => {
  tiny = await tinyServer(['read'])
  const heartbeat = { heartbeat_interval_seconds: 0.5, adaptive_heartbeat: { enabled: false } }
  vitals = await startVitals({ config: { heartbeat, mcpServers: { stdio: everythingStdio, tiny: { url: tiny.url } } } })
}, 60_000)

afterAll(async () => {
  await vitals?.stop()
  await tiny?.close()
})

it('leave no panel empty that does not say why', { timeout: 90_000 }, async (context) => {
  const groups = ruleFiles.flatMap((file) => file.groups.map(({ name, rules }) => ({ name, rules })))
  const prometheus = await startPrometheus(needed(context, 'prometheus'), vitals.adminUrl, { groups })
  try {
    const viewer = { from: prometheus, servers: ['stdio', 'tiny'] }
    const silent = shippedDashboards.flatMap(({ name, shown }) =>
      shown.filter(({ description }) => !description.includes('Empty when healthy')).map((panel) => ({ name, panel })),
    )
    expect(silent.length).toBeGreaterThan(50)
    await untilNone('dashboards at rest', async () => {
      const empty: string[] = []
      for (const { name, panel } of silent) if (await isEmpty(viewer, panel)) empty.push(`${name}: ${panel.title}`)
      return empty
    })
  } finally {
    await prometheus.stop()
  }
})

/**
 * mcp-vitals by the law of test/peers/quick-law.ts: what is silent for 4 s hangs, or spinning for 8 s. `node test/peers/quick-vitals.ts serve --config FILE`.
 */
import { readFileSync } from 'node:fs'
import { serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/log.ts'
import { quickHang, quickInventoryAgeMs, quickMemoryLookMs } from './quick-law.ts'

const files = process.argv.slice(4)
const { env } = process
const { config } = loadConfig({ files, env, readFile: (file) => readFileSync(file, 'utf8') })
const upstreams = config.upstreams.map((one) => ({ ...one, heartbeat: { ...one.heartbeat, hang: quickHang } }))
const write = (line: string) => void process.stdout.write(line)
const running = await serve({
  config: { ...config, upstreams },
  env,
  memoryLookMs: quickMemoryLookMs,
  inventoryAgeMs: quickInventoryAgeMs,
  log: createLogger({ level: 'info', format: 'json', isTerminal: false, write }),
})
process.once('SIGTERM', () => void running.stop())

/**
 * mcp-vitals with a law of hangs whose times are shorter, since nobody wants to wait for a minute: what is silent for
 * 4 s hangs, or spinning for 8 s. `node test/peers/quick-vitals.ts serve --config FILE`.
 */
import { readFileSync } from 'node:fs'
import { serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { defaults } from '../../src/defaults.ts'
import { createLogger } from '../../src/log.ts'

const files = process.argv.slice(4)
const { env } = process
const { config } = loadConfig({ files, env, readFile: (file) => readFileSync(file, 'utf8') })
const write = (line: string) => void process.stdout.write(line)
const running = await serve({
  config,
  env,
  hangLaw: { ...defaults.hang, silentMs: 4000, spinningMs: 8000 },
  log: createLogger({ level: 'info', format: 'json', isTerminal: false, write }),
})
process.once('SIGTERM', () => void running.stop())

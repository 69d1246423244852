/**
 * mcp-vitals that is never overloaded, for tests on a machine whose every core is busy with something else: what it
 * would then refuse could not be tested. `node test/peers/tireless-vitals.ts serve --config FILE`.
 */
import { readFileSync } from 'node:fs'
import { serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/log.ts'

const files = process.argv.slice(4)
const { env } = process
const { config } = loadConfig({ files, env, readFile: (file) => readFileSync(file, 'utf8') })
const write = (line: string) => void process.stdout.write(line)
const log = createLogger({ level: 'info', format: 'json', isTerminal: false, write })
const running = await serve({ config, env, log, overload: () => 0 })
process.once('SIGTERM', () => void running.stop())

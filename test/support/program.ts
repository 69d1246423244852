import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { repoRoot } from '../peers/spawn.ts'

/** Names the folder of the programs that were built for this run of the tests (test/built.ts). */
export const builtFolder = 'MCP_VITALS_TEST_BUILT'

/**
 * For the environment of processes that do not get ours, since many are started: what Node compiled once, it need not
 * compile again.
 */
export const compileCache = {
  NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? join(tmpdir(), 'mcp-vitals-test-cache'),
} as const

/** The program with other settings than a configuration can give it. */
export const variants = ['test/peers/quick-vitals.ts', 'test/peers/tireless-vitals.ts'] as const

export type Program = 'src/cli/main.ts' | (typeof variants)[number]

/** What Node is to run for this program: the built one, or its source where nothing was built (`npm run soak`). */
export function programFile(source: Program): string {
  const folder = process.env[builtFolder]
  return folder ? join(folder, `${basename(source, '.ts')}.js`) : join(repoRoot, source)
}

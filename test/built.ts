/**
 * Before the tests: builds what they start as processes, as `npm run build` does, into a folder of this run alone, and
 * keeps what Node compiles for all of them. From its sources each start of the program would take half a second of
 * processor time more, and there are hundreds.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { repoRoot } from './peers/spawn.ts'
import { builtFolder, variants } from './support/program.ts'

/** Called by vitest once a run; resolves with what is to be done after it. */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-vitals-built-'))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  const args = [join(repoRoot, 'deploy/build.ts'), '--out-dir', folder, ...variants]
  await promisify(execFile)(process.execPath, args)
  process.env[builtFolder] = join(folder, 'cli')
  process.env['NODE_COMPILE_CACHE'] = join(folder, 'compiled')
  // The last of vitest's own processes may still write what it compiled.
  return () => rm(folder, { recursive: true, force: true, maxRetries: 20 })
}

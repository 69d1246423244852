import { everythingStdio } from '../peers/everything.ts'
import { repoRoot } from '../peers/spawn.ts'
import { freePort } from '../../deploy/stack/ports.ts'

/** The entry of an upstream that mcp-vitals itself starts: server-everything over Streamable HTTP on a free port. */
export async function launchedEverything() {
  const port = String(await freePort())
  const [script] = everythingStdio.args
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    launch: {
      command: process.execPath,
      args: ['--import', './deploy/demo/loopback-only.mjs', script, 'streamableHttp'],
      env: { PORT: port },
      cwd: repoRoot,
    },
  }
}

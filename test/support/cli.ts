import { execFile } from 'node:child_process'
import { repoRoot } from '../peers/spawn.ts'

/** How a command line ended. */
export interface CliResult {
  readonly code: number | string
  readonly stdout: string
  readonly stderr: string
}

/** Runs `mcp-vitals` with these arguments until it ends by itself; `node` and `main` default to this one, unbuilt. */
export function runCli(
  args: readonly string[],
  { node = process.execPath, main = 'src/cli/main.ts' }: { readonly node?: string; readonly main?: string } = {},
): Promise<CliResult> {
  return new Promise((resolve) => {
    execFile(node, [main, ...args], { cwd: repoRoot, timeout: 15_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? (error.code ?? error.signal ?? 'unknown') : 0, stdout, stderr })
    })
  })
}

/**
 * Writes every generated file (npm run generate), or says which one differs from what the generator makes and exits
 * with 1 (npm run generate -- --check).
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { format, resolveConfig } from 'prettier'
import { dashboardFiles } from './dashboards.ts'
import type { GeneratedFile } from './generated-file.ts'
import { kubernetesFiles } from './kubernetes.ts'
import { generatedRules } from './rules.ts'

const root = join(import.meta.dirname, '../..')

/** All of them; each part of dashboards/src/ adds its own. */
export const generatedFiles: readonly GeneratedFile[] = [...generatedRules, ...dashboardFiles, ...kubernetesFiles]

/** What the file should hold, formatted as the repository is. */
export async function formatted({ path, text }: GeneratedFile): Promise<string> {
  const file = join(root, path)
  return format(text, { ...(await resolveConfig(file)), filepath: file })
}

/** What the repository holds; undefined when there is no such file. */
export function committed({ path }: GeneratedFile): string | undefined {
  try {
    return readFileSync(join(root, path), 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
  for (const file of generatedFiles) {
    const wanted = await formatted(file)
    if (committed(file) === wanted) continue
    if (values.check) {
      process.exitCode = 1
      process.stderr.write(`${file.path} is not what dashboards/src makes: npm run generate\n`)
    } else {
      mkdirSync(dirname(join(root, file.path)), { recursive: true })
      writeFileSync(join(root, file.path), wanted)
      process.stdout.write(`${file.path}\n`)
    }
  }
}

if (import.meta.main) await main()

/** What deploy/docker/Dockerfile makes, as far as that can be had without Docker: the files of an image, in a folder. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { repoRoot } from '../peers/spawn.ts'

export const dockerfile = readFileSync(join(repoRoot, 'deploy/docker/Dockerfile'), 'utf8')

/** One instruction, continuation lines joined and comments left out. */
export interface Instruction {
  readonly keyword: string
  readonly rest: string
  /** The name of the stage that it belongs to. */
  readonly stage: string
}

export function instructions(text: string): Instruction[] {
  const whole = text.replaceAll(/^#.*\n/gm, '').replaceAll(/\\\n\s*/g, '')
  let stage = ''
  return whole.split('\n').flatMap((line) => {
    const [, keyword = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? []
    if (keyword === '') return []
    if (keyword === 'FROM') stage = /\sAS\s+(\S+)$/.exec(rest)?.[1] ?? 'default'
    return { keyword, rest, stage }
  })
}

/** The paths that a stage copies from the repository, and where to. */
export function copies(stage: string): { readonly sources: readonly string[]; readonly target: string }[] {
  return instructions(dockerfile)
    .filter((one) => one.stage === stage && one.keyword === 'COPY' && !one.rest.startsWith('--from'))
    .map(({ rest }) => {
      const words = rest.split(/\s+/)
      return { sources: words.slice(0, -1), target: words.at(-1) ?? '' }
    })
}

/** The last instruction of that kind that counts for the stage, as the list that it is. */
export function wordsOf(keyword: 'ENTRYPOINT' | 'CMD' | 'HEALTHCHECK', stage: 'vitals' | 'demo'): string[] {
  const counting = stage === 'demo' ? ['vitals', 'demo'] : ['vitals']
  const last = instructions(dockerfile).findLast((one) => one.keyword === keyword && counting.includes(one.stage))
  return z.array(z.string()).parse(JSON.parse(last?.rest.replace(/^.*?CMD\s+(?=\[)/, '') ?? ''))
}

const lockFile = z.object({
  packages: z.record(
    z.string(),
    z.object({
      dependencies: z.record(z.string(), z.string()).optional(),
    }),
  ),
})

/** Where the lock file puts these packages and what they need. */
function installedPaths(names: readonly string[]): string[] {
  const { packages } = lockFile.parse(JSON.parse(readFileSync(join(repoRoot, 'package-lock.json'), 'utf8')))
  const paths = new Set<string>()
  const add = (name: string, from: string) => {
    const nested = `${from}/node_modules/${name}`
    const path = nested in packages ? nested : `node_modules/${name}`
    if (paths.has(path)) return
    paths.add(path)
    for (const dependency of Object.keys(packages[path]?.dependencies ?? {})) add(dependency, path)
  }
  for (const name of names) add(name, '')
  return [...paths]
}

/** The packages of the stage demo-servers. */
export const demoServers = [
  ...['node', 'server', 'server-everything'].map((name) => `@modelcontextprotocol/${name}`),
  '@hono/node-server',
  'zod',
]

/** Compiles the program, as the image does. */
export function build(dist: string): void {
  execFileSync(process.execPath, [join(repoRoot, 'deploy/build.ts'), '--out-dir', dist])
}

/**
 * Lays out the image's /app there. Packages are symbolic links, so run it with --preserve-symlinks: what is not in the
 * image is then not found.
 */
export function layOut(stage: 'vitals' | 'demo', folder: string, dist: string): void {
  for (const path of installedPaths(stage === 'demo' ? demoServers : [])) {
    // A package inside of another comes with that one.
    if (path.lastIndexOf('node_modules/') !== 0) continue
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    symlinkSync(join(repoRoot, path), join(folder, path))
  }
  cpSync(dist, join(folder, 'dist'), { recursive: true })
  for (const { sources, target } of stage === 'demo' ? [...copies('vitals'), ...copies('demo')] : copies('vitals')) {
    for (const source of sources) {
      const to = target.endsWith('/') ? join(folder, target, source) : join(folder, target)
      cpSync(join(repoRoot, source), to, { recursive: true })
    }
  }
}

import { readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

/** Folder order is import order: a file imports from its own folder and from those before it. '' is src/ itself. */
const layers = [
  '',
  'wire',
  'upstreams',
  'sessions',
  'heartbeat',
  'telemetry',
  'proxy',
  'insight',
  'alerts',
  'admin',
  'cluster',
  'config',
  'cli',
]

const root = join(import.meta.dirname, '..')
const sourceFolder = join(root, 'src')

const files = readdirSync(sourceFolder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(sourceFolder, name), 'utf8') }))

/** Everything that a file imports, statically or not, types included. */
function importsOf(text: string): string[] {
  const statements = text.matchAll(
    /^\s*(?:import|export)\s[^'"]*?from\s+['"]([^'"]+)['"]|import\s*\(?\s*['"]([^'"]+)['"]/gms,
  )
  return [...statements].map(([, from, bare]) => from ?? bare ?? '')
}

function layerOf(name: string): string {
  return name.includes('/') ? name.slice(0, name.indexOf('/')) : ''
}

function targetOf(name: string, specifier: string): string {
  return relative(sourceFolder, join(sourceFolder, name, '..', specifier))
}

describe('architecture', () => {
  it('sees the source, its folders and its imports', () => {
    expect(files.length).toBeGreaterThan(50)
    expect(files.flatMap(({ text }) => importsOf(text)).length).toBeGreaterThan(200)
    expect(
      importsOf(`import {\n  a,\n  type B,\n} from './x.ts'\nexport { c } from "./y.ts"\nawait import('./z.ts')`),
    ).toEqual(['./x.ts', './y.ts', './z.ts'])
  })

  it('has only known folders in src/', () => {
    expect([...new Set(files.map(({ name }) => layerOf(name)))].filter((layer) => !layers.includes(layer))).toEqual([])
  })

  it.each(files)('$name imports only from its own folder and those before it', ({ name, text }) => {
    const own = layers.indexOf(layerOf(name))
    const wrong = importsOf(text)
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => targetOf(name, specifier))
      // What is no folder of src/ is only our own version.
      .filter((target) => target !== '../package.json')
      .filter((target) => target.startsWith('..') || layers.indexOf(layerOf(target)) > own)
    expect(wrong).toEqual([])
  })

  it('lets only cli/ import config/', () => {
    const importers = files
      .filter(({ name, text }) =>
        importsOf(text).some(
          (specifier) => specifier.startsWith('.') && layerOf(targetOf(name, specifier)) === 'config',
        ),
      )
      .map(({ name }) => layerOf(name))
    expect([...new Set(importers)].toSorted()).toEqual(['cli', 'config'])
  })

  it('keeps control code free of telemetry, web frameworks and configuration', () => {
    const foreign = /^(hono|@hono\/|@opentelemetry\/|prom-client|zod|yaml|undici)/
    const control = files.filter(({ name }) => ['heartbeat', 'sessions'].includes(layerOf(name)))
    expect(control.filter(({ text }) => importsOf(text).some((specifier) => foreign.test(specifier)))).toEqual([])
  })

  it('has no default exports, barrels, or clocks besides src/clock.ts', () => {
    const offenders = files.filter(
      ({ name, text }) =>
        /^export default/m.test(text) ||
        /^export \*/m.test(text) ||
        (name !== 'clock.ts' && /\bDate\.now\(|(?<![.\w])set(?:Timeout|Interval)\(|AbortSignal\.timeout\(/.test(text)),
    )
    expect(offenders.map(({ name }) => name)).toEqual([])
  })

  it('has no cycle between modules', () => {
    const graph = new Map(
      files.map(({ name, text }) => [
        name,
        importsOf(text)
          .filter((specifier) => specifier.startsWith('.'))
          .map((specifier) => targetOf(name, specifier)),
      ]),
    )
    expect(cycleIn(graph)).toBeUndefined()
  })
})

/** The first cycle found, as a path; undefined when there is none. */
function cycleIn(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>()
  const visit = (name: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name]
    if (done.has(name)) return undefined
    for (const next of graph.get(name) ?? []) {
      const found = visit(next, [...path, name])
      if (found) return found
    }
    done.add(name)
    return undefined
  }
  for (const name of graph.keys()) {
    const found = visit(name, [])
    if (found) return found
  }
  return undefined
}

import { readFileSync } from 'node:fs'
import { KnownError } from '../errors.ts'
import type { Config } from './config.ts'
import { type Environment, substituteTree } from './environment.ts'
import { liftHeartbeat, mergeTrees } from './merge.ts'
import { type Parsed, parseFile } from './parse.ts'
import { formatProblems, type Problem } from './problem.ts'
import { resolveConfig } from './resolve.ts'
import { findings, remarks } from './rules.ts'
import { heartbeatKeys } from './schema.ts'
import { type ReadFile, readSecrets, tryRead } from './secrets.ts'
import { shapeOf } from './shape.ts'
import { type Branch, emptyBranch, isWithin, type Path, placeOf, treeOf } from './tree.ts'

export interface LoadOptions {
  /** Merged left to right. */
  readonly files: readonly string[]
  readonly env: Environment
  readonly readFile?: (path: string) => string
  /** Keys of the file format that were given on the command line; laid over every file. */
  readonly extra?: Readonly<Record<string, unknown>>
}

export interface Loaded {
  readonly config: Config
  /** What is worth telling although nothing is wrong. */
  readonly notices: readonly string[]
  /** Every file that was read, secrets too: a change to one of them is a reason to reload. */
  readonly files: readonly string[]
}

/** Reads, merges and checks a configuration. Throws one `config_invalid` that tells all problems, a line for each. */
export function loadConfig(options: LoadOptions): Loaded {
  const readFile = options.readFile ?? ((path: string) => readFileSync(path, 'utf8'))
  const merged = mergedFiles(options, readFile)
  const substituted = substituteTree(merged, options.env)
  const shaped = shapeOf(
    substituted.tree,
    substituted.problems.map((problem) => problem.path),
  )
  const problems = [...substituted.problems, ...shaped.problems]
  const faulty = problems.map((problem) => problem.path)
  const broken = findings(shaped.file).filter(
    (finding) => !finding.reads.some((path) => faulty.some((other) => isWithin(other, path))),
  )
  problems.push(...broken.map(({ path, message }) => ({ place: placeOf(shaped.tree, path), path, message })))
  const secrets = readSecrets(shaped.file, shaped.tree, readFile)
  throwProblems([...problems, ...secrets.problems])
  const fileOf = (path: Path) => placeOf(shaped.tree, path).file
  return {
    config: resolveConfig(shaped.file, secrets, fileOf),
    notices: formatProblems(
      remarks(shaped.file).map((found) => ({ ...found, place: placeOf(shaped.tree, found.path) })),
    ),
    files: [...options.files, ...secrets.files],
  }
}

/** Files that cannot be read or parsed are told first and alone: without them every other finding is a guess. */
function mergedFiles(options: LoadOptions, readFile: ReadFile): Branch {
  const read = options.files.map((file) => readLayer(file, readFile))
  throwProblems(read.flatMap((layer) => layer.problems))
  const place = { file: 'command line' }
  const extra = treeOf(options.extra ?? {}, place)
  const layers = read.map((layer) => layer.tree)
  if (extra.kind === 'branch' && extra.entries.size > 0) layers.push(extra)
  return layers.reduce((base, layer) => mergeTrees(base, layer), emptyBranch(place))
}

function readLayer(file: string, readFile: ReadFile): Parsed {
  const text = tryRead(file, readFile)
  if (text.kind === 'failed') {
    return { tree: emptyBranch({ file }), problems: [{ place: { file }, path: [], message: text.reason }] }
  }
  const parsed = parseFile(file, text.text)
  const lifted = liftHeartbeat(parsed.tree, heartbeatKeys)
  return { tree: lifted.tree, problems: [...parsed.problems, ...lifted.problems] }
}

function throwProblems(problems: readonly Problem[]): void {
  if (problems.length > 0) throw new KnownError('config_invalid', formatProblems(problems).join('\n'))
}

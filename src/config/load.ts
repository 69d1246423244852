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
import { at, type Branch, emptyBranch, isWithin, type Path, placeOf, type Tree, treeOf } from './tree.ts'

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
  /** Those of the configuration's own files in which nothing stands, comments aside. */
  readonly emptyFiles: readonly string[]
  /** Whether `mcpServers: {}` is what they come to: that there are no servers is meant, and not merely left out. */
  readonly saysNoServers: boolean
}

/** Reads, merges and checks a configuration. Throws one `config_invalid` that tells all problems, a line for each. */
export function loadConfig(options: LoadOptions): Loaded {
  const readFile = options.readFile ?? ((path: string) => readFileSync(path, 'utf8'))
  const merged = mergedFiles(options, readFile)
  const substituted = substituteTree(merged.tree, options.env)
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
    emptyFiles: merged.emptyFiles,
    saysNoServers: isEmptyBranch(at(merged.tree, ['mcpServers'])),
  }
}

interface Merged {
  readonly tree: Branch
  readonly emptyFiles: readonly string[]
}

/** Files that cannot be read or parsed are told first and alone: without them every other finding is a guess. */
function mergedFiles(options: LoadOptions, readFile: ReadFile): Merged {
  const read = options.files.map((file) => readLayer(file, readFile))
  throwProblems(read.flatMap((layer) => layer.problems))
  const place = { file: 'command line' }
  const extra = treeOf(options.extra ?? {}, place)
  const layers = read.map((layer) => layer.tree)
  if (extra.kind === 'branch' && extra.entries.size > 0) layers.push(extra)
  const tree = layers.reduce((base, layer) => mergeTrees(base, layer), emptyBranch(place))
  return { tree, emptyFiles: options.files.filter((_, index) => read[index]?.isEmpty) }
}

function readLayer(file: string, readFile: ReadFile): Parsed {
  const text = tryRead(file, readFile)
  if (text.kind === 'failed') {
    const problem = { place: { file }, path: [], message: text.reason }
    return { tree: emptyBranch({ file }), isEmpty: false, problems: [problem] }
  }
  const parsed = parseFile(file, text.text)
  const lifted = liftHeartbeat(parsed.tree, heartbeatKeys)
  return { ...parsed, tree: lifted.tree, problems: [...parsed.problems, ...lifted.problems] }
}

function isEmptyBranch(tree: Tree | undefined): boolean {
  return tree?.kind === 'branch' && tree.entries.size === 0
}

function throwProblems(problems: readonly Problem[]): void {
  if (problems.length > 0) throw new KnownError('config_invalid', formatProblems(problems).join('\n'))
}

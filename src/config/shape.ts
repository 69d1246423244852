import { isScalar, parseDocument } from 'yaml'
import { z } from 'zod'
import { showValue } from './show.ts'
import type { Problem } from './problem.ts'
import { type FileConfig, fileSchema, refusedKeys } from './schema.ts'
import { nearest } from './suggest.ts'
import { at, changeAt, emptyBranch, isWithin, type Leaf, type Path, placeOf, plainOf, type Tree } from './tree.ts'

type Issue = z.core.$ZodIssue

export interface Shaped {
  /** What is left once everything that does not fit is taken out. */
  readonly file: FileConfig
  readonly tree: Tree
  readonly problems: readonly Problem[]
}

/**
 * Holds a tree against the schema. What does not fit is reported and taken out, so that the rules which look at
 * several values can still judge the rest and all problems are told at once. `faulty` are paths already reported.
 */
export function shapeOf(tree: Tree, faulty: readonly Path[]): Shaped {
  const taken = issuesOf(tree).reduce(takeAsMeant, tree)
  const found = issuesOf(taken).flatMap((issue) => problemsOf(issue, taken))
  const problems = found.filter((problem) => !faulty.some((path) => isWithin(problem.path, path)))
  const fitting = [...faulty, ...found.map((problem) => problem.path)].reduce(takeOut, taken)
  return { file: fileSchema.parse(plainOf(fitting)), tree: taken, problems }
}

function issuesOf(tree: Tree): readonly Issue[] {
  return fileSchema.safeParse(plainOf(tree)).error?.issues ?? []
}

/**
 * A scalar whose form differs from what the field wants is read as it was meant: a number or boolean as its text where
 * text is wanted (`PORT: 8080`), a whole `${VAR}` as YAML where a number or boolean is, nothing as an empty mapping.
 */
function takeAsMeant(tree: Tree, issue: Issue): Tree {
  if (issue.code !== 'invalid_type') return tree
  const change = (value: Tree): Tree => (value.kind === 'leaf' ? leafAsMeant(value, issue.expected) : value)
  return changeAt(tree, keysOf(issue.path), change) ?? tree
}

function leafAsMeant(leaf: Leaf, expected: string): Tree {
  switch (expected) {
    case 'string':
      return leaf.value === null ? leaf : { ...leaf, value: leaf.written }
    case 'number':
    case 'int':
    case 'boolean':
      return isReference(leaf) ? { ...leaf, value: scalarOf(String(leaf.value)) } : leaf
    case 'object':
    case 'record':
      return leaf.value === null ? emptyBranch(leaf.place) : leaf
    default:
      return leaf
  }
}

/** Whether a text was one `${…}` and nothing else. */
function isReference(leaf: Leaf): boolean {
  return leaf.variables.length === 1 && /^\$\{[^}]*\}$/.test(leaf.written.trim())
}

/** What YAML makes of a text: a number or boolean, or the text itself. */
function scalarOf(text: string): string | number | boolean {
  const document = parseDocument(text, { prettyErrors: false })
  const value = isScalar(document.contents) && document.errors.length === 0 ? document.contents.value : undefined
  return typeof value === 'number' || typeof value === 'boolean' ? value : text
}

/** Takes out the value at `path`; of a list the whole, for a list with a hole means something else. */
function takeOut(tree: Tree, path: Path): Tree {
  const index = path.findIndex((key) => typeof key === 'number')
  return changeAt(tree, index < 0 ? path : path.slice(0, index), () => undefined) ?? tree
}

function problemsOf(issue: Issue, tree: Tree): readonly Problem[] {
  const path = keysOf(issue.path)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => problem(tree, [...path, key], unknownKey(key, path)))
  }
  if (issue.code === 'invalid_key') return [keyProblem(tree, path, issue.issues[0]?.message ?? 'is not allowed')]
  return [problem(tree, path, faultOf(issue, at(tree, path), path))]
}

/** An upstream's name is shown; the name of a header or variable is not, for it may be a misplaced value. */
function keyProblem(tree: Tree, path: Path, message: string): Problem {
  if (path.length <= 2) return problem(tree, path, `"${path.at(-1)}" ${message}`)
  return { ...problem(tree, path, message), path: path.slice(0, -1) }
}

function problem(tree: Tree, path: Path, message: string): Problem {
  return { place: placeOf(tree, path), path, message }
}

function faultOf(issue: Issue, value: Tree | undefined, path: Path): string {
  const shown = showValue(value, path, issue.code === 'invalid_type' ? issue.expected : '')
  if (issue.code === 'invalid_type') return `${shown} is not ${kindNames[issue.expected] ?? issue.expected}`
  if (issue.code === 'invalid_value') return `${shown} is not one of ${issue.values.join(', ')}`
  if (issue.code === 'too_small') return `${shown} is below ${issue.minimum}, the least allowed`
  if (issue.code === 'too_big') return `${shown} is above ${issue.maximum}, the most allowed`
  return `${shown} ${issue.message}`
}

const kindNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
}

function unknownKey(key: string, path: Path): string {
  const refused = Object.hasOwn(refusedKeys, key) ? refusedKeys[key] : undefined
  if (refused !== undefined) return refused
  const meant = nearest(key, knownKeys(fileSchema, path))
  return meant === undefined ? 'unknown key' : `unknown key; did you mean ${meant}?`
}

/** The keys that the schema knows at `path`. */
function knownKeys(schema: unknown, path: Path): readonly string[] {
  if (schema instanceof z.ZodExactOptional) return knownKeys(schema.unwrap(), path)
  const [key, ...rest] = path
  if (schema instanceof z.ZodRecord && key !== undefined) return knownKeys(schema.valueType, rest)
  if (!(schema instanceof z.ZodObject)) return []
  return key === undefined ? Object.keys(schema.shape) : knownKeys(schema.shape[key], rest)
}

function keysOf(path: readonly PropertyKey[]): Path {
  return path.map((key) => (typeof key === 'number' ? key : String(key)))
}

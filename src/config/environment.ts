import type { Problem } from './problem.ts'
import type { Leaf, Path, Tree } from './tree.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Substitution {
  readonly text: string
  /** The variables that were read, set or not. */
  readonly variables: readonly string[]
  readonly unset: readonly string[]
  /** Whether something that looks like a variable is none. */
  readonly malformed: boolean
}

// `$${` is a literal `${`; a reference that never closes is caught by its missing brace.
const reference = /\$\$\{|\$\{([^}]*)(\}?)/g
const variable = /^(?:env:)?(?<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?<preset>.*))?$/s

/**
 * Replaces `${VAR}`, `${VAR:-default}` (for unset or empty, as in a shell) and `${env:VAR}`, the way VS Code writes it.
 * What a variable holds is never looked into again.
 */
export function substitute(text: string, env: Environment): Substitution {
  const variables: string[] = []
  const unset: string[] = []
  let malformed = false
  const replaced = text.replace(reference, (whole, inner?: string, brace?: string) => {
    if (inner === undefined) return '${'
    const { name, preset } = variable.exec(inner)?.groups ?? {}
    if (name === undefined || brace === '') {
      malformed = true
      return whole
    }
    variables.push(name)
    const value = env[name]
    if (value === undefined && preset === undefined) unset.push(name)
    return preset === undefined ? (value ?? '') : value || preset
  })
  return { text: replaced, variables, unset, malformed }
}

export interface Substituted {
  readonly tree: Tree
  readonly problems: readonly Problem[]
}

/** Substitutes in every text of a tree; keys stay as they are. */
export function substituteTree(tree: Tree, env: Environment): Substituted {
  const problems: Problem[] = []
  const visit = (value: Tree, path: Path): Tree => {
    if (value.kind === 'leaf') {
      return substituteLeaf(value, env, (message) => problems.push({ place: value.place, path, message }))
    }
    if (value.kind === 'list')
      return { ...value, items: value.items.map((item, index) => visit(item, [...path, index])) }
    const entries = [...value.entries].map(([key, item]) => [key, visit(item, [...path, key])] as const)
    return { ...value, entries: new Map(entries) }
  }
  return { tree: visit(tree, []), problems }
}

function substituteLeaf(value: Leaf, env: Environment, report: (message: string) => void): Leaf {
  // Without a line it came from the command line, where the shell has already replaced what it should.
  if (typeof value.value !== 'string' || value.place.line === undefined) return value
  const { text, variables, unset, malformed } = substitute(value.value, env)
  for (const name of unset)
    report(`the environment variable ${name} is not set, and there is no default (\${${name}:-default})`)
  if (malformed)
    report('a ${…} in this value is none of ${VAR}, ${VAR:-default} and ${env:VAR}; write $${ for a literal ${')
  return { ...value, value: text, variables }
}

/** Where a value was written; values from the command line have no line. */
export interface Place {
  readonly file: string
  readonly line?: number
}

export type Path = readonly (string | number)[]

/** A scalar, with the text it was written as. */
export interface Leaf {
  readonly kind: 'leaf'
  readonly place: Place
  readonly value: string | number | boolean | null
  readonly written: string
  /** The environment variables that went into `value`. */
  readonly variables: readonly string[]
}

/** A mapping; the place of each entry is that of its key. */
export interface Branch {
  readonly kind: 'branch'
  readonly place: Place
  readonly entries: ReadonlyMap<string, Tree>
}

export interface List {
  readonly kind: 'list'
  readonly place: Place
  readonly items: readonly Tree[]
}

/** A configuration that still knows which file and line each of its values came from. */
export type Tree = Leaf | Branch | List

/** The value at `path`, if there is one. */
export function at(tree: Tree, path: Path): Tree | undefined {
  let found: Tree | undefined = tree
  for (const key of path) found = found && childOf(found, key)
  return found
}

function childOf(tree: Tree, key: string | number): Tree | undefined {
  if (tree.kind === 'branch') return tree.entries.get(String(key))
  return tree.kind === 'list' ? tree.items[Number(key)] : undefined
}

/** The place of the value at `path`, or of the nearest thing around it that was written. */
export function placeOf(tree: Tree, path: Path): Place {
  for (let length = path.length; length > 0; length--) {
    const found = at(tree, path.slice(0, length))
    if (found) return found.place
  }
  return tree.place
}

/** The same tree with the value at `path` replaced, or taken out when `change` gives nothing. */
export function changeAt(tree: Tree, path: Path, change: (value: Tree) => Tree | undefined): Tree | undefined {
  const [key, ...rest] = path
  if (key === undefined) return change(tree)
  const child = childOf(tree, key)
  if (!child || tree.kind === 'leaf') return tree
  const changed = changeAt(child, rest, change)
  if (tree.kind === 'list') {
    return { ...tree, items: tree.items.flatMap((item, index) => (index !== key ? [item] : changed ? [changed] : [])) }
  }
  const entries = new Map(tree.entries)
  if (changed) entries.set(String(key), changed)
  else entries.delete(String(key))
  return { ...tree, entries }
}

/** The plain value, as a JSON parser would have given it. */
export function plainOf(tree: Tree): unknown {
  if (tree.kind === 'leaf') return tree.value
  if (tree.kind === 'list') return tree.items.map(plainOf)
  return Object.fromEntries([...tree.entries].map(([key, value]) => [key, plainOf(value)]))
}

/** A tree made from values that no file holds. */
export function treeOf(value: unknown, place: Place): Tree {
  if (Array.isArray(value)) return { kind: 'list', place, items: value.map((item) => treeOf(item, place)) }
  if (typeof value === 'object' && value !== null) {
    const given = Object.entries(value).filter(([, item]) => item !== undefined)
    return { kind: 'branch', place, entries: new Map(given.map(([key, item]) => [key, treeOf(item, place)])) }
  }
  return leaf(value, typeof value === 'string' ? value : JSON.stringify(value), place)
}

/** A scalar; YAML's core schema knows no others. */
export function leaf(value: unknown, written: string, place: Place): Leaf {
  const isPlain = typeof value === 'number' || typeof value === 'boolean' || value === null
  return { kind: 'leaf', place, value: isPlain ? value : written, written, variables: [] }
}

export function emptyBranch(place: Place): Branch {
  return { kind: 'branch', place, entries: new Map() }
}

/** `mcpServers.files.args[1]`. */
export function formatPath(path: Path): string {
  return path.map((key, index) => (typeof key === 'number' ? `[${key}]` : index === 0 ? key : `.${key}`)).join('')
}

/** Whether `path` lies at or below `ancestor`. */
export function isWithin(path: Path, ancestor: Path): boolean {
  return ancestor.length <= path.length && ancestor.every((key, index) => key === path[index])
}

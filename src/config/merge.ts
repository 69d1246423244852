import type { Problem } from './problem.ts'
import { type Branch, emptyBranch, type Path, type Tree } from './tree.ts'

const addressKeys = ['command', 'url', 'httpUrl', 'serverUrl']

/**
 * Lays `overlay` over `base`: mappings deep, scalars and lists replaced. An upstream that gets another kind of address
 * (a command for a url, say) is replaced as a whole, for none of its other settings would fit.
 */
export function mergeTrees(base: Branch, overlay: Branch, path: Path = []): Branch {
  const entries = new Map(base.entries)
  for (const [key, value] of overlay.entries) entries.set(key, mergeEntry(entries.get(key), value, [...path, key]))
  return { kind: 'branch', place: overlay.place, entries }
}

function mergeEntry(below: Tree | undefined, above: Tree, path: Path): Tree {
  if (below?.kind !== 'branch') return above
  // A block without content (`heartbeat:`) changes nothing.
  if (above.kind === 'leaf' && above.value === null) return below
  if (above.kind !== 'branch' || (isUpstream(path) && hasOtherAddress(below, above))) return above
  return mergeTrees(below, above, path)
}

function isUpstream(path: Path): boolean {
  return path.length === 2 && path[0] === 'mcpServers'
}

function hasOtherAddress(below: Branch, above: Branch): boolean {
  const given = addressKeys.filter((key) => above.entries.has(key))
  const replaced = addressKeys.filter((key) => below.entries.has(key))
  return given.length > 0 && replaced.length > 0 && !given.some((key) => replaced.includes(key))
}

/**
 * Moves keys of the heartbeat block that stand at the top of a file (a file of the predecessor holds nothing else) to
 * where they belong, before files are merged.
 */
export function liftHeartbeat(tree: Branch, heartbeatKeys: readonly string[]): { tree: Branch; problems: Problem[] } {
  const bare = [...tree.entries].filter(([key]) => heartbeatKeys.includes(key))
  const block = tree.entries.get('heartbeat')
  const rest = new Map([...tree.entries].filter(([key]) => !heartbeatKeys.includes(key)))
  const first = bare[0]
  // A block that is no mapping is left as it is: the schema will say so.
  if (!first || (block && block.kind !== 'branch' && !isEmpty(block))) return { tree, problems: [] }
  const own = block?.kind === 'branch' ? block : emptyBranch(block?.place ?? first[1].place)
  const problems = bare
    .filter(([key]) => own.entries.has(key))
    .map(([key, value]) => ({
      place: value.place,
      path: [key],
      message: `is given here and under heartbeat; keep one`,
    }))
  rest.set('heartbeat', { ...own, entries: new Map([...bare, ...own.entries]) })
  return { tree: { ...tree, entries: rest }, problems }
}

function isEmpty(tree: Tree): boolean {
  return tree.kind === 'leaf' && tree.value === null
}

import {
  type Document,
  type ErrorCode,
  type Node,
  type Pair,
  type YAMLError,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
} from 'yaml'
import type { Problem } from './problem.ts'
import { type Branch, emptyBranch, leaf, type Path, type Place, type Tree } from './tree.ts'

export interface Parsed {
  readonly tree: Branch
  /** Whether nothing stands in the file, comments aside. */
  readonly isEmpty: boolean
  readonly problems: readonly Problem[]
}

interface Reading {
  readonly document: Document.Parsed
  readonly placeAt: (node: Node | null) => Place
  readonly problems: Problem[]
}

/** Reads YAML, and JSON as the part of YAML that it is, keeping the line of every value. */
export function parseFile(file: string, text: string): Parsed {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true })
  const faults = [...document.errors, ...document.warnings]
  const root: Place = { file, line: 1 }
  if (faults.length > 0) {
    return {
      tree: emptyBranch(root),
      isEmpty: false,
      problems: firstOfEachLine(faults.map((fault) => syntaxProblem(fault, file, text, lines))),
    }
  }
  const placeAt = (node: Node | null) => ({ file, line: lines.linePos(node?.range?.[0] ?? 0).line })
  const reading: Reading = { document, placeAt, problems: [] }
  const tree = readNode(document.contents, root, { reading, path: [], above: [] })
  const { problems } = reading
  if (tree.kind === 'branch') return { tree, isEmpty: false, problems }
  // An empty file is an empty mapping; any other scalar or list is a mistake.
  const isEmpty = tree.kind === 'leaf' && tree.value === null
  const mistake = { place: tree.place, path: [], message: 'the file is not a mapping of keys to values' }
  return { tree: emptyBranch(root), isEmpty, problems: isEmpty ? problems : [...problems, mistake] }
}

interface Position {
  readonly reading: Reading
  readonly path: Path
  /** The nodes around this one: an alias to one of them would never end. */
  readonly above: readonly Node[]
}

function readNode(node: Node | null, place: Place, position: Position): Tree {
  const { reading, path, above } = position
  if (isAlias(node)) return readAlias(node.resolve(reading.document), place, position)
  if (isMap(node)) {
    const pairs = node.items.map((pair) => readPair(pair, { ...position, above: [...above, node] }))
    return { kind: 'branch', place, entries: new Map(pairs) }
  }
  if (isSeq(node)) {
    const items = node.items.map((item, index) => {
      const inner = isNode(item) ? item : null
      return readNode(inner, reading.placeAt(inner ?? node), {
        reading,
        path: [...path, index],
        above: [...above, node],
      })
    })
    return { kind: 'list', place, items }
  }
  return isScalar(node) ? leaf(node.value, node.source ?? '', place) : leaf(null, '', place)
}

function readAlias(target: Node | undefined, place: Place, position: Position): Tree {
  if (target && !position.above.includes(target)) return readNode(target, place, position)
  const message = target ? 'the alias points to a mapping or list around itself' : 'the alias points to no anchor'
  position.reading.problems.push({ place, path: position.path, message })
  return leaf(null, '', place)
}

function readPair(pair: Pair, position: Position): readonly [string, Tree] {
  const key = isScalar(pair.key) ? String(pair.key.value) : ''
  const place = position.reading.placeAt(isNode(pair.key) ? pair.key : null)
  const path = [...position.path, key]
  if (key === '__proto__') position.reading.problems.push({ place, path, message: 'this name is never allowed' })
  return [key, readNode(isNode(pair.value) ? pair.value : null, place, { ...position, path })]
}

function syntaxProblem(fault: YAMLError, file: string, text: string, lines: LineCounter): Problem {
  const { line, col } = lines.linePos(fault.pos[0])
  return { place: { file, line }, column: col, path: [], message: syntaxMessage(fault, text) }
}

/** The parser's own words, unless they would quote the file: what it stumbled over may be a secret. */
function syntaxMessage(fault: YAMLError, text: string): string {
  if (fault.code === 'DUPLICATE_KEY') {
    const key = /^["']?([^"':\s]+)/.exec(text.slice(fault.pos[0]))?.[1] ?? ''
    return `"${key}" is given twice in the same mapping`
  }
  const words = ownWords[fault.code] ?? fault.message.replace(/[:"!%\\].*/s, '').trim()
  return words.charAt(0).toLowerCase() + words.slice(1)
}

const ownWords: { readonly [code in ErrorCode]?: string } = {
  BAD_DIRECTIVE: 'a line that begins with % is no directive of YAML',
  BAD_DQ_ESCAPE: 'invalid escape sequence in a double-quoted text',
  BAD_SCALAR_START: 'a text that begins with this character needs quotes',
  BLOCK_AS_IMPLICIT_KEY: 'the next line is indented deeper than its neighbours, or a text with ": " in it needs quotes',
  MISSING_CHAR: 'a closing quote, a comma or a colon is missing',
  MULTIPLE_DOCS: 'the file holds several documents; give each its own file',
  NON_STRING_KEY: 'a key is not a text',
  TAG_RESOLVE_FAILED: 'a tag (!…) stands here; none is known',
}

/** One mistake makes the parser stumble again on the same line; only its first words help. */
function firstOfEachLine(problems: readonly Problem[]): readonly Problem[] {
  return problems.filter(
    (problem, index) => problems.findIndex((other) => other.place.line === problem.place.line) === index,
  )
}

import { decodeHeaderValue, encodeHeaderValue } from './headers.ts'
import { memberOf } from './lists.ts'

/** An argument of a tool that a header repeats (MCP 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters"). */
export interface ParamHeader {
  /** `Mcp-Param-` and what the schema says. */
  readonly name: string
  /** The keys that lead to it from the arguments. */
  readonly path: readonly string[]
  readonly isNumber: boolean
}

const prefix = 'Mcp-Param-'
/** RFC 9110 §5.6.2. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const types: ReadonlySet<unknown> = new Set(['string', 'integer', 'boolean', 'number'])
const canonicalDecimal = /^-?\d+(\.\d+)?$/

/** A schema that nests deeper is not read on. */
const maxDepth = 32

/**
 * What a tool's input schema wants repeated, `x-mcp-header` by `x-mcp-header`. Only what a chain of `properties` reaches
 * counts; the rest of a schema that breaks the rules is for server and client to refuse.
 */
export function paramHeadersOf(inputSchema: unknown, path: readonly string[] = []): ParamHeader[] {
  const properties = memberOf(inputSchema, 'properties')
  if (typeof properties !== 'object' || properties === null || path.length >= maxDepth) return []
  return Object.entries(properties).flatMap(([key, schema]: [string, unknown]) => {
    const [inner, name, type] = [[...path, key], memberOf(schema, 'x-mcp-header'), memberOf(schema, 'type')]
    const isDeclared = typeof name === 'string' && token.test(name) && types.has(type)
    const own = isDeclared
      ? [{ name: `${prefix}${name}`, path: inner, isNumber: type === 'integer' || type === 'number' }]
      : []
    return [...own, ...paramHeadersOf(schema, inner)]
  })
}

/** The headers that repeat these arguments, name and value alternating. */
export function paramHeadersFor(declared: readonly ParamHeader[], args: unknown): string[] {
  return declared.flatMap(({ name, path }) => {
    const value = textOf(valueAt(args, path))
    return value === undefined ? [] : [name, encodeHeaderValue(value)]
  })
}

/** How the headers of a call disagree with its arguments, in words; undefined when a server has to take them. */
export function paramMismatch(
  declared: readonly ParamHeader[],
  args: unknown,
  header: (name: string) => string | undefined,
): string | undefined {
  for (const { name, path, isNumber } of declared) {
    const value = valueAt(args, path)
    const body = textOf(value)
    if (body === undefined) continue
    const sent = header(name.toLowerCase())?.trim()
    if (sent === undefined) return `the argument ${path.join('.')} is "${body}", and the header ${name} is missing`
    const decoded = decodeHeaderValue(sent)
    const isSameNumber = isNumber && canonicalDecimal.test(decoded ?? '') && Number(decoded) === value
    if (decoded !== body && !isSameNumber) {
      return `the argument ${path.join('.')} is "${body}", the header ${name} "${sent}"`
    }
  }
  return undefined
}

/** Of an argument that is absent, null or no primitive, or that no header can hold exactly, nothing is repeated. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  if (typeof value !== 'number' || !Number.isFinite(value)) return undefined
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? undefined : String(value)
}

function valueAt(args: unknown, path: readonly string[]): unknown {
  return path.reduce((value, key) => memberOf(value, key), args)
}

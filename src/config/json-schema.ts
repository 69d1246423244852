import { z } from 'zod'
import { fileSchema } from './schema.ts'

type Json = Readonly<Record<string, unknown>>

const reference = { type: 'string', pattern: String.raw`^\$\{.*\}$` }
const limits = ['type', 'enum', 'minimum', 'maximum']

/**
 * The JSON Schema of a configuration file, for editors; it ships as deploy/mcp-vitals.schema.json. To write it anew:
 * `node src/config/json-schema.ts > deploy/mcp-vitals.schema.json && npx prettier --write deploy/mcp-vitals.schema.json`
 */
export function configJsonSchema(): Json {
  const { $schema, ...schema } = z.toJSONSchema(fileSchema, { io: 'input' })
  return { $schema, ...loosen(schema) }
}

/** As the loader does, takes `${VAR}` where a number, boolean or fixed word is wanted, and any scalar for a text. */
function loosen(schema: Json): Json {
  const changed = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, key === 'propertyNames' ? value : loosenValue(key, value)]),
  )
  if (schema['type'] === 'string' && !schema['enum']) return { ...changed, type: ['string', 'number', 'boolean'] }
  if (schema['enum'] === undefined && !['number', 'integer', 'boolean'].includes(String(schema['type']))) return changed
  const kept = Object.entries(changed).filter(([key]) => !limits.includes(key))
  const strict = Object.entries(changed).filter(([key]) => limits.includes(key))
  return { ...Object.fromEntries(kept), anyOf: [Object.fromEntries(strict), reference] }
}

function loosenValue(key: string, value: unknown): unknown {
  if (!isObject(value)) return value
  if (key !== 'properties') return loosen(value)
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [name, isObject(field) ? loosen(field) : field]),
  )
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`)

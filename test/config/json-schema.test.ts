import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { configJsonSchema } from '../../src/config/json-schema.ts'

const file = join(import.meta.dirname, '../../deploy/mcp-vitals.schema.json')

it('is the schema that ships (src/config/json-schema.ts tells how to write it anew)', () => {
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(configJsonSchema())
})

it('describes every field', () => {
  const missing: string[] = []
  const visit = (schema: unknown, path: string): void => {
    if (typeof schema !== 'object' || schema === null) return
    const fields = 'properties' in schema && schema.properties ? Object.entries(schema.properties) : []
    for (const [key, field] of fields) {
      if (!('description' in Object(field))) missing.push(`${path}.${key}`)
    }
    for (const [key, value] of Object.entries(schema)) visit(value, `${path}.${key}`)
  }
  visit(configJsonSchema(), '')
  expect(missing).toEqual([])
})

/** Where inputs come from: files of earlier finds, edits of those, soups of tokens, and any bytes. */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import type { Target } from './targets.ts'

const corpusFolder = join(import.meta.dirname, 'corpus')

/** The inputs that are replayed always. */
export function inputsOf(name: string): (readonly [file: string, bytes: Buffer])[] {
  const folder = join(corpusFolder, name)
  return readdirSync(folder).map((file) => [file, readFileSync(join(folder, file))])
}

/** Keeps an input that broke a promise; gives the file. */
export function keepInput(name: string, bytes: Buffer): string {
  const folder = join(corpusFolder, name)
  mkdirSync(folder, { recursive: true })
  const file = join(folder, createHash('sha256').update(bytes).digest('hex').slice(0, 12))
  writeFileSync(file, bytes)
  return file
}

export const chunkSizes = fc.array(fc.integer({ min: 1, max: 16 }), { minLength: 1, maxLength: 6 })

export function anyInput(name: string, { tokens }: Target): fc.Arbitrary<Buffer> {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
  const soup = fc.array(fc.constantFrom(...tokens), { maxLength: 40 }).map((parts) => Buffer.from(parts.join('')))
  const edit = fc.record({ at: fc.nat(), drop: fc.nat(4), insert: fc.oneof(soup, bytes) })
  const edited = fc
    .tuple(fc.constantFrom(...inputsOf(name).map(([, bytes]) => bytes)), fc.array(edit, { maxLength: 4 }))
    .map(([start, edits]) =>
      edits.reduce((bytes, { at, drop, insert }) => {
        const from = at % (bytes.length + 1)
        return Buffer.concat([bytes.subarray(0, from), insert.subarray(0, 40), bytes.subarray(from + drop)])
      }, start),
    )
  return fc.oneof(soup, edited, bytes)
}

import type { Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import type { Clock, Timer } from '../clock.ts'

/** Content codings (RFC 9110 §8.4.1, RFC 7932, RFC 8878). */
const decompressors: ReadonlyMap<string, () => Transform> = new Map<string, () => Transform>([
  ['gzip', createGunzip],
  ['x-gzip', createGunzip],
  ['deflate', createInflate],
  ['br', createBrotliDecompress],
  ['zstd', createZstdDecompress],
])

/** What may wait to be decoded; more than this came faster than it can be read. */
const maxWaitingBytes = 4 * 1024 * 1024
/** What is read of one body; a longer one is a long stream, or made to burst. */
const maxDecodedBytes = 64 * 1024 * 1024
/** How far behind the end of the body the end of its decoding may come. */
const maxLagMs = 1000

export interface ContentDecoderOptions {
  readonly clock: Clock
  /** `Content-Encoding`. */
  readonly coding: string
  readonly onData: (chunk: Buffer) => void
}

/**
 * Decodes a copy of an encoded body as it passes, on zlib's own threads. Gives up where it is no such coding, and where
 * a limit is reached.
 */
export class ContentDecoder {
  readonly #options: ContentDecoderOptions
  #decompressor: Transform | undefined
  #decodedBytes = 0
  #outcome: 'read' | 'unread' | undefined
  #onOutcome: ((isRead: boolean) => void) | undefined
  #lag: Timer | undefined

  constructor(options: ContentDecoderOptions) {
    this.#options = options
  }

  push(chunk: Buffer): void {
    if (this.#outcome) return
    this.#decompressor ??= this.#begin()
    if (!this.#decompressor || this.#decompressor.writableLength > maxWaitingBytes) return this.#finish('unread')
    this.#decompressor.write(chunk)
  }

  /** The body is over; `done` hears whether all of it was read. */
  end(done: (isRead: boolean) => void): void {
    this.#onOutcome = done
    if (this.#outcome) return done(this.#outcome === 'read')
    if (!this.#decompressor) return this.#finish('read')
    this.#decompressor.end()
    this.#lag = this.#options.clock.after(maxLagMs, () => this.#finish('unread'))
  }

  /** Nobody wants to hear any more. */
  stop(): void {
    this.#onOutcome = undefined
    this.#finish('unread')
  }

  #begin(): Transform | undefined {
    const decompressor = decompressors.get(this.#options.coding.trim().toLowerCase())?.()
    decompressor?.on('data', (chunk: Buffer) => this.#decoded(chunk))
    decompressor?.once('end', () => this.#finish('read'))
    decompressor?.on('error', () => this.#finish('unread')) // It is for its receiver to refuse.
    return decompressor
  }

  #decoded(chunk: Buffer): void {
    if (this.#outcome) return
    this.#decodedBytes += chunk.length
    if (this.#decodedBytes > maxDecodedBytes) this.#finish('unread')
    else this.#options.onData(chunk)
  }

  #finish(outcome: 'read' | 'unread'): void {
    if (this.#outcome) return
    this.#outcome = outcome
    this.#lag?.cancel()
    this.#decompressor?.destroy()
    this.#onOutcome?.(outcome === 'read')
  }
}

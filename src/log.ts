import { type DestinationStream, type LogFn, type Logger, destination, pino, stdTimeFunctions } from 'pino'

export type { Logger } from 'pino'

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  /** `auto` is logfmt on a terminal and JSON elsewhere. */
  readonly format: 'auto' | 'json' | 'logfmt'
  readonly isTerminal: boolean
  /** Takes the lines instead of stdout. */
  readonly write?: ((line: string) => void) | undefined
}

/** One JSON object a line, with `level`, `ts` and `msg` first and a `trace_id`; the same fields as logfmt for people. */
export function createLogger({ level, format, isTerminal, write }: LogOptions): Logger {
  const isLogfmt = format === 'logfmt' || (format === 'auto' && isTerminal)
  const stdout = write ? undefined : destination({ fd: 1, sync: isTerminal })
  const sink: DestinationStream = stdout ?? { write: write ?? (() => undefined) }
  const stream: DestinationStream = isLogfmt ? { write: (line) => sink.write(logfmt(line)) } : sink
  const logger = pino(
    {
      level,
      base: null,
      messageKey: 'msg',
      timestamp: () => stdTimeFunctions.isoTime().replace('"time"', '"ts"'),
      formatters: { level: (label) => ({ level: label }) },
      hooks: { logMethod: messageFirst },
    },
    stream,
  )
  logger.flush = (done) => {
    if (stdout) stdout.flush(done)
    else done?.()
  }
  return logger
}

/**
 * Pino writes the message after all fields; in front of them it is where people look. Every line has a `trace_id`, if
 * only to say that it belongs to no trace, so that one query finds all lines of a trace and none is of another shape.
 */
function messageFirst(this: Logger, [first, ...rest]: Parameters<LogFn>, method: LogFn): void {
  if (typeof first === 'string' && rest.length === 0) return method.call(this, { msg: first, trace_id: null })
  const isWithFields = typeof first === 'object' && first !== null && rest.length === 1
  if (!isWithFields) return method.call(this, first, ...rest)
  const traceId: unknown = 'trace_id' in first ? first.trace_id : undefined
  method.call(this, { msg: rest[0], ...first, trace_id: traceId ?? null })
}

/** A JSON line as `key=value` pairs; a value with anything but plain characters is quoted as JSON. */
export function logfmt(line: string): string {
  const fields: unknown = JSON.parse(line)
  const pairs = Object.entries(typeof fields === 'object' && fields !== null ? fields : {})
  return `${pairs.map(([key, value]) => `${key}=${plain(value)}`).join(' ')}\n`
}

function plain(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  if (/^[\p{L}\p{N}\p{P}\p{S}]+$/u.test(text) && !/["=]/.test(text)) return text
  return JSON.stringify(text).replaceAll(/\p{C}/gu, escaped)
}

/** Of what changes how a terminal shows a line (directions, invisible characters), JSON escapes only a part. */
function escaped(character: string): string {
  return Array.from({ length: character.length }, (_, at) => {
    return `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`
  }).join('')
}

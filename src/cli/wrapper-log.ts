import { openSync, writeSync } from 'node:fs'

/**
 * What of our log goes to the stderr that we share with the server, which the client may or may not read. Writing to a
 * pipe that nobody empties would block us, and with us the messages; this fits into every pipe.
 */
const maxStderrBytes = 32 * 1024

/** Writes lines to stderr, and says once that it will write no more. */
export function boundedStderr(): (line: string) => void {
  let leftBytes = maxStderrBytes
  return (line) => {
    if (leftBytes <= 0) return
    leftBytes -= Buffer.byteLength(line)
    write(2, leftBytes > 0 ? line : 'mcp-vitals: this is all that goes to stderr; --log-file FILE takes everything\n')
  }
}

/** Appends lines to a file; throws when it cannot be opened. */
export function logFile(path: string): (line: string) => void {
  const file = openSync(path, 'a')
  return (line) => write(file, line)
}

function write(file: number, line: string): void {
  try {
    writeSync(file, line)
  } catch {
    // Nobody reads it, or the disk is full: a log line is not worth the conversation.
  }
}

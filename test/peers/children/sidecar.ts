/**
 * Stands for a sidecar that will be killed with -9: starts one server, the way its argument says, tells the pids of the
 * server, of the server's own child and of the watchdog, and stays.
 */
import { systemClock } from '../../../src/clock.ts'
import { findSetpriv } from '../../../src/upstreams/executable.ts'
import { processStarter } from '../../../src/upstreams/process.ts'
import { Watchdog } from '../../../src/upstreams/watchdog.ts'

const protections = process.argv[2] ?? ''
const watchdog = protections.includes('watchdog') ? new Watchdog() : undefined
const start = processStarter({
  clock: systemClock,
  setprivPath: protections.includes('setpriv') ? findSetpriv() : undefined,
  watchdog,
})

// The server and its child ignore SIGTERM and never look at their stdin.
const server = start(
  { command: 'sh', args: ['-c', `trap '' TERM HUP; sleep 1000 & echo $$ $!; wait`], env: {} },
  { stderrTailBytes: 1024 },
)
server.stdout.on('data', (chunk: Buffer) => {
  process.stdout.write(`${chunk.toString().trim()} ${watchdog?.pid() ?? ''}\n`)
})

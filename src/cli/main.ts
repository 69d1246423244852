#!/usr/bin/env node
/** The command line. Everything else is imported only once the Node version is known to do. */
import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`mcp-vitals needs Node 22.19 or newer; this is Node ${process.versions.node}\n`)
  process.exit(1)
}

// What was compiled before starts faster. Not in the folder for temporary files, Node's own choice: others write there.
const cacheHome = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache')
module.enableCompileCache(join(cacheHome, 'mcp-vitals'))

const { run } = await import('./commands.ts')

// V8's collector as a proxy needs it, whose objects live as long as a request. Nearly none survives a collection of the
// youngest, for which to wake V8's other threads costs more than they do. And none is born old: after a burst V8 may
// think that of those made at some place, each of which then keeps its request in memory until the next full collection.
// With another flag V8 takes no code that was compiled before, not even Node's own: so only now, and what is kept of
// ours is written first.
module.flushCompileCache()
setFlagsFromString('--no-parallel-scavenge')
setFlagsFromString('--no-allocation-site-pretenuring')

process.exitCode = await run(process.argv.slice(2))

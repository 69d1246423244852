#!/usr/bin/env node
/** The command line. Everything else is imported only once the Node version is known to do. */

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`mcp-vitals needs Node 22.19 or newer; this is Node ${process.versions.node}\n`)
  process.exit(1)
}

const { run } = await import('./commands.ts')
process.exitCode = await run(process.argv.slice(2))

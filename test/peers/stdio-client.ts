/**
 * An official client that starts the command in its arguments, opens a session with it, and stays until its stdin ends:
 * `node test/peers/stdio-client.ts COMMAND ARGS…`. It says `connected` when it is.
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { compileCache } from '../support/program.ts'

const [command = '', ...args] = process.argv.slice(2)
const client = new Client({ name: 'stdio-client', version: '1.0.0' })
await client.connect(new StdioClientTransport({ command, args, env: compileCache }))
console.log('connected')
process.stdin.resume().once('end', () => void client.close())

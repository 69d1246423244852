/** A stdio server whose other end is a socket: what comes in on stdin goes there, and what comes from there to stdout. */
import { connect } from 'node:net'

const socket = connect(Number(process.argv[2]), '127.0.0.1')
process.stdin.pipe(socket)
socket.pipe(process.stdout)
socket.on('error', () => process.exit(1))

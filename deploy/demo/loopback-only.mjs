/**
 * Preload: `node --import ./deploy/demo/loopback-only.mjs server.js`.
 *
 * The HTTP modes of server-everything call `listen(port)`, which binds every interface of the machine, with CORS open
 * to all and tools that print the environment. A demo must not offer that to the network, and the server has no option
 * for the host, so a `listen` that names no host gets 127.0.0.1 here.
 */
import { Server } from 'node:net'

const listen = Server.prototype.listen
const isPort = (value) => typeof value === 'number' || (typeof value === 'string' && /^\d+$/.test(value))

Server.prototype.listen = function listenOnLoopback(first, ...rest) {
  if (isPort(first) && typeof rest[0] !== 'string') return listen.call(this, first, '127.0.0.1', ...rest)
  if (first !== null && typeof first === 'object' && 'port' in first && !first.host) {
    return listen.call(this, { ...first, host: '127.0.0.1' }, ...rest)
  }
  return listen.call(this, first, ...rest)
}

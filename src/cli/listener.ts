import type { Server } from 'node:http'
import { type Address, formatAddress } from '../config/address.ts'
import { KnownError } from '../errors.ts'

/** Binds a listener; `key` names it in the error. */
export function listen(server: Server, address: Address, key: 'listen' | 'admin_listen'): Promise<Server> {
  server.requestTimeout = 0
  server.keepAliveTimeout = 65_000
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(new KnownError('listen_failed', `${key} ${formatAddress(address)}: ${error.message}`, { cause: error }))
    })
    server.listen(address.port, address.host === '' ? undefined : address.host, () => resolve(server))
  })
}

/** Closes a listener and every connection to it. */
export function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

/** Where a listener on this machine is reached from it. */
export function urlOf(server: Server, { host }: Address): string {
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0
  const name =
    host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return `http://${name}:${port}`
}

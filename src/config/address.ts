import { isIP, isIPv4 } from 'node:net'

/** Where to listen. An empty host means every interface, as it does for `net.Server.listen`. */
export interface Address {
  readonly host: string
  readonly port: number
}

const hostName = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?$/i

/** Reads `127.0.0.1:7080`, `[::1]:0`, `:7080` (every interface) or `7080` (loopback); undefined when it is none. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:(?:\[(?<six>[^\]]*)\]|(?<name>[^:[\]]*)):)?(?<port>\d{1,5})$/.exec(text)
  if (!match?.groups) return undefined
  const { six, name, port } = match.groups
  const host = six ?? name ?? '127.0.0.1'
  if (six !== undefined && isIP(six) !== 6) return undefined
  if (name && !isHost(name)) return undefined
  return Number(port) <= 65_535 ? { host, port: Number(port) } : undefined
}

/** The text that `parseAddress` reads back. */
export function formatAddress(address: Address): string {
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}

/** Whether only this machine can reach a listener there. */
export function isLoopback(address: Address): boolean {
  const host = address.host.toLowerCase().replace(/^::ffff:/, '')
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Whether a text is a host as a URL has it: a name, an IPv4 address, or an IPv6 address with or without brackets. */
export function isHost(text: string): boolean {
  return hostName.test(text) || isIP(text.replace(/^\[(.*)\]$/, '$1')) === 6
}

import { BlockList, isIP } from 'node:net'
import { KnownError } from '../errors.ts'
import { isLoopback } from './endpoint.ts'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * The proxy by which a URL is reached, as curl and others read it from `https_proxy`, `http_proxy` and `no_proxy` (in
 * lower case, else in upper case); undefined for none, and always for this machine itself.
 */
export function proxyFor(url: URL, env: Environment): URL | undefined {
  if (isLoopback(url.hostname)) return undefined
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy'
  const text = valueOf(env, name)
  if (text === '' || isExempt(url, valueOf(env, 'no_proxy'))) return undefined
  const full = text.includes('://') ? text : `http://${text}`
  const proxy = URL.canParse(full) ? new URL(full) : undefined
  if (proxy && (proxy.protocol === 'http:' || proxy.protocol === 'https:')) return proxy
  // The value may hold a password, so it is not shown.
  throw new KnownError('config_invalid', `the environment variable ${name} (or in capitals) is no http or https URL`)
}

function valueOf(env: Environment, name: string): string {
  return (env[name] ?? env[name.toUpperCase()] ?? '').trim()
}

/**
 * Names stand for themselves and what is below them, with or without a leading dot; `10.0.0.0/8` for the addresses of a
 * network; `*` for all.
 */
function isExempt({ hostname, port, protocol }: URL, list: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
  const ownPort = port === '' ? (protocol === 'https:' ? '443' : '80') : port
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true
      if (entry.includes('/')) return isWithin(host, entry)
      const match = /^(?:\*?\.)?(?:\[([^\]]+)\]|([^:]+)|(.*:.*:.*))(?::(\d+))?$/.exec(entry)
      const name = (match?.[1] ?? match?.[2] ?? match?.[3])?.replace(/\.$/, '')
      if (!name || (match?.[4] !== undefined && match[4] !== ownPort)) return false
      return host === name || host.endsWith(`.${name}`)
    })
}

/** Whether it is an address of this network (RFC 4632 §3.1, RFC 4291 §2.3); what is no network holds none. */
function isWithin(host: string, network: string): boolean {
  const [, address = '', bits] = /^\[?([\da-f.:]+)\]?\/(\d{1,3})$/.exec(network) ?? []
  const family = isIP(address)
  const prefix = Number(bits)
  if (family === 0 || isIP(host) !== family || prefix > (family === 4 ? 32 : 128)) return false
  const type = family === 4 ? 'ipv4' : 'ipv6'
  const addresses = new BlockList()
  addresses.addSubnet(address, prefix, type)
  return addresses.check(host, type)
}

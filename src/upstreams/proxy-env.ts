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

/** Names stand for themselves and what is below them, with or without a leading dot; `*` stands for all. */
function isExempt({ hostname, port, protocol }: URL, list: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  const ownPort = port === '' ? (protocol === 'https:' ? '443' : '80') : port
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true
      const match = /^(?:\*?\.)?(?:\[([^\]]+)\]|([^:]+)|(.*:.*:.*))(?::(\d+))?$/.exec(entry)
      const name = match?.[1] ?? match?.[2] ?? match?.[3]
      if (name === undefined || (match?.[4] !== undefined && match[4] !== ownPort)) return false
      return host === name || host.endsWith(`.${name}`)
    })
}

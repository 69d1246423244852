import type { HeadersFor } from '../upstreams/client-endpoint.ts'
import { endToEndHeaders, headerNames } from '../wire/headers.ts'
import type { Exchange } from './exchange.ts'

/** What belongs to the client's own transport; towards the server each has its own. */
const ofTransport: ReadonlySet<string> = new Set([
  'accept',
  'accept-encoding',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-type',
  ...Object.values(headerNames),
])

/**
 * What of a client's headers goes to a server of another transport: all but those of the transport itself, with `Host`
 * and `Authorization` by the same rules as when its request is forwarded.
 */
export function bridgedHeaders({ incoming }: Exchange, ownsAuthorization: boolean): HeadersFor {
  return (endpoint) => {
    const drop = new Set([...ofTransport, ...endpoint.replaced])
    if (ownsAuthorization) drop.add('authorization')
    if (!endpoint.clientHost) drop.add('host')
    const headers = new Map<string, string>()
    const raw = endToEndHeaders(incoming.rawHeaders, { drop })
    for (let at = 0; at + 1 < raw.length; at += 2) {
      const name = (raw[at] ?? '').toLowerCase()
      const value = raw[at + 1] ?? ''
      const before = headers.get(name)
      headers.set(name, before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ', '}${value}`)
    }
    return headers
  }
}

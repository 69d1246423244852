import { getCACertificates } from 'node:tls'
import type { OAuthClientProvider, OAuthDiscoveryState } from '@modelcontextprotocol/sdk/client/auth.js'
import type { FetchLike } from '@modelcontextprotocol/sdk/shared/transport.js'
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { identityCoding } from '../wire/headers.ts'
import type { Send } from './attempts.ts'
import { type ClientCredentials, isToken } from './credentials.ts'
import { HttpPool } from './http.ts'
import type { Token } from './token-cache.ts'
import type { TlsSettings } from './upstream.ts'
import { receiveWhole } from './whole.ts'

export interface OauthOptions {
  readonly credentials: ClientCredentials
  readonly clock: Clock
  /** The server that the token is for, how it is reached without one, and the headers that it gets. */
  readonly serverUrl: URL
  readonly send: Send
  readonly headers: ReadonlyMap<string, string>
  readonly tls?: TlsSettings | undefined
  /** The proxy by which a URL is reached. */
  readonly proxyFor: (url: URL) => URL | undefined
}

/** Gets tokens for one server; rejects with `upstream_unauthorized` and the reason, which holds no secret. */
export interface TokenClient {
  readonly obtain: () => Promise<Token>
  readonly close: () => Promise<void>
}

/**
 * Tokens by the client credentials grant, through the official SDK: it finds the authorization server's endpoints
 * (RFC 8414, OpenID Connect Discovery), the resource to ask for (RFC 9728, RFC 8707) and proves who we are. The SDK is
 * loaded when the first token is needed, so that nobody else pays for it.
 */
export function tokenClient(options: OauthOptions): TokenClient {
  const { credentials, serverUrl } = options
  const { fetch, close } = whoeverAnswers(options)
  let provider: OAuthClientProvider | undefined
  const obtain = async (): Promise<Token> => {
    try {
      const { auth } = await import('@modelcontextprotocol/sdk/client/auth.js')
      provider ??= await providerOf(credentials)
      await auth(provider, { serverUrl, fetchFn: fetch })
      const tokens = await provider.tokens()
      if (!tokens || !isToken(tokens.access_token)) throw new Error('its answer holds no token that fits into a header')
      return tokenOf(tokens.access_token, tokens.expires_in)
    } catch (error) {
      // What was found out may be why.
      provider = undefined
      const reason = withoutSecrets(errorMessage(error), credentials)
      throw new KnownError('upstream_unauthorized', `no token from ${credentials.issuer}: ${reason}`)
    }
  }
  return { obtain, close }
}

/** Renewed when a tenth of its life is left, or a minute if that is less. */
export function tokenOf(value: string, expiresInSeconds: number | undefined): Token {
  if (expiresInSeconds === undefined) return { value, renewInMs: Infinity, expiresInMs: Infinity }
  const expiresInMs = Math.max(0, expiresInSeconds * 1000)
  return { value, expiresInMs, renewInMs: expiresInMs - Math.min(expiresInMs / 10, defaults.tokens.renewBeforeMs) }
}

const maxReasonChars = 300

/** An error page may hold what we sent. */
export function withoutSecrets(text: string, { clientId, proof }: ClientCredentials): string {
  const isSecret = proof.kind === 'secret'
  const basic = isSecret ? Buffer.from(`${clientId}:${proof.secret}`).toString('base64') : undefined
  const secrets = isSecret ? [proof.secret, encodeURIComponent(proof.secret), basic] : []
  let shown = text
  for (const secret of secrets) if (secret !== undefined) shown = shown.replaceAll(secret, '<secret>')
  // Any JSON Web Token, such as the assertion that proves who we are.
  return shown
    .replaceAll(/eyJ[\w-]+\.[\w-]+\.[\w-]*/g, '<token>')
    .replaceAll(/\s+/g, ' ')
    .slice(0, maxReasonChars)
}

async function providerOf({ clientId, issuer, scope, proof }: ClientCredentials): Promise<OAuthClientProvider> {
  const { ClientCredentialsProvider, PrivateKeyJwtProvider } =
    await import('@modelcontextprotocol/sdk/client/auth-extensions.js')
  const account = { clientId, expectedIssuer: issuer, clientName: 'mcp-vitals', ...(scope !== undefined && { scope }) }
  const provider: OAuthClientProvider =
    proof.kind === 'secret'
      ? new ClientCredentialsProvider({ ...account, clientSecret: proof.secret })
      : new PrivateKeyJwtProvider({ ...account, privateKey: proof.pem, algorithm: proof.algorithm })
  // The authorization server is the configured one, whatever the server may say: only its endpoints are looked for.
  let discovered: OAuthDiscoveryState = { authorizationServerUrl: issuer }
  provider.discoveryState = () => discovered
  provider.saveDiscoveryState = (state) => {
    discovered = state
  }
  return provider
}

/** A `fetch` with our time-outs, limits, TLS settings and proxies, and nobody's redirects. */
function whoeverAnswers({ clock, serverUrl, send, headers: serverHeaders, tls, proxyFor }: OauthOptions) {
  const pools = new Map<string, HttpPool>()
  const sendTo = (url: URL): Send => {
    if (url.origin === serverUrl.origin) return send
    const known = pools.get(url.origin)
    const pool = known ?? new HttpPool({ ...defaults.http, url, tls: trustOf(tls), proxy: proxyFor(url) })
    pools.set(url.origin, pool)
    return (request, handler) => pool.send(request, handler)
  }
  const fetch: FetchLike = async (input, init = {}) => {
    const url = new URL(input)
    const body = init.body === undefined ? null : Buffer.from(await new Response(init.body).arrayBuffer())
    const headers = new Map([
      ['host', url.host],
      ['user-agent', 'mcp-vitals'],
      identityCoding,
      ...new Headers(init.headers),
    ])
    if (body) headers.set('content-length', String(body.length))
    if (url.origin === serverUrl.origin) for (const [name, value] of serverHeaders) headers.set(name, value)
    const { metadataTimeoutMs: timeoutMs, maxMetadataBytes: maxBytes } = defaults.http
    const request = {
      method: init.method ?? 'GET',
      path: url.pathname + url.search,
      headers: [...headers].flat(),
      body,
    }
    const answer = await receiveWhole(sendTo(url), request, { clock, timeoutMs, maxBytes })
    const { status, rawHeaders } = answer
    const hasBody = status !== 204 && status !== 205 && status !== 304
    return new Response(hasBody ? answer.body : null, { status, headers: pairs(rawHeaders) })
  }
  const close = async () => {
    await Promise.all([...pools.values()].map((pool) => pool.close()))
  }
  return { fetch, close }
}

/** The server's own authorities are trusted beside the usual ones; our certificate is for the server alone. */
function trustOf(tls: TlsSettings | undefined): TlsSettings | undefined {
  return tls?.ca === undefined ? undefined : { ca: [tls.ca, ...getCACertificates('default')].join('\n') }
}

function pairs(rawHeaders: readonly string[]): [string, string][] {
  const found: [string, string][] = []
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) found.push([rawHeaders[at] ?? '', rawHeaders[at + 1] ?? ''])
  return found
}

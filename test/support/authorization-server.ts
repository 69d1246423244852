import { createPublicKey, verify } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, createServer, request as httpRequest } from 'node:http'
import { listenOn, stopped } from './mcp-server.ts'
import { sendJson } from './scripted-server.ts'

export const account = { clientId: 'vitals', secret: 'canary-secret/+' } as const

export interface AuthorizationServer {
  readonly url: string
  /** The form of every token request, with what came in `Authorization`. */
  readonly asked: { readonly form: URLSearchParams; readonly authorization: string | undefined }[]
  readonly isGood: (token: string) => boolean
  /** No token that was given out is good any more. */
  revoke(): void
  expiresInSeconds: number | undefined
  /** Instead of a token. */
  refusal: ((response: ServerResponse) => void) | undefined
  readonly stop: () => Promise<void>
}

/** An authorization server that knows one account: by its secret, or by a signature if `publicKey` is its key. */
export async function authorizationServer({
  publicKey,
}: { readonly publicKey?: string } = {}): Promise<AuthorizationServer> {
  const good = new Set<string>()
  const http = createServer((request, response) => {
    if (request.url === '/.well-known/oauth-authorization-server') return sendJson(response, 200, metadata())
    if (request.url !== '/issue') return sendJson(response, 404, {})
    void readText(request).then((text) => issue(new URLSearchParams(text), request.headers.authorization, response))
  })
  const metadata = () => ({
    issuer: server.url,
    authorization_endpoint: `${server.url}/authorize`,
    token_endpoint: `${server.url}/issue`,
    response_types_supported: ['code'],
    grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'private_key_jwt'],
  })
  const issue = (form: URLSearchParams, authorization: string | undefined, response: ServerResponse) => {
    server.asked.push({ form, authorization })
    if (server.refusal) return server.refusal(response)
    const basic = `Basic ${Buffer.from(`${account.clientId}:${account.secret}`).toString('base64')}`
    const isKnown =
      publicKey === undefined ? authorization === basic : isSigned(form.get('client_assertion') ?? '', publicKey)
    if (!isKnown || form.get('grant_type') !== 'client_credentials') {
      return sendJson(response, 401, { error: 'invalid_client', error_description: `not ${authorization ?? 'you'}` })
    }
    const token = `canary-token-${server.asked.length}`
    good.add(token)
    sendJson(response, 200, { access_token: token, token_type: 'Bearer', expires_in: server.expiresInSeconds })
  }
  const server: AuthorizationServer = {
    url: `http://127.0.0.1:${await listenOn(http)}`,
    asked: [],
    isGood: (token) => good.has(token),
    revoke: () => good.clear(),
    expiresInSeconds: 3600,
    refusal: undefined,
    stop: () => stopped(http),
  }
  return server
}

/** A server in front of another, that lets nobody in without a token of that authorization server. */
export async function protectedServer(inner: string, authorization: AuthorizationServer) {
  let refused = 0
  const { origin: to } = new URL(inner)
  const http = createServer((incoming, response) => {
    const { method, url = '/', headers } = incoming
    if (url === '/.well-known/oauth-protected-resource/mcp') {
      return sendJson(response, 200, { resource: `${origin}/mcp`, authorization_servers: [authorization.url] })
    }
    if (!authorization.isGood(headers.authorization?.replace('Bearer ', '') ?? '')) {
      refused += 1
      const metadata = `${origin}/.well-known/oauth-protected-resource/mcp`
      response.writeHead(401, { 'www-authenticate': `Bearer resource_metadata="${metadata}"` }).end()
      return incoming.resume()
    }
    const onward = httpRequest(to + url, { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    incoming.pipe(onward)
  })
  const origin = `http://127.0.0.1:${await listenOn(http)}`
  return { url: `${origin}/mcp`, refused: () => refused, stop: () => stopped(http) }
}

async function readText(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += String(chunk)
  return text
}

/** Whether a JSON Web Token bears the signature of an ES256 key (RFC 7515 §3.1, RFC 7518 §3.4). */
function isSigned(token: string, publicKey: string): boolean {
  const [header = '', claims = '', signature = ''] = token.split('.')
  const key = { key: createPublicKey(publicKey), dsaEncoding: 'ieee-p1363' } as const
  return verify('sha256', Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, 'base64url'))
}

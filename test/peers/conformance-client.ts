/**
 * The client that the official conformance suite tests: an official SDK v2 client that logs in where it has to, and
 * uses everything that the server offers once. The suite starts it with the URL of its own server; with THROUGH_VITALS
 * set, it goes there through a mcp-vitals that it starts for itself, without heartbeats: those are requests of another
 * client, which the suite would judge as well.
 */
import {
  Client,
  ClientCredentialsProvider,
  type OAuthClientInformationMixed,
  type OAuthClientProvider,
  type OAuthDiscoveryState,
  type OAuthTokens,
  PrivateKeyJwtProvider,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from '@modelcontextprotocol/client'
import { z } from 'zod'
import { errorMessage } from '../../src/errors.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { startVitals } from '../support/vitals.ts'

const callback = 'http://localhost:3000/callback'
const maxLogins = 3

/** What the suite tells about an account that the client has already. */
const contextSchema = z.looseObject({
  client_id: z.string().optional(),
  client_secret: z.string().optional(),
  private_key_pem: z.string().optional(),
  signing_algorithm: z.string().optional(),
  toolCalls: z.array(z.object({ name: z.string(), arguments: z.record(z.string(), z.unknown()) })).optional(),
})
type Context = z.output<typeof contextSchema>

/** A user who approves everything, in a browser that follows no redirect. */
class ApprovingUser implements OAuthClientProvider {
  readonly redirectUrl = callback
  readonly clientMetadataUrl = 'https://conformance-test.local/client-metadata.json'
  readonly clientMetadata = {
    client_name: 'mcp-vitals-test',
    redirect_uris: [callback],
    grant_types: ['authorization_code', 'refresh_token'],
    application_type: 'native',
  }
  /** What came back from the authorization server with the last login. */
  returned = new URLSearchParams()
  #information: OAuthClientInformationMixed | undefined
  #tokens: OAuthTokens | undefined
  #verifier = ''
  #discovered: OAuthDiscoveryState | undefined

  constructor(information?: OAuthClientInformationMixed) {
    this.#information = information
  }

  clientInformation = () => this.#information
  saveClientInformation(information: OAuthClientInformationMixed): void {
    this.#information = information
  }

  tokens = () => this.#tokens
  saveTokens(tokens: OAuthTokens): void {
    this.#tokens = tokens
  }

  codeVerifier = () => this.#verifier
  saveCodeVerifier(verifier: string): void {
    this.#verifier = verifier
  }

  discoveryState = () => this.#discovered
  saveDiscoveryState(state: OAuthDiscoveryState): void {
    this.#discovered = state
  }

  invalidateCredentials(scope: 'all' | 'client' | 'tokens' | 'verifier' | 'discovery'): void {
    if (scope === 'all' || scope === 'client') this.#information = undefined
    if (scope === 'all' || scope === 'tokens') this.#tokens = undefined
    if (scope === 'all' || scope === 'discovery') this.#discovered = undefined
  }

  async redirectToAuthorization(url: URL): Promise<void> {
    const { headers } = await fetch(url, { redirect: 'manual' })
    const location = headers.get('location')
    if (location === null) throw new Error(`${url.href} redirects nowhere`)
    this.returned = new URL(location).searchParams
  }
}

function providerOf(scenario: string, { client_id, client_secret, private_key_pem, signing_algorithm }: Context) {
  if (client_id !== undefined && private_key_pem !== undefined) {
    const algorithm = signing_algorithm ?? 'ES256'
    return new PrivateKeyJwtProvider({ clientId: client_id, privateKey: private_key_pem, algorithm })
  }
  if (client_id === undefined || client_secret === undefined) return new ApprovingUser()
  if (scenario === 'auth/client-credentials-basic') {
    return new ClientCredentialsProvider({ clientId: client_id, clientSecret: client_secret })
  }
  return new ApprovingUser({ client_id, client_secret })
}

/** One connection to the server, and the user who logs in for it. */
class Visit {
  readonly #serverUrl: URL
  readonly #era: 'legacy' | { readonly pin: string }
  readonly #provider: OAuthClientProvider
  #client: Client | undefined
  #transport: StreamableHTTPClientTransport | undefined

  constructor(serverUrl: string, version: string, provider: OAuthClientProvider) {
    this.#serverUrl = new URL(serverUrl)
    this.#era = version === '2026-07-28' ? { pin: version } : 'legacy'
    this.#provider = provider
  }

  async #connected(): Promise<Client> {
    if (this.#client) return this.#client
    const client = new Client(
      { name: 'mcp-vitals-test', version: '1.0.0' },
      { capabilities: { elicitation: { form: { applyDefaults: true } } }, versionNegotiation: { mode: this.#era } },
    )
    client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: {} }))
    this.#transport = new StreamableHTTPClientTransport(this.#serverUrl, { authProvider: this.#provider })
    await client.connect(this.#transport)
    this.#client = client
    return client
  }

  /** Does something with the server, logging in as often as it asks for that, within reason. */
  async use<T>(work: (client: Client) => Promise<T>): Promise<T> {
    for (let logins = 0; ; logins++) {
      try {
        return await work(await this.#connected())
      } catch (error) {
        const provider = this.#provider
        const canLogIn = error instanceof UnauthorizedError && provider instanceof ApprovingUser && logins < maxLogins
        if (!canLogIn) throw error
        await this.#transport?.finishAuth(provider.returned)
      }
    }
  }

  async close(): Promise<void> {
    await this.#client?.close()
  }
}

/** Lists everything, calls every tool, and reads and gets the first of each kind; fails with the first failure. */
async function useAll(visit: Visit, { toolCalls }: Context): Promise<void> {
  const { tools } = await visit.use((client) => client.listTools())
  const calls = toolCalls ?? tools.map(({ name, inputSchema }) => ({ name, arguments: sampleOf(inputSchema) }))
  const { resources, prompts } = await visit.use((client) => Promise.resolve(client.getServerCapabilities() ?? {}))
  const work: ((client: Client) => Promise<unknown>)[] = calls.map((call) => (client) => client.callTool(call))
  if (resources) {
    const [first] = (await visit.use((client) => client.listResources())).resources
    if (first) work.push((client) => client.readResource({ uri: first.uri }))
  }
  if (prompts) {
    const [first] = (await visit.use((client) => client.listPrompts())).prompts
    if (first) work.push((client) => client.getPrompt({ name: first.name }))
  }
  const failures: Error[] = []
  for (const one of work) {
    await visit.use(one).catch((error: unknown) => failures.push(new Error(errorMessage(error), { cause: error })))
  }
  await visit.close()
  const [failure] = failures
  if (failure) throw failure
}

const sampleSchema = z.looseObject({
  properties: z.record(z.string(), z.looseObject({ type: z.unknown().optional() })).optional(),
})

/** Arguments that fit a simple input schema. */
function sampleOf(inputSchema: unknown): Record<string, unknown> {
  const samples: Readonly<Record<string, unknown>> = { number: 5, integer: 5, boolean: true, array: [], object: {} }
  const { properties = {} } = sampleSchema.parse(inputSchema)
  return Object.fromEntries(Object.entries(properties).map(([name, { type }]) => [name, samples[String(type)] ?? 'x']))
}

async function main(): Promise<void> {
  const serverUrl = process.argv[2] ?? ''
  const { MCP_CONFORMANCE_SCENARIO: scenario = '', MCP_CONFORMANCE_PROTOCOL_VERSION: version = '' } = process.env
  const context = contextSchema.parse(JSON.parse(process.env['MCP_CONFORMANCE_CONTEXT'] ?? '{}'))
  const provider = providerOf(scenario, context)
  if (process.env['THROUGH_VITALS'] === undefined) return useAll(new Visit(serverUrl, version, provider), context)
  const listen = `127.0.0.1:${await freePort()}`
  const vitals = await startVitals({
    config: {
      listen,
      public_url: `http://${listen}`,
      mcpServers: { suite: { url: serverUrl, heartbeat: { probe: 'off' } } },
    },
  })
  try {
    await useAll(new Visit(`${vitals.dataUrl}/suite/mcp`, version, provider), context)
  } finally {
    await vitals.stop()
  }
}

try {
  await main()
  process.exit(0)
} catch (error) {
  console.error(error)
  process.exit(1)
}

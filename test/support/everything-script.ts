/** What official clients do with server-everything, and what came of it, to compare one way to it with another. */
import { expect } from 'vitest'
import { eventually } from './eventually.ts'
import type { UniformClient } from './uniform-client.ts'

/** A promise's value, or the JSON-RPC error that it rejected with. */
export async function outcome(promise: Promise<unknown>): Promise<unknown> {
  try {
    return await promise
  } catch (error) {
    if (error instanceof Error && 'code' in error) return { code: error.code, message: error.message }
    throw error
  }
}

/** What differs between two runs although nothing is different: session ids and times of day. */
export function comparable(value: unknown): unknown {
  const text = JSON.stringify(value)
    .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<session>')
    .replaceAll(/\d{1,2}:\d{2}:\d{2}\s[AP]M/g, '<time>')
  return JSON.parse(text)
}

async function isHeard(client: UniformClient, beginning: string): Promise<true> {
  return eventually(() => client.heard().some((line) => line.startsWith(beginning)), {
    what: `"${beginning}" is heard`,
  })
}

const textUri = 'demo://resource/dynamic/text/1'

/** Everything that server-everything offers to a client of the legacy era. */
export async function legacyScript(client: UniformClient) {
  // The server tells the log on the stream that the client opens by the way, so the first lines may come too early.
  await client.setLoggingLevel('debug')
  await eventually(
    async () => {
      await client.subscribe(textUri)
      return client.heard().some((line) => line.startsWith('log info Received Subscribe'))
    },
    { what: 'a log message arrives' },
  )
  const transcript = {
    server: client.server(),
    tools: await client.listTools(),
    echo: await client.callTool('echo', { message: 'grüße \u{1F9EA} <&>"\\' }),
    structured: await client.callTool('get-structured-content', { location: 'Chicago' }),
    image: await client.callTool('get-tiny-image'),
    progress: await client.callTool('trigger-long-running-operation', { duration: 0.25, steps: 5 }),
    wrongArguments: await outcome(client.callTool('get-sum', { a: 'no number' })),
    unknownTool: await outcome(client.callTool('no-such-tool')),
    sampling: await client.callTool('trigger-sampling-request', { prompt: 'say something', maxTokens: 10 }),
    elicitation: await client.callTool('trigger-elicitation-request'),
    roots: await client.callTool('get-roots-list'),
    resources: await client.listResources(),
    templates: await client.listResourceTemplates(),
    resource: await client.readResource(textUri),
    unknownResource: await outcome(client.readResource('demo://no/such/resource')),
    prompts: await client.listPrompts(),
    prompt: await client.getPrompt('args-prompt', { city: 'Chicago', state: 'Illinois' }),
    completion: await client.complete('completable-prompt', { name: 'department', value: 'E' }),
    updates: await client.callTool('toggle-subscriber-updates'),
  }
  await isHeard(client, `updated ${textUri}`)
  await isHeard(client, 'log info Roots updated')
  await client.callTool('toggle-subscriber-updates')
  return { ...transcript, heard: [...new Set(client.heard())].toSorted() }
}

/** Runs a script with a client and closes it. */
export async function transcriptOf<T>(
  connected: Promise<UniformClient>,
  script: (client: UniformClient) => Promise<T>,
) {
  const client = await connected
  try {
    return await script(client)
  } finally {
    await client.close()
  }
}

type Transcript = Awaited<ReturnType<typeof legacyScript>>

/** What the server really did, so that two equal failures do not pass. */
export function expectSuccess(transcript: Transcript): void {
  expect(transcript.progress.progress).toBe(5)
  expect(transcript.wrongArguments).toMatchObject({ result: { isError: true } })
  expect(JSON.stringify(transcript.sampling.result)).toContain('a sampled answer')
  expect(JSON.stringify(transcript.elicitation.result)).toContain('Ada')
  expect(JSON.stringify(transcript.roots.result)).toContain('file:///srv/data')
  expect(transcript.unknownResource).toMatchObject({ code: expect.any(Number) })
  expect(transcript.completion).toMatchObject({ completion: { values: ['Engineering'] } })
}

/** The tools, resources and prompts that the official conformance suite asks for in both eras. */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  completable,
  fromJsonSchema,
  ResourceTemplate,
  type CallToolResult,
  type McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { z } from 'zod'

const redPixelPng = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=='
/** 44 bytes of header and no samples. */
const emptyWav = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA='

const image = { type: 'image', data: redPixelPng, mimeType: 'image/png' } as const

/** A tool's answer that is one piece of text. */
export const textResult = (text: string): CallToolResult => ({ content: [{ type: 'text', text }] })

/** Registers everything that behaves alike in both eras. */
export function registerCatalog(server: McpServer): void {
  registerContentTools(server)
  registerProgressTool(server)
  registerSchemaTools(server)
  registerResources(server)
  registerPrompts(server)
}

function registerContentTools(server: McpServer): void {
  const contents: Readonly<Record<string, CallToolResult['content']>> = {
    test_simple_text: [{ type: 'text', text: 'This is a simple text response for testing.' }],
    test_image_content: [image],
    test_audio_content: [{ type: 'audio', data: emptyWav, mimeType: 'audio/wav' }],
    test_embedded_resource: [embedded('test://embedded-resource', 'This is an embedded resource content.')],
    test_multiple_content_types: [
      { type: 'text', text: 'Multiple content types test:' },
      image,
      embedded('test://mixed-content-resource', JSON.stringify({ test: 'data', value: 123 }), 'application/json'),
    ],
  }
  for (const [name, content] of Object.entries(contents)) {
    server.registerTool(name, { description: `Answers with fixed content (${name}).` }, () => ({ content }))
  }
  server.registerTool('test_error_handling', { description: 'Always fails.' }, () => {
    throw new Error('This tool intentionally returns an error for testing')
  })
}

function embedded(uri: string, text: string, mimeType = 'text/plain') {
  return { type: 'resource', resource: { uri, mimeType, text } } as const
}

function registerProgressTool(server: McpServer): void {
  server.registerTool('test_tool_with_progress', { description: 'Reports 0, 50 and 100 of 100.' }, async (ctx) => {
    for (const progress of [0, 50, 100]) {
      if (progress > 0) await sleep(50)
      await reportProgress(ctx, progress)
    }
    return textResult('Progress tool finished')
  })
}

async function reportProgress({ mcpReq }: ServerContext, progress: number): Promise<void> {
  const progressToken = mcpReq._meta?.progressToken
  if (progressToken === undefined) return
  await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } })
}

/** The keywords of JSON Schema 2020-12 that must reach the client unchanged (SEP-1613, SEP-2106). */
const schema2020 = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema, not a promise.
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
}

function registerSchemaTools(server: McpServer): void {
  const description = 'Carries JSON Schema 2020-12 keywords.'
  const inputSchema = fromJsonSchema(schema2020)
  server.registerTool('json_schema_2020_12_tool', { description, inputSchema }, () => textResult('valid'))

  // SEP-2243: `region` travels in the header Mcp-Param-Region as well.
  const properties = { region: { type: 'string', 'x-mcp-header': 'Region' }, query: { type: 'string' } }
  server.registerTool(
    'test_custom_header',
    {
      description: 'Mirrors one argument in a header.',
      inputSchema: fromJsonSchema({ type: 'object', properties, required: ['region'] }),
    },
    () => textResult('header and body agree'),
  )
}

function registerResources(server: McpServer): void {
  const plain = (description: string) => ({ description, mimeType: 'text/plain' })
  server.registerResource('static-text', 'test://static-text', plain('Fixed text.'), (uri) => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'This is the content of the static text resource.' }],
  }))
  const png = { description: 'A red pixel.', mimeType: 'image/png' }
  server.registerResource('static-binary', 'test://static-binary', png, (uri) => ({
    contents: [{ uri: uri.href, mimeType: 'image/png', blob: redPixelPng }],
  }))
  server.registerResource('watched', 'test://watched-resource', plain('Can be subscribed to.'), (uri) => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'Watched resource content' }],
  }))
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined })
  const json = { description: 'Substitutes its id.', mimeType: 'application/json' }
  server.registerResource('template', template, json, (uri, { id }) => {
    const text = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${String(id)}` })
    return { contents: [{ uri: uri.href, mimeType: 'application/json', text }] }
  })
}

function registerPrompts(server: McpServer): void {
  const say = (text: string) => ({ role: 'user', content: { type: 'text', text } }) as const
  server.registerPrompt('test_simple_prompt', { description: 'Fixed text.' }, () => ({
    messages: [say('This is a simple prompt for testing.')],
  }))
  const argsSchema = z.object({
    arg1: completable(z.string().describe('First test argument'), (value) =>
      ['paris', 'park', 'party'].filter((word) => word.startsWith(value)),
    ),
    arg2: z.string().describe('Second test argument'),
  })
  const withArguments = { description: 'Repeats its arguments.', argsSchema }
  server.registerPrompt('test_prompt_with_arguments', withArguments, ({ arg1, arg2 }) => ({
    messages: [say(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)],
  }))
  const withResource = {
    description: 'Embeds a resource.',
    argsSchema: z.object({ resourceUri: z.string().describe('The resource to embed') }),
  }
  server.registerPrompt('test_prompt_with_embedded_resource', withResource, ({ resourceUri }) => ({
    messages: [
      { role: 'user', content: embedded(resourceUri, 'Embedded resource content for testing.') },
      say('Please process the embedded resource above.'),
    ],
  }))
  server.registerPrompt('test_prompt_with_image', { description: 'Shows a pixel.' }, () => ({
    messages: [{ role: 'user', content: image }, say('Please analyze the image above.')],
  }))
}

/** What the conformance suite asks for in the legacy era only: logs, requests to the client, subscriptions, polling. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ElicitRequestFormParams, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { textResult } from './everything-catalog.ts'

type FormSchema = ElicitRequestFormParams['requestedSchema']

/** Registers the legacy-only part of the fixture. */
export function registerLegacy(server: McpServer): void {
  registerLogging(server)
  registerSampling(server)
  registerElicitation(server)
  registerPolling(server)
  // The suite only looks at the answer; nothing ever changes behind the URI.
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
}

function registerLogging(server: McpServer): void {
  server.registerTool('test_tool_with_logging', { description: 'Logs three lines while it works.' }, async (ctx) => {
    await ctx.mcpReq.log('info', 'Tool execution started')
    await sleep(50)
    await ctx.mcpReq.log('info', 'Tool processing data')
    await sleep(50)
    await ctx.mcpReq.log('info', 'Tool execution completed')
    return textResult('Tool with logging executed')
  })
}

function registerSampling(server: McpServer): void {
  const inputSchema = z.object({ prompt: z.string().describe('The prompt to send to the LLM') })
  server.registerTool(
    'test_sampling',
    { description: 'Asks the client for a completion.', inputSchema },
    async ({ prompt }, ctx) => {
      const messages = [{ role: 'user' as const, content: { type: 'text' as const, text: prompt } }]
      const { content } = await ctx.mcpReq.requestSampling({ messages, maxTokens: 100 })
      return textResult(`LLM response: ${'text' in content ? content.text : JSON.stringify(content)}`)
    },
  )
}

const twoStrings: FormSchema = {
  type: 'object',
  properties: {
    username: { type: 'string', description: "User's response" },
    email: { type: 'string', description: "User's email address" },
  },
  required: ['username', 'email'],
}

/** SEP-1034: a default for each primitive type. */
const defaults: FormSchema = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
  required: [],
}

const titled = (...pairs: [value: string, title: string][]) => pairs.map(([value, title]) => ({ const: value, title }))

/** SEP-1330: the five ways to write an enum. */
const enums: FormSchema = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: {
      type: 'string',
      oneOf: titled(['value1', 'First Option'], ['value2', 'Second Option'], ['value3', 'Third Option']),
    },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three'],
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: {
      type: 'array',
      items: { anyOf: titled(['value1', 'First Choice'], ['value2', 'Second Choice'], ['value3', 'Third Choice']) },
    },
  },
  required: [],
}

function registerElicitation(server: McpServer): void {
  const inputSchema = z.object({ message: z.string().describe('The message to show the user') })
  server.registerTool(
    'test_elicitation',
    { description: 'Asks the user for two strings.', inputSchema },
    async ({ message }, ctx) => {
      const answer = await ctx.mcpReq.elicitInput({ message, requestedSchema: twoStrings })
      return textResult(`User response: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`)
    },
  )
  const forms = { test_elicitation_sep1034_defaults: defaults, test_elicitation_sep1330_enums: enums }
  for (const [name, requestedSchema] of Object.entries(forms)) {
    server.registerTool(name, { description: 'Asks the user to fill in a form.' }, async (ctx) => {
      const answer = await ctx.mcpReq.elicitInput({ message: 'Please fill in the form', requestedSchema })
      return textResult(
        `Elicitation completed: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`,
      )
    })
  }
}

/** SEP-1699: ends the answer's stream before the answer; the client comes back with Last-Event-ID. */
function registerPolling(server: McpServer): void {
  server.registerTool('test_reconnection', { description: 'Ends the stream in mid-call.' }, async (ctx) => {
    ctx.http?.closeSSE?.()
    await sleep(100)
    return textResult('Reconnection test completed')
  })
}

/** What the conformance suite asks for in the modern era only: input_required results, declared capabilities, changes. */
import {
  acceptedContent,
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  inputRequired,
  inputResponse,
  type InputRequest,
  type McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { z } from 'zod'
import { textResult } from './everything-catalog.ts'

/** Signs `requestState`; one process serves every round, so a fixed key does (2026-07-28, MRTR, server requirement 4). */
export const stateCodec = createRequestStateCodec<{ readonly round: number }>({
  key: 'a fixture key of more than thirty-two bytes',
})

/** Called by the tools that change what the lists hold. */
export interface ChangeSwitches {
  toggleTool(): void
  togglePrompt(): void
}

/** Registers the modern-only part of the fixture. */
export function registerModern(server: McpServer, changes: ChangeSwitches): void {
  registerCapabilityTools(server)
  registerSingleInputs(server)
  registerStatefulInputs(server)
  registerInputPrompt(server)
  registerChanges(server, changes)
}

const declaredSchema = z.object({
  [CLIENT_CAPABILITIES_META_KEY]: z.looseObject({ sampling: z.unknown(), elicitation: z.unknown() }).partial(),
})

/** The capabilities that this one request declares; the SDK's type of the envelope has no keys. */
function declared(ctx: ServerContext): { readonly sampling?: unknown; readonly elicitation?: unknown } {
  return declaredSchema.safeParse(ctx.mcpReq.envelope).data?.[CLIENT_CAPABILITIES_META_KEY] ?? {}
}

const ask = (message: string, requestedSchema: z.ZodObject): InputRequest =>
  inputRequired.elicit({ message, requestedSchema })

function complete(prompt: string, maxTokens: number): InputRequest {
  return inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
    maxTokens,
  })
}

function registerCapabilityTools(server: McpServer): void {
  // The SDK itself refuses with -32021 when the input that a tool asks for is not declared.
  server.registerTool('test_missing_capability', { description: 'Needs sampling.' }, () =>
    inputRequired({ inputRequests: { completion: complete('Say something', 50) } }),
  )
  server.registerTool('test_logging_tool', { description: 'Logs when the request allows it.' }, async (ctx) => {
    await ctx.mcpReq.log('info', 'a line that only a request with a log level may see')
    return textResult('logged')
  })
  server.registerTool('test_streaming_elicitation', { description: 'Asks, as a result and never as a request.' }, () =>
    inputRequired({ inputRequests: { answer: ask('What do you say?', z.object({ answer: z.string() })) } }),
  )
  server.registerTool(
    'test_input_required_result_capabilities',
    { description: 'Asks only for what is declared.' },
    (ctx) => {
      const inputRequests: Record<string, InputRequest> = {}
      if (declared(ctx).sampling) inputRequests.completion = complete('Say something', 50)
      if (declared(ctx).elicitation) inputRequests.answer = ask('What do you say?', z.object({ answer: z.string() }))
      return Object.keys(inputRequests).length > 0 ? inputRequired({ inputRequests }) : textResult('nothing to ask')
    },
  )
}

function registerSingleInputs(server: McpServer): void {
  server.registerTool('test_input_required_result_elicitation', { description: 'Asks for a name.' }, (ctx) => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_name', z.object({ name: z.string() }))
    if (answer) return textResult(`Hello, ${answer.name}!`)
    return inputRequired({ inputRequests: { user_name: ask('What is your name?', z.object({ name: z.string() })) } })
  })
  server.registerTool('test_input_required_result_sampling', { description: 'Asks for a completion.' }, (ctx) => {
    const answer = inputResponse(ctx.mcpReq.inputResponses, 'capital_question')
    if (answer.kind === 'sampling') return textResult(JSON.stringify(answer.result.content))
    return inputRequired({ inputRequests: { capital_question: complete('What is the capital of France?', 100) } })
  })
  server.registerTool('test_input_required_result_list_roots', { description: 'Asks for the roots.' }, (ctx) => {
    const answer = inputResponse(ctx.mcpReq.inputResponses, 'client_roots')
    if (answer.kind === 'roots') return textResult(`roots: ${answer.roots.map(({ uri }) => uri).join(' ')}`)
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
  })
}

function registerStatefulInputs(server: McpServer): void {
  for (const name of ['test_input_required_result_request_state', 'test_input_required_result_tampered_state']) {
    server.registerTool(name, { description: 'Asks once and checks its own state.' }, async (ctx) => {
      const confirmed = acceptedContent(ctx.mcpReq.inputResponses, 'confirm')
      if (confirmed && roundOf(ctx) === 1) return textResult('state-ok')
      const requestState = await stateCodec.mint({ round: 1 })
      return inputRequired({
        inputRequests: { confirm: ask('Please confirm', z.object({ ok: z.boolean() })) },
        requestState,
      })
    })
  }
  server.registerTool('test_input_required_result_multiple_inputs', { description: 'Asks for three.' }, async (ctx) => {
    const inputRequests = {
      user_name: ask('What is your name?', z.object({ name: z.string() })),
      greeting: complete('Generate a greeting', 50),
      client_roots: inputRequired.listRoots(),
    }
    const missing = Object.keys(inputRequests).filter(
      (key) => inputResponse(ctx.mcpReq.inputResponses, key).kind === 'missing',
    )
    if (missing.length === 0) return textResult('all three answers arrived')
    return inputRequired({ inputRequests, requestState: await stateCodec.mint({ round: 1 }) })
  })
  server.registerTool('test_input_required_result_multi_round', { description: 'Asks twice.' }, async (ctx) => {
    const answered = (key: string) => inputResponse(ctx.mcpReq.inputResponses, key).kind === 'elicit'
    if (roundOf(ctx) === 2 && answered('step2')) return textResult('both steps are done')
    const next = roundOf(ctx) === 1 && answered('step1') ? 2 : 1
    const inputRequests: Record<string, InputRequest> =
      next === 1
        ? { step1: ask('Step 1: What is your name?', z.object({ name: z.string() })) }
        : { step2: ask('Step 2: What is your favorite color?', z.object({ color: z.string() })) }
    return inputRequired({ inputRequests, requestState: await stateCodec.mint({ round: next }) })
  })
}

const roundOf = (ctx: ServerContext) => ctx.mcpReq.requestState<{ readonly round: number }>()?.round

function registerInputPrompt(server: McpServer): void {
  const description = 'Asks for its context.'
  server.registerPrompt('test_input_required_result_prompt', { description }, (ctx) => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_context', z.object({ context: z.string() }))
    if (!answer) {
      const user_context = ask('What context should the prompt use?', z.object({ context: z.string() }))
      return inputRequired({ inputRequests: { user_context } })
    }
    const content = { type: 'text' as const, text: `Use this context: ${answer.context}` }
    return { messages: [{ role: 'user', content }] }
  })
}

function registerChanges(server: McpServer, changes: ChangeSwitches): void {
  server.registerTool('test_trigger_tool_change', { description: 'Adds or removes a tool.' }, () => {
    changes.toggleTool()
    return textResult('the tool list has changed')
  })
  server.registerTool('test_trigger_prompt_change', { description: 'Adds or removes a prompt.' }, () => {
    changes.togglePrompt()
    return textResult('the prompt list has changed')
  })
}

import type { Envelope } from '../wire/envelope.ts'
import { memberOf } from '../wire/lists.ts'
import { type ParamHeader, paramHeadersFor, paramHeadersOf, paramMismatch } from '../wire/param-headers.ts'

/** Of how many tools it is remembered; the one that was listed longest ago is forgotten for another. */
const maxTools = 1000

/** Which arguments of a server's tools headers have to repeat, as the lists of tools said that passed. */
export class ToolHeaders {
  readonly #declared = new Map<string, readonly ParamHeader[]>()
  readonly #onForgotten: () => void

  constructor(onForgotten: () => void = () => undefined) {
    this.#onForgotten = onForgotten
  }

  /** Takes the entries of a list, or of a page of it. */
  learn(tools: readonly unknown[]): void {
    for (const tool of tools) {
      const name = memberOf(tool, 'name')
      if (typeof name !== 'string') continue
      this.#declared.delete(name)
      const declared = paramHeadersOf(memberOf(tool, 'inputSchema'))
      if (declared.length > 0) this.#declared.set(name, declared)
    }
    for (const name of this.#declared.keys()) {
      if (this.#declared.size <= maxTools) return
      this.#declared.delete(name)
      this.#onForgotten()
    }
  }

  /** The headers that a call has to bring over HTTP, name and value alternating. */
  headersFor(call: Buffer, envelope: Envelope): string[] {
    const declared = this.#declaredFor(envelope)
    return declared ? paramHeadersFor(declared, argumentsIn(call)) : []
  }

  /** How the headers of a call disagree with its arguments, in words; undefined when they repeat them. */
  mismatch(call: Buffer, envelope: Envelope, header: (name: string) => string | undefined): string | undefined {
    const declared = this.#declaredFor(envelope)
    return declared && paramMismatch(declared, argumentsIn(call), header)
  }

  #declaredFor({ kind, method, name, metaProtocolVersion }: Envelope): readonly ParamHeader[] | undefined {
    const isCall = kind === 'request' && method === 'tools/call' && metaProtocolVersion !== undefined
    return isCall && name !== undefined ? this.#declared.get(name) : undefined
  }
}

function argumentsIn(call: Buffer): unknown {
  try {
    return memberOf(memberOf(JSON.parse(call.toString()), 'params'), 'arguments')
  } catch {
    return undefined // For the server to refuse.
  }
}

import { z } from 'zod'

/** One alert of Alertmanager's webhook, as far as it concerns us. */
export interface ReceivedAlert {
  readonly status: 'firing' | 'resolved'
  readonly labels: Readonly<Record<string, string>>
  /** RFC 3339; with the fingerprint it names one occurrence of one alert. */
  readonly startsAt: string
  readonly fingerprint: string
}

/** Alertmanager's webhook payload, version 4. Keys that we do not need may be there, be missing, or be new. */
const payloadSchema = z.object({
  version: z.literal('4'),
  alerts: z.array(
    z.object({
      status: z.enum(['firing', 'resolved']),
      labels: z.record(z.string(), z.string()),
      startsAt: z.iso.datetime({ offset: true }),
      fingerprint: z.string().min(1).max(128),
    }),
  ),
})

export type Received =
  | { readonly kind: 'alerts'; readonly alerts: readonly ReceivedAlert[] }
  /** What is wrong, with the value and the rule. */
  | { readonly kind: 'invalid'; readonly problem: string }

/** Reads the body of a webhook. */
export function receivedAlerts(text: string): Received {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return { kind: 'invalid', problem: `the body is no JSON: ${why}` }
  }
  const parsed = payloadSchema.safeParse(value)
  if (parsed.success) return { kind: 'alerts', alerts: parsed.data.alerts }
  const [issue] = parsed.error.issues
  if (!issue) return { kind: 'invalid', problem: 'the body is not that of a webhook of Alertmanager' }
  return { kind: 'invalid', problem: `${pathText(issue.path)}: ${shown(valueAt(value, issue.path))} ${ruleOf(issue)}` }
}

function ruleOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') return `is not ${kindNames[issue.expected] ?? issue.expected}`
  if (issue.code === 'invalid_value') {
    return `is not one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`
  }
  if (issue.code === 'invalid_format') return 'is not a time as in RFC 3339'
  if (issue.code === 'too_small') return 'is empty'
  return issue.code === 'too_big' ? `has more than ${issue.maximum} characters` : issue.message
}

const kindNames: Readonly<Record<string, string>> = {
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
  string: 'a text',
}

/** `alerts[0].labels.severity` */
function pathText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the body'
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '')
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (isMapping(at) ? at[key] : undefined), value)
}

function isMapping(value: unknown): value is Readonly<Record<PropertyKey, unknown>> {
  return typeof value === 'object' && value !== null
}

const maxShown = 80

function shown(value: unknown): string {
  if (value === undefined) return 'a missing value'
  const text = JSON.stringify(value)
  return text.length > maxShown ? `${text.slice(0, maxShown)}…` : text
}

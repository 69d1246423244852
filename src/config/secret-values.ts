import { shortestSecret } from '../redaction.ts'
import type { Command, UrlTarget } from '../upstreams/upstream.ts'
import type { Config, ReceiverConfig } from './config.ts'

/** Variables that are secret by their name; servers inherit our environment, so they know ours too. */
const secretName = /token|secret|passw|api_?key|private_?key|credential|authorization|otlp.*headers/i

/**
 * What a configuration and the environment hold that no output may show: tokens, keys, headers and variables of
 * servers, and of arguments and URLs what looks like one. Paths are no secrets, and are what errors are about.
 */
export function secretValues(config: Config, env: Readonly<Record<string, string | undefined>>): string[] {
  const named = Object.entries(env).flatMap(([name, value]) => (secretName.test(name) && value ? [value] : []))
  const ofTargets = config.upstreams.flatMap(({ target }) => [
    ...(target.launch ? secretsOfCommand(target.launch) : []),
    ...(target.transport === 'stdio' ? [] : secretsOfUrlTarget(target)),
  ])
  const { alertmanager, webhook, receive } = config.alerts
  const bearers = [config.auth.bearerToken, config.adminAuth.bearerToken, receive?.bearerToken]
  const tokens = bearers.filter((token) => token !== undefined)
  const ofReceivers = [
    ...(alertmanager ? secretsOfReceiver(alertmanager) : []),
    ...(webhook ? secretsOfWebhook(webhook) : []),
  ]
  return [...named, ...tokens, ...ofReceivers, ...ofTargets].filter(
    (value) => value.length >= shortestSecret && !isPath(value),
  )
}

function secretsOfCommand({ args, env }: Command): string[] {
  const ofArguments = args.flatMap((arg) => {
    if (URL.canParse(arg) && /^\w+:\/\//.test(arg)) return secretsOfUrl(new URL(arg))
    const value = /^--?[\w-]+=(.*)$/s.exec(arg)?.[1] ?? arg
    return value.startsWith('-') || !looksSecret(value) ? [] : [value]
  })
  return [...ofArguments, ...Object.values(env).flatMap(secretsOfText)]
}

function secretsOfUrlTarget({ url, headers, credentials }: UrlTarget): string[] {
  // Of `Bearer abc` the token alone may turn up, too.
  const ofHeaders = Object.values(headers).flatMap((value) => [value, ...value.split(' ').slice(1)])
  const ofUrl = secretsOfUrl(url)
  if (!credentials) return [...ofHeaders, ...ofUrl]
  if (credentials.kind === 'bearer_file') return [...ofHeaders, ...ofUrl, credentials.token]
  return [...ofHeaders, ...ofUrl, ...(credentials.proof.kind === 'secret' ? [credentials.proof.secret] : [])]
}

function secretsOfReceiver({ url, bearerToken }: ReceiverConfig): string[] {
  return [...secretsOfUrl(new URL(url)), ...(bearerToken === undefined ? [] : [bearerToken])]
}

/** Chat services know their callers by the path of a webhook alone. */
function secretsOfWebhook(webhook: ReceiverConfig): string[] {
  return [...secretsOfReceiver(webhook), ...new URL(webhook.url).pathname.split('/').filter(looksSecret)]
}

/** A variable may hold a URL with a password in it, which is then secret in part, too. */
function secretsOfText(text: string): string[] {
  return URL.canParse(text) && /^\w+:\/\//.test(text) ? [text, ...secretsOfUrl(new URL(text))] : [text]
}

function secretsOfUrl({ username, password, search, searchParams }: URL): string[] {
  return [username, password, search.slice(1), ...searchParams.values()].filter((part) => part !== '')
}

/** Keys and tokens have digits in them; package names, modes and flags mostly have not. */
function looksSecret(value: string): boolean {
  return /\d/.test(value) && !value.includes('/') && !/\s/.test(value)
}

function isPath(value: string): boolean {
  return /^(~|\.{0,2})(\/[\w.@ -]+){2,}\/?$/.test(value)
}

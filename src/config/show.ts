import type { Path, Tree } from './tree.ts'

const secret = '<secret>'
const secretKeys = new Set(['env', 'headers', 'args'])
const secretFiles = new Set(['bearer_file', 'client_secret_file', 'private_key_file'])
const urlKeys = new Set(['url', 'httpUrl', 'serverUrl', 'public_url', 'external_url', 'runbook_url', 'issuer'])

/**
 * How a value appears in a message. Environment, headers, arguments and what was read from a variable are never shown,
 * nor is a text where a mapping or list belongs: it may be a token in the wrong place.
 */
export function showValue(value: Tree | undefined, path: Path, expected = ''): string {
  if (!value || value.kind !== 'leaf') return kindOf(value)
  if (value.value === null) return 'an empty value'
  if (path.some((key) => secretKeys.has(String(key))) || path.some((key) => secretFiles.has(String(key)))) return secret
  if (value.variables.length > 0) return `the value of ${value.variables.map((name) => `\${${name}}`).join(' and ')}`
  if (expected === 'object' || expected === 'record' || expected === 'array') return kindOf(value)
  if (typeof value.value !== 'string') return value.written
  return JSON.stringify(urlKeys.has(String(path.at(-1))) ? showUrl(value.value) : value.value)
}

/** An address without what may be secret in it: user and password, query, fragment, and long parts of the path. */
export function showUrl(text: string): string {
  const [address = ''] = text.split(/[?#]/, 1)
  const hidden = text.slice(address.length)
  // With both, either may belong to a password: nothing is safe to show.
  if (hidden !== '' && text.includes('@')) return secret
  const host = address.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/i, `$1${secret}@`)
  // A long part of the path with digits in it is an identifier, and some servers take one for a password.
  const shown = host.replaceAll(/(?<=[^/:]\/)(?=[^/]*\d)[^/]{20,}/g, secret)
  return hidden === '' ? shown : `${shown}${hidden.charAt(0)}${secret}`
}

function kindOf(value: Tree | undefined): string {
  if (!value) return 'a missing value'
  if (value.kind === 'leaf') return typeof value.value === 'string' ? 'a text' : `a ${typeof value.value}`
  return value.kind === 'list' ? 'a list' : 'a mapping'
}

/** Gives a text back with `<secret>` in place of every secret in it. */
export type Redact = (text: string) => string

/** What is shown of a secret. */
export const hidden = '<secret>'

/** Shorter than this, a value is a word like any other, and to hide it would blot out half of a text. */
export const shortestSecret = 8

/** Credentials in a form that gives them away, whoever's they are: RFC 9110 §11.6.2, RFC 3986 §3.2.1, RFC 7519. */
const givenAway: readonly (readonly [RegExp, string])[] = [
  [/\b(Bearer|Basic)\s+[\w.~+/-]{8,}=*/gi, `$1 ${hidden}`],
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/?#@"'<>]+@/gi, `$1${hidden}@`],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, hidden],
]

/**
 * Hides these secrets in what others write: a server's stderr, the messages of its errors. They are found as they are
 * and as they look in a URL or in JSON, but not when a server cuts or encodes them in another way.
 */
export function redaction(secrets: Iterable<string>): Redact {
  const forms = [...secrets]
    .filter((secret) => secret.length >= shortestSecret)
    .flatMap((secret) => [secret, encodeURIComponent(secret.toWellFormed()), JSON.stringify(secret).slice(1, -1)])
  // The longest first, or a secret that begins another would leave the rest of that one to be seen.
  const longestFirst = [...new Set(forms)].toSorted((one, other) => other.length - one.length)
  const literals = longestFirst.map((form) => form.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'))
  const anyKnown = literals.length === 0 ? undefined : new RegExp(literals.join('|'), 'g')
  return (text) => {
    let shown = anyKnown ? text.replace(anyKnown, hidden) : text
    for (const [pattern, replacement] of givenAway) shown = shown.replace(pattern, replacement)
    return shown
  }
}

/** A URL without the parts that may be secret: user and password, query and fragment. */
export function bareUrl(url: string): string {
  return url.replace(/^([^/?#]*:\/\/)[^/?#]*@/, `$1${hidden}@`).replace(/([?#]).*$/s, `$1${hidden}`)
}

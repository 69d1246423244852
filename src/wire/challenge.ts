/**
 * Either a quoted string, which is passed over, or the parameter with its value as group 1 (quoted) or 2 (a token):
 * `resource_metadata` of RFC 9728 §5.1, in the grammar of RFC 9110 §11.2.
 */
const metadataParameter = /"(?:[^"\\]|\\.)*"|(?<![^\s,])resource_metadata\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/gi

/**
 * A `WWW-Authenticate` value in which `replace` gives the `resource_metadata` URL another form; what it returns
 * undefined for, and every other character, stays.
 */
export function withResourceMetadata(challenge: string, replace: (url: URL) => URL | undefined): string {
  return challenge.replace(metadataParameter, (whole: string, quoted?: string, bare?: string) => {
    const written = quoted?.replace(/\\(.)/g, '$1') ?? bare
    if (written === undefined || !URL.canParse(written)) return whole
    const url = replace(new URL(written))
    return url === undefined ? whole : `${whole.slice(0, whole.indexOf('=') + 1)}"${url.href}"`
  })
}

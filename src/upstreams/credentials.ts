/** With what we prove to a server who we are, in place of what a client says. */
export type Credentials = BearerFile | ClientCredentials

/** A token that somebody else writes into a file, and may replace there. */
export interface BearerFile {
  readonly kind: 'bearer_file'
  readonly file: string
  /** What it held when it was first read. */
  readonly token: string
}

/** An account of our own at an authorization server (OAuth 2.1, client credentials grant). */
export interface ClientCredentials {
  readonly kind: 'client_credentials'
  readonly clientId: string
  /** The only authorization server that ever gets to see the secret. */
  readonly issuer: string
  readonly scope?: string | undefined
  readonly proof: ClientSecret | PrivateKey
}

export interface ClientSecret {
  readonly kind: 'secret'
  readonly secret: string
}

/** Signs what we say (RFC 7523 §2.2). */
export interface PrivateKey {
  readonly kind: 'private_key'
  /** PKCS #8 in PEM form. */
  readonly pem: string
  readonly algorithm: SigningAlgorithm
}

export type SigningAlgorithm = 'RS256' | 'ES256' | 'ES384' | 'ES512'

/** What goes behind `Bearer` is one word of these (RFC 6750 §2.1), or it would not go into a header. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text)
}

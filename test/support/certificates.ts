import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Certificate {
  readonly cert: string
  readonly key: string
}

/** Whether certificates can be made here. */
export function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** A certificate authority of a test's own, made by the openssl command; `close` deletes its files. */
export function certificateAuthority() {
  const folder = mkdtempSync(join(tmpdir(), 'vitals-ca-'))
  const file = (name: string) => join(folder, name)
  const read = (name: string) => readFileSync(file(name), 'utf8')
  const openssl = (...args: string[]) => void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', '/CN=test CA', '-keyout', 'ca.key', '-out', 'ca.pem')
  let made = 0
  return {
    ca: read('ca.pem'),
    /** Signs a certificate for `names`, in openssl's form (`DNS:a.example`); an expired one ended yesterday. */
    issue(names: string, { isExpired = false }: { readonly isExpired?: boolean } = {}): Certificate {
      const name = `leaf${made++}`
      writeFileSync(file(`${name}.ext`), `subjectAltName=${names}\n`)
      openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
      const life = ['-days', isExpired ? '-1' : '2']
      const signing = ['-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', ...life]
      openssl('x509', '-req', ...signing, '-extfile', `${name}.ext`, '-out', `${name}.pem`)
      return { cert: read(`${name}.pem`), key: read(`${name}.key`) }
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  }
}

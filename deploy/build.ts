/**
 * npm run build: the program and the packages that it uses in a few files, dist/cli/main.js being what is run. One by
 * one they would take half a second longer to load, and 17 MiB. `--out-dir` writes somewhere else; more programs may be
 * named, which then share those files.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Plugin, build } from 'rolldown'

const root = join(import.meta.dirname, '..')
const { values, positionals } = parseArgs({
  options: { 'out-dir': { type: 'string', default: join(root, 'dist') } },
  allowPositionals: true,
})
const more = Object.fromEntries(positionals.map((file) => [basename(file, '.ts'), file]))

await build({
  cwd: root,
  // The server of `mcp-vitals selftest` is a program of its own.
  input: { main: 'src/cli/main.ts', 'selftest-server': 'src/cli/selftest-server.ts', ...more },
  platform: 'node',
  plugins: [thirdPartyLicenses(), asciiOnly()],
  output: {
    dir: join(values['out-dir'], 'cli'),
    cleanDir: true,
    format: 'esm',
    // Names in errors stay readable.
    minify: { compress: true, mangle: { keepNames: true } },
    chunkFileNames: '[name]-[hash].js',
  },
})

/** One character beyond Latin-1, and V8 keeps the text of the whole file in two bytes each. */
function asciiOnly(): Plugin {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
  return {
    name: 'ascii-only',
    generateBundle(_options, bundle) {
      for (const part of Object.values(bundle)) {
        if (part.type === 'chunk') part.code = part.code.replaceAll(/[^\0-\x7f]/g, escaped)
      }
    },
  }
}

/** The licences of all packages of which something is in the files, as those licences ask for. */
function thirdPartyLicenses(): Plugin {
  return {
    name: 'third-party-licenses',
    generateBundle(_options, bundle) {
      const modules = Object.values(bundle).flatMap((part) => (part.type === 'chunk' ? Object.keys(part.modules) : []))
      const folders = new Set(modules.flatMap((id) => packageOf(id) ?? []))
      const source = [...folders].toSorted().map(licenseOf).join('\n')
      this.emitFile({ type: 'asset', fileName: 'THIRD-PARTY-LICENSES.txt', source })
    },
  }
}

/** The folder of the package that a module belongs to; undefined for our own. */
function packageOf(module: string): string | undefined {
  if (!module.includes('/node_modules/')) return undefined
  let folder = dirname(module)
  // A package may have package.json files without a name in its folders, for the kind of module.
  while (!isPackage(folder)) folder = dirname(folder)
  return folder
}

function isPackage(folder: string): boolean {
  return existsSync(join(folder, 'package.json')) && manifestOf(folder).version !== undefined
}

function manifestOf(folder: string): { readonly name?: string; readonly version?: string; readonly license?: string } {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as ReturnType<typeof manifestOf>
}

function licenseOf(folder: string): string {
  const { name, version, license } = manifestOf(folder)
  const files = readdirSync(folder).filter((file) => /^(licen[cs]e|notice)/i.test(file))
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim())
  return `${name} ${version} (${license})\n\n${texts.join('\n\n')}\n\n${'-'.repeat(80)}\n`
}

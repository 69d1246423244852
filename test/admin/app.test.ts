import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { type AdminOptions, adminApp } from '../../src/admin/app.ts'
import type { Monitored } from '../../src/heartbeat/monitored.ts'
import { guard } from '../../src/proxy/guard.ts'
import { endpoint } from '../../src/upstreams/endpoint.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { monitoring, shownReport, shownUpstream } from './fixture.ts'

const names = { allowedHosts: ['vitals.example'], allowedOrigins: [] }

/** The admin listener without a socket; `get` asks it as a browser on this machine would. */
function admin(options: Partial<AdminOptions> & { readonly token?: string; readonly alertsToken?: string } = {}) {
  const rejected: string[] = []
  const report = shownReport({ files: shownUpstream(), mail: shownUpstream({ state: 'down', reason: 'refused' }) })
  const unasked = { state: 'unasked', heartbeats: 0, misses: 0, round_trip_ms: null, seconds_ago: null } as const
  const session = {
    transport: 'http' as const,
    protocol_version: null,
    client_name: null,
    client_ip: '127.0.0.1',
    user_agent: '',
    age_seconds: 1,
    idle_seconds: 1,
    pending_messages: 0,
    open_streams: 0,
    messages: 0,
    state: 'unasked' as const,
    heartbeats: { session: unasked, client: unasked },
  }
  const sessions = { aaaaaaaa: { ...session, upstream: 'files' }, bbbbbbbb: { ...session, upstream: 'mail' } }
  const app = adminApp({
    clock: fakeClock(),
    version: '1.2.3',
    guards: {
      open: guard(names),
      closed: guard({ ...names, bearerToken: options.token }),
      alerts: guard({ ...names, bearerToken: options.alertsToken ?? options.token }),
    },
    exposition: {
      scrape: (accept) => Promise.resolve({ contentType: 'text/plain; version=0.0.4', body: `# ${accept ?? 'any'}\n` }),
    },
    upstreams: () => [],
    report: () => Promise.resolve({ ...report, sessions }),
    isReady: () => true,
    onRejected: ({ code }) => rejected.push(code),
    ...options,
  })
  const get = (path: string, headers: Readonly<Record<string, string>> = {}, method = 'GET') =>
    app.request(`http://127.0.0.1:9464${path}`, { method, headers: { host: '127.0.0.1:9464', ...headers } })
  const post = (path: string, body: string, headers: Readonly<Record<string, string>> = {}) =>
    app.request(`http://127.0.0.1:9464${path}`, {
      method: 'POST',
      body,
      headers: { host: '127.0.0.1:9464', ...headers },
    })
  return { get, post, rejected }
}

describe('/-/reload', () => {
  it('answers a POST with what changed', async () => {
    const changes = { added: ['new'], removed: [] }
    const { get } = admin({ reload: () => Promise.resolve({ kind: 'reloaded', changes }) })
    const response = await get('/-/reload', {}, 'POST')
    expect([response.status, await response.json()]).toEqual([200, changes])
  })

  it('answers 500 with every problem when the configuration is refused', async () => {
    const { get } = admin({
      reload: () => Promise.resolve({ kind: 'refused', problem: 'a.yaml:1: one\na.yaml:2: two' }),
    })
    const response = await get('/-/reload', {}, 'POST')
    const body = { error: 'a.yaml:1: one\na.yaml:2: two', reason: 'config_invalid' }
    expect([response.status, await response.json()]).toEqual([500, body])
  })

  it('needs the token, is no page to look at, and is not there where nothing can be reloaded', async () => {
    const reload = () => Promise.reject(new Error('must not happen'))
    expect((await admin({ reload, token: 'secret' }).get('/-/reload', {}, 'POST')).status).toBe(401)
    const looked = await admin({ reload }).get('/-/reload')
    expect([looked.status, looked.headers.get('allow')]).toEqual([405, 'POST'])
    expect((await admin().get('/-/reload', {}, 'POST')).status).toBe(404)
  })
})

describe('/alerts', () => {
  const alert = {
    status: 'firing',
    labels: { alertname: 'McpUpstreamDown', upstream: 'files' },
    startsAt: '2026-11-22T14:11:10Z',
    fingerprint: 'abc',
  }
  const result = { alert: 'McpUpstreamDown', upstream: 'files', action: 'restart', outcome: 'started' } as const

  /** The listener where alerts are wanted, with a token of their own. */
  function receiving() {
    const taken: unknown[] = []
    const { post: send, rejected } = admin({
      token: 'admin-token',
      alertsToken: 'alerts-token',
      alerts: () => (alerts, from) => {
        taken.push(alerts, from)
        return [result]
      },
    })
    const post = (body: string, token = 'alerts-token') =>
      send('/alerts', body, token === '' ? {} : { authorization: `Bearer ${token}` })
    return { post, taken, rejected }
  }

  it('takes alerts with their token, and answers with what became of each', async () => {
    const { post, taken } = receiving()
    const response = await post(JSON.stringify({ version: '4', alerts: [alert] }))
    expect([response.status, await response.json()]).toEqual([200, { results: [result] }])
    expect(taken).toEqual([[alert], 'unknown'])
  })

  it.each(['', 'admin-token', 'alerts-tokem', 'alerts-token2'])(
    'takes nothing with the token %j: 401',
    async (token) => {
      const { post, taken, rejected } = receiving()
      expect((await post(JSON.stringify({ version: '4', alerts: [alert] }), token)).status).toBe(401)
      expect([taken, rejected]).toEqual([[], ['unauthorized']])
    },
  )

  it.each(['/%61lerts', '//alerts', '/alerts/', '/alerts?x', '/x/../alerts'])(
    'is not to be had without that token at %s either',
    async (path) => {
      const taken: unknown[] = []
      const { post } = admin({ alertsToken: 'alerts-token', alerts: () => (alerts) => (taken.push(alerts), []) })
      const response = await post(path, JSON.stringify({ version: '4', alerts: [alert] }))
      expect([401, 404]).toContain(response.status)
      expect(taken).toEqual([])
    },
  )

  it('says what is wrong with a body: 400', async () => {
    const { post, taken } = receiving()
    const response = await post(JSON.stringify({ version: '4', alerts: [{ ...alert, status: 'maybe' }] }))
    expect([response.status, await response.json()]).toEqual([
      400,
      { error: 'alerts[0].status: "maybe" is not one of "firing", "resolved"' },
    ])
    expect(taken).toEqual([])
  })

  it('takes no body of more than a mebibyte: 413', async () => {
    const { post, taken } = receiving()
    const response = await post(JSON.stringify({ version: '4', alerts: [], padding: 'x'.repeat(1024 * 1024) }))
    expect([response.status, await response.json()]).toMatchObject([413, { reason: 'body_too_large' }])
    expect(taken).toEqual([])
  })

  it('is not there where none are wanted (404), and never to be read (405)', async () => {
    const response = await admin().post('/alerts', '{}')
    expect([response.status, await response.text()]).toEqual([404, expect.stringContaining('alerts.receive')])
    const looked = await admin().get('/alerts')
    expect([looked.status, looked.headers.get('allow')]).toEqual([405, 'POST'])
  })
})

describe('what can be asked of one upstream', () => {
  /** The listener in front of a real heartbeat in virtual time. */
  function watched(parts: Partial<Monitored> = {}) {
    const test = monitoring()
    const { prober, heartbeat } = test.add('files', {}, parts)
    const { clock, upstreams } = test
    const report = () => Promise.resolve(shownReport({ files: shownUpstream() }))
    const { get } = admin({ clock, upstreams: () => upstreams, report })
    const post = async (path: string, passMs = 0) => {
      const answer = get(path, {}, 'POST')
      await clock.advance(passMs)
      return answer
    }
    return { clock, prober, heartbeat, get, post }
  }

  it('POST /debug/heartbeat/<upstream> probes at once, and answers with what is known then', async () => {
    const { clock, prober, post } = watched()
    await clock.advance(1000)
    prober.starts.length = 0
    prober.play({ afterMs: 200 })
    const response = await post('/debug/heartbeat/files', 200)
    expect([response.status, await response.json()]).toEqual([200, { upstream: 'files', ...shownUpstream() }])
    expect(prober.starts.map(({ atMs }) => atMs)).toEqual([1000])
  })

  it('does not wait longer than 15 s for it: 202', async () => {
    const { prober, post } = watched()
    prober.play({ checks: [{ opening: true, outcome: 'silence' }], openingDeadlineMs: 60_000 })
    expect((await post('/debug/heartbeat/files', 15_000)).status).toBe(202)
  })

  it('pause begins a maintenance that ends by itself or by resume; meanwhile a probe is refused: 409', async () => {
    const { clock, heartbeat, post } = watched()
    const state = () => heartbeat.status().verdict.state
    await clock.advance(1000)
    expect((await post('/debug/heartbeat/files/pause?minutes=1.5')).status).toBe(200)
    await clock.advance(89_999)
    expect(state()).toBe('paused')
    const refused = await post('/debug/heartbeat/files')
    expect([refused.status, await refused.text()]).toEqual([409, expect.stringContaining('is paused until')])
    await clock.advance(1)
    expect(state()).toBe('healthy')
    await post('/debug/heartbeat/files/pause?minutes=60')
    expect(state()).toBe('paused')
    expect((await post('/debug/heartbeat/files/resume', 10)).status).toBe(200)
    expect(state()).toBe('healthy')
  })

  it.each(['', '?minutes=', '?minutes=0', '?minutes=-1', '?minutes=1e3', '?minutes=10081', '?minutes=NaN'])(
    'refuses to pause for %j minutes, and says why',
    async (query) => {
      const { heartbeat, post } = watched()
      const response = await post(`/debug/heartbeat/files/pause${query}`)
      expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('minutes is')])
      expect(heartbeat.status().verdict.state).not.toBe('paused')
    },
  )

  it('drain lets nothing new in until its time is over, or until resume', async () => {
    const target = { transport: 'http', url: new URL('http://127.0.0.1:1'), headers: {}, upstreamHost: 'auto' } as const
    const server = endpoint(target, { connectTimeoutMs: 1, idleConnectionMs: 1, clock: fakeClock() })
    const { post } = watched({ access: { kind: 'endpoint', endpoint: server, transport: 'http' } })
    expect((await post('/debug/heartbeat/files/drain?minutes=2')).status).toBe(200)
    expect(server.drain.refusal()).toMatchObject({ code: 'draining', retryAfterSeconds: 120 })
    expect((await post('/debug/heartbeat/files/resume')).status).toBe(200)
    expect(server.drain.refusal()).toBeUndefined()
    expect((await post('/debug/heartbeat/files/drain?minutes=1441')).status).toBe(400)
    expect((await watched().post('/debug/heartbeat/files/drain?minutes=2')).status).toBe(409)
  })

  it.each(['', '/pause?minutes=1', '/drain?minutes=1', '/resume'])(
    '%j: 404 for an unknown upstream, 405 for a GET',
    async (path) => {
      const { get, post } = watched()
      expect((await post(`/debug/heartbeat/nobody${path}`)).status).toBe(404)
      const looked = await get(`/debug/heartbeat/files${path}`)
      expect([looked.status, looked.headers.get('allow')]).toEqual([405, 'POST'])
    },
  )
})

describe('the endpoints', () => {
  it.each(['/', '/metrics', '/debug/heartbeat', '/-/healthy', '/-/ready', '/-/ready/files'])(
    '%s is there to be read: 405 for a POST (RFC 9110 §15.5.6)',
    async (path) => {
      const response = await admin().get(path, {}, 'POST')
      expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET'])
    },
  )

  it('/metrics is the exposition, in the format that the scraper accepts', async () => {
    const response = await admin().get('/metrics', { accept: 'application/openmetrics-text' })
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4')
    expect(await response.text()).toBe('# application/openmetrics-text\n')
  })

  it('/metrics is compressed for those who take gzip (RFC 9110 §12.5.3)', async () => {
    const { get } = admin()
    const plain = await get('/metrics', { 'accept-encoding': 'identity' })
    expect([plain.headers.get('content-encoding'), plain.headers.get('vary')]).toEqual([
      null,
      'Accept, Accept-Encoding',
    ])
    const packed = await get('/metrics', { 'accept-encoding': 'br, gzip;q=0.5' })
    expect(packed.headers.get('content-encoding')).toBe('gzip')
    expect(gunzipSync(await packed.arrayBuffer()).toString()).toBe(await plain.text())
  })

  it('/debug/heartbeat is the whole report, or what concerns one upstream', async () => {
    const { get } = admin()
    const all = (await (await get('/debug/heartbeat')).json()) as { upstreams: object; sessions: object }
    expect([Object.keys(all.upstreams), Object.keys(all.sessions)]).toEqual([
      ['files', 'mail'],
      ['aaaaaaaa', 'bbbbbbbb'],
    ])
    const one = (await (await get('/debug/heartbeat?upstream=mail')).json()) as typeof all
    expect([Object.keys(one.upstreams), Object.keys(one.sessions)]).toEqual([['mail'], ['bbbbbbbb']])
  })

  it.each(['nobody', '', '__proto__', 'constructor', 'toString'])(
    '404s an unknown upstream %j by name',
    async (name) => {
      const response = await admin().get(`/debug/heartbeat?upstream=${name}`)
      expect(response.status).toBe(404)
      expect(await response.json()).toEqual({ error: `no upstream is called "${name}"`, upstreams: ['files', 'mail'] })
    },
  )

  it('/-/healthy is 200 as long as we run, /-/ready from the first moment to the last that clients are welcome', async () => {
    let isReady = false
    const { get } = admin({ isReady: () => isReady })
    expect((await get('/-/healthy')).status).toBe(200)
    expect((await get('/-/ready')).status).toBe(503)
    isReady = true
    expect((await get('/-/ready')).status).toBe(200)
  })

  it('/-/ready does not depend on upstreams; /-/ready/<upstream> is there for those who want to know', async () => {
    const test = monitoring()
    test.add('well')
    test.add('dead', { outcome: 'refused', reason: 'connect ECONNREFUSED' })
    test.add('starting', { outcome: 'silence' })
    await test.clock.advance(100)
    const { get } = admin({ upstreams: () => test.upstreams })
    expect((await get('/-/ready')).status).toBe(200)
    const answers = ['well', 'dead', 'starting', 'nobody'].map(async (name) => {
      const response = await get(`/-/ready/${name}`)
      return [response.status, await response.json()]
    })
    expect(await Promise.all(answers)).toEqual([
      [200, { upstream: 'well', state: 'healthy', reason: 'ping: ok' }],
      [503, { upstream: 'dead', state: 'down', reason: 'connect ECONNREFUSED' }],
      [503, { upstream: 'starting', state: 'starting', reason: 'it has not answered yet' }],
      [404, { error: 'no upstream is called "nobody"', upstreams: ['well', 'dead', 'starting'] }],
    ])
  })

  it('anything else is 404, in JSON', async () => {
    const response = await admin().get('/nothing/here')
    expect(response.status).toBe(404)
    expect(await response.json()).toEqual({ error: 'no such path: /nothing/here' })
  })

  it('/ is the page, in which nothing can run, be loaded or be framed', async () => {
    const response = await admin().get('/')
    expect(response.headers.get('content-type')).toMatch(/^text\/html/)
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'cache-control': 'no-store',
      'content-security-policy': expect.stringContaining("default-src 'none'"),
      'x-content-type-options': 'nosniff',
    })
    expect(await response.text()).toContain('1 of 2 upstreams is down: mail')
  })
})

describe('the guard', () => {
  const paths = ['/', '/metrics', '/debug/heartbeat', '/-/healthy', '/-/ready', '/-/ready/files', '/nothing']

  it.each(paths)('refuses a Host that is not ours on %s: DNS rebinding', async (path) => {
    const { get, rejected } = admin()
    const response = await get(path, { host: 'evil.example' })
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({ reason: 'host_not_allowed' })
    expect(rejected).toEqual(['host_not_allowed'])
    expect((await get(path, { host: 'vitals.example:9464' })).status).not.toBe(403)
  })

  it.each(paths)('refuses a page of a foreign origin on %s, whatever it does', async (path) => {
    const { get } = admin()
    for (const method of ['GET', 'POST', 'DELETE']) {
      const response = await get(path, { origin: 'https://evil.example' }, method)
      expect(response.status).toBe(403)
      expect(await response.json()).toMatchObject({ reason: 'origin_not_allowed' })
    }
    expect((await get(path, { origin: 'http://localhost:9464' })).status).not.toBe(403)
  })

  it.each(['/metrics', '/-/healthy', '/-/ready'])(
    'lets scrapers and orchestrators to %s without a token',
    async (path) => {
      expect((await admin({ token: 'secret' }).get(path)).status).toBe(200)
    },
  )

  it.each(['/', '/debug/heartbeat', '/-/ready/files', '/nothing', '/metrics/', '/-/ready/'])(
    'wants the token on %s',
    async (path) => {
      const { get, rejected } = admin({ token: 'secret' })
      const refused = await get(path)
      expect(refused.status).toBe(401)
      expect(refused.headers.get('www-authenticate')).toBe('Bearer realm="mcp-vitals"')
      expect((await get(path, { authorization: 'Bearer wrong' })).status).toBe(401)
      expect(rejected).toEqual(['unauthorized', 'unauthorized'])
      expect((await get(path, { authorization: 'Bearer secret' })).status).not.toBe(401)
    },
  )
})

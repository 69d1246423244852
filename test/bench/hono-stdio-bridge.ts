/** The bare bridge behind a route of Hono's, on Node's own streams: what we are measured against. */
import { createServer } from 'node:http'
import { type HttpBindings, getRequestListener } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import { announce, bareBridge } from './bare-bridge.ts'

const handle = bareBridge()
const app = new Hono<{ Bindings: HttpBindings }>()
app.post('/mcp', ({ env }) => {
  handle(env.incoming, env.outgoing)
  return RESPONSE_ALREADY_SENT
})
const listener = getRequestListener(app.fetch)
announce(createServer((incoming, outgoing) => void listener(incoming, outgoing)))

/**
 * The conformance fixture over HTTP+SSE, legacy era.
 *
 * `PORT=0 node test/peers/everything-v2-sse.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/sse"}`.
 */
import { legacyEverything } from './everything-server.ts'
import { serveSse } from './serve-sse.ts'

serveSse(legacyEverything)

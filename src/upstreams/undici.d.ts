/** The two parts of undici that we use: the whole brings a fetch, a WebSocket and 50 ms of start with it. */
declare module 'undici/lib/dispatcher/pool.js' {
  import { Pool } from 'undici'

  export default Pool
}

declare module 'undici/lib/core/connect.js' {
  import { buildConnector } from 'undici'

  export default buildConnector
}

/** The bare bridge as a server of node:http by itself, which answers whatever path it is asked at. */
import { createServer } from 'node:http'
import { announce, bareBridge } from './bare-bridge.ts'

announce(createServer(bareBridge()))

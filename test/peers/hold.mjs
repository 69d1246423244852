/** Preload that keeps a server from starting while the file HOLD_FILE exists, so that a test sees it not yet back. */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

while (existsSync(process.env.HOLD_FILE ?? '')) await sleep(20)

import { adminApp } from '../../src/admin/app.ts'
import { systemClock } from '../../src/clock.ts'

/** What the admin listener has a route of its own for, as its patterns. Nothing is asked of it. */
export function adminRoutes(): readonly { readonly method: string; readonly path: string }[] {
  return adminApp({
    clock: systemClock,
    version: '0',
    guards: { open: () => undefined, closed: () => undefined, alerts: () => undefined },
    exposition: { scrape: () => Promise.reject(new Error('not asked here')) },
    upstreams: () => [],
    report: () => Promise.reject(new Error('not asked here')),
    isReady: () => true,
    reload: () => Promise.reject(new Error('not asked here')),
    onRejected: () => undefined,
  }).routes
}

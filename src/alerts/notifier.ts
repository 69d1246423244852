import type { Clock, Timer } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { Logger } from '../log.ts'
import type { Redact } from '../redaction.ts'
import { type Instruments, type Receiver, receivers } from '../telemetry/instruments.ts'
import type { Delivery, Poster, ReceiverAddress } from './delivery.ts'
import { type Wording, alertmanagerAlert, webhookMessage } from './messages.ts'
import { Messenger } from './messenger.ts'
import { type HoldTimes, type Notice, type Situation, type TrackedAlerts, firing, track } from './tracking.ts'

/** Whom to tell, and how; all of it may change at any time. */
export interface NotifierSettings {
  readonly holds: HoldTimes
  readonly wording: Omit<Wording, 'redact'>
  readonly receivers: Readonly<Partial<Record<Receiver, ReceiverAddress>>>
}

export interface NotifierOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly settings: () => NotifierSettings
  readonly situation: () => Situation
  /** Makes what posts to a receiver. */
  readonly open: (address: ReceiverAddress) => Poster
  readonly redact: Redact
  readonly log: Logger
  readonly instruments: Pick<Instruments, 'initReceiver' | 'countNotifications' | 'recordNotification'>
}

/** A receiver that is told things; its token may change. */
interface Told {
  readonly messenger: Messenger
  address: ReceiverAddress
  poster: Poster
}

/**
 * Sends the state changes of upstreams to Alertmanager and to a webhook: looks at all verdicts once a second, decides
 * what is to be told (tracking.ts), and leaves the telling to one messenger for each receiver. Nobody waits for any of
 * it. At our own end alerts are left as they are: that we stop mends nothing.
 */
export class Notifier {
  readonly #options: NotifierOptions
  readonly #told = new Map<Receiver, Told>()
  /** When a receiver's failures were last logged. */
  readonly #lastLoggedMs = new Map<Receiver, number>()
  #alerts: TrackedAlerts = new Map()
  #timer: Timer | undefined
  #nextRepeatMs = 0

  constructor(options: NotifierOptions) {
    this.#options = options
  }

  /** Looks from now on, if anybody is to be told. */
  start(): void {
    this.follow()
  }

  /** Follows the settings as they are now. A receiver that is new hears of every alert that fires. */
  follow(): void {
    const { receivers: wanted } = this.#options.settings()
    for (const name of receivers) {
      const address = wanted[name]
      const told = this.#told.get(name)
      if (told && address && isSameUrl(told.address, address)) this.#readdress(told, address)
      else {
        if (told) this.#forget(name, told)
        if (address) this.#begin(name, address)
      }
    }
    if (this.#told.size === 0) this.#rest()
    else if (!this.#timer) this.#look()
  }

  /** How many notices wait for each receiver. */
  waiting(): readonly { readonly receiver: Receiver; readonly waiting: number }[] {
    return [...this.#told].map(([receiver, { messenger }]) => ({ receiver, waiting: messenger.waiting() }))
  }

  /** Sends what waits, for a moment at most. */
  async stop(): Promise<void> {
    this.#timer?.cancel()
    await Promise.all(
      [...this.#told.values()].map(async (told) => {
        await told.messenger.stop(defaults.notifications.flushMs)
        await told.poster.close()
      }),
    )
    this.#told.clear()
  }

  #rest(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#alerts = new Map()
  }

  #look(): void {
    const { clock, settings, situation, log } = this.#options
    this.#timer = clock.after(defaults.notifications.lookMs, () => this.#look())
    const moment = { nowMs: clock.now(), wallMs: clock.wallTime() }
    const { alerts, notices } = track(this.#alerts, situation(), moment, settings().holds)
    this.#alerts = alerts
    for (const { kind, alert } of notices) {
      const { name, about, reason } = alert
      const fields = { alert: name, upstream: about.upstream ?? null }
      if (kind === 'firing') log.warn({ ...fields, reason }, 'alert is firing')
      else log.info(fields, 'alert is resolved')
    }
    const isRepeat = moment.nowMs >= this.#nextRepeatMs
    if (isRepeat) this.#nextRepeatMs = moment.nowMs + defaults.notifications.repeatMs
    for (const [name, { messenger }] of this.#told) {
      // Alertmanager forgets what it does not hear of again; a webhook wants each change once.
      messenger.tell(isRepeat && name === 'alertmanager' ? [...notices.filter(isEnd), ...this.#firing()] : notices)
    }
  }

  #firing(): readonly Notice[] {
    return firing(this.#alerts).map((alert) => ({ kind: 'firing', alert }))
  }

  #begin(name: Receiver, address: ReceiverAddress): void {
    const { clock, random, instruments } = this.#options
    const { maxWaiting, backoff, alertmanagerBatch } = defaults.notifications
    instruments.initReceiver(name)
    const messenger = new Messenger({
      clock,
      random,
      send: (batch, signal) => told.poster.post(this.#message(name, batch), signal),
      batchSize: name === 'alertmanager' ? alertmanagerBatch : 1,
      maxWaiting,
      backoff,
      events: {
        onDelivery: (delivery, notices, durationMs) => this.#delivered(name, delivery, notices, durationMs),
        onRetry: (reason, inMs, waiting) => {
          const fields = { receiver: name, reason, next_try_in_seconds: Math.round(inMs / 1000), waiting }
          if (this.#mayLog(name)) this.#options.log.warn(fields, 'notifications could not be sent')
        },
        onDropped: (notices) => instruments.countNotifications(name, 'dropped', notices),
      },
    })
    const told: Told = { messenger, address, poster: this.#options.open(address) }
    this.#told.set(name, told)
    messenger.tell(this.#firing())
  }

  /** The same receiver may want another token: nothing that waits is lost. */
  #readdress(told: Told, address: ReceiverAddress): void {
    if (told.address.bearerToken === address.bearerToken) return
    void told.poster.close()
    told.address = address
    told.poster = this.#options.open(address)
  }

  #forget(name: Receiver, told: Told): void {
    this.#told.delete(name)
    void told.messenger.stop(0).then(() => told.poster.close())
  }

  #message(name: Receiver, batch: readonly Notice[]): object {
    const { clock, settings, redact } = this.#options
    const wording = { ...settings().wording, redact }
    const [first] = batch
    if (name === 'webhook' && first) return webhookMessage(first, wording)
    const expiresAtWallMs = clock.wallTime() + defaults.notifications.expireMs
    return batch.map((notice) => alertmanagerAlert(notice, wording, expiresAtWallMs))
  }

  #delivered(name: Receiver, delivery: Delivery, notices: number, durationMs: number): void {
    const { instruments, log } = this.#options
    instruments.countNotifications(name, delivery.kind, notices)
    instruments.recordNotification(name, durationMs / 1000)
    if (delivery.kind === 'rejected' && this.#mayLog(name)) {
      log.warn({ receiver: name, reason: delivery.reason, notices }, 'notifications were refused, and are given up')
    }
    if (delivery.kind === 'sent' && this.#lastLoggedMs.delete(name)) {
      log.info({ receiver: name }, 'notifications are sent again')
    }
  }

  /** At most one line a minute about what a receiver does not take. */
  #mayLog(name: Receiver): boolean {
    const nowMs = this.#options.clock.now()
    const lastMs = this.#lastLoggedMs.get(name) ?? Number.NEGATIVE_INFINITY
    if (nowMs - lastMs < defaults.notifications.logEveryMs) return false
    this.#lastLoggedMs.set(name, nowMs)
    return true
  }
}

function isEnd({ kind }: Notice): boolean {
  return kind === 'resolved'
}

function isSameUrl(one: ReceiverAddress, other: ReceiverAddress): boolean {
  return one.url.href === other.url.href
}

/**
 * Stands for the people whom Alertmanager tells: prints what they would get. `node deploy/stack/notifications.ts 9095`
 * does so at the loopback port that deploy/alertmanager/alertmanager.yml names.
 */
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { z } from 'zod'

/** What Alertmanager posts to a webhook, as far as it is printed. */
const notification = z.object({
  alerts: z.array(
    z.object({
      status: z.enum(['firing', 'resolved']),
      labels: z.looseObject({
        alertname: z.string(),
        upstream: z.string().optional(),
        severity: z.string().optional(),
      }),
      annotations: z.looseObject({ summary: z.string().optional() }),
    }),
  ),
})

/** One line for each alert of a notification to that receiver. */
export function notificationLines(receiver: string, body: unknown): string[] {
  const parsed = notification.safeParse(body)
  if (!parsed.success) return [`${receiver}: a notification that is not Alertmanager's`]
  return parsed.data.alerts.map(({ status, labels, annotations }) => {
    const about = [labels.severity, labels.upstream].filter((label) => label !== undefined).join(', ')
    const what = annotations.summary === undefined ? '' : `: ${annotations.summary}`
    return `${receiver}: ${labels.alertname} ${status}${about === '' ? '' : ` (${about})`}${what}`
  })
}

export interface Receiver {
  /** Where Alertmanager posts; the path behind it is the receiver's name. */
  readonly url: string
  readonly close: () => void
}

/** Receives Alertmanager's notifications on that loopback port; 0 takes a free one. */
export function notificationReceiver(port: number, print: (line: string) => void): Promise<Receiver> {
  const server = createServer((request, response) => {
    void answered(request, response)
  })
  const answered = async (request: IncomingMessage, response: ServerResponse) => {
    const receiver = request.url?.slice(1) ?? ''
    for (const line of notificationLines(receiver, await jsonOf(request))) print(line)
    response.end()
  }
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      const bound = typeof address === 'object' && address !== null ? address.port : port
      resolve({
        url: `http://127.0.0.1:${bound}`,
        close: () => {
          server.close()
          server.closeAllConnections()
        },
      })
    })
  })
}

async function jsonOf(request: IncomingMessage): Promise<unknown> {
  try {
    return JSON.parse(await text(request))
  } catch {
    return undefined // Not Alertmanager; told as such.
  }
}

if (import.meta.main) {
  const { url, close } = await notificationReceiver(Number(process.argv[2]), (line) =>
    process.stdout.write(`${line}\n`),
  )
  process.stdout.write(`notifications are printed at ${url}\n`)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, close)
}

/** Stands for the people whom Alertmanager tells: prints what they would get. */
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
  close(): void
}

/** Receives Alertmanager's notifications on a free loopback port. */
export function notificationReceiver(print: (line: string) => void): Promise<Receiver> {
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
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      resolve({
        url: `http://127.0.0.1:${port}`,
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

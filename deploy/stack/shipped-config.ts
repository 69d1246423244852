/** The configurations that ship for Prometheus and Alertmanager, with the addresses of the stack in place of theirs. */
import { parse, stringify } from 'yaml'
import { z } from 'zod'

const targets = z.array(z.looseObject({ targets: z.array(z.string()) }))

const prometheusFile = z.looseObject({
  global: z.looseObject({}),
  rule_files: z.array(z.string()),
  alerting: z.looseObject({ alertmanagers: z.array(z.looseObject({ static_configs: targets })) }),
  scrape_configs: z.array(
    z.looseObject({
      static_configs: targets.optional(),
      file_sd_configs: z.array(z.looseObject({ files: z.array(z.string()) })).optional(),
    }),
  ),
})

export interface PrometheusPlaces {
  /** `host:port` of mcp-vitals' admin listener. */
  readonly admin: string
  /** `host:port` of Alertmanager, where there is one. */
  readonly alertmanager: string | undefined
  /** A glob for the rule files. */
  readonly rules: string
  /** A glob for the files that announce wrappers. */
  readonly wrappers: string
}

/** Somebody watches the stack while it runs, so it looks more often than a service would. */
const lookEvery = '5s'

/** deploy/prometheus/prometheus.yml for these places. */
export function prometheusConfig(shipped: string, places: PrometheusPlaces): string {
  const file = prometheusFile.parse(parse(shipped))
  const alertmanagers = places.alertmanager === undefined ? [] : [places.alertmanager]
  return stringify({
    ...file,
    global: { ...file.global, scrape_interval: lookEvery, evaluation_interval: lookEvery },
    rule_files: [places.rules],
    alerting: { ...file.alerting, alertmanagers: [{ static_configs: [{ targets: alertmanagers }] }] },
    scrape_configs: file.scrape_configs.map((job) => ({
      ...job,
      ...(job.static_configs && { static_configs: [{ targets: [places.admin] }] }),
      ...(job.file_sd_configs && { file_sd_configs: [{ files: [places.wrappers], refresh_interval: lookEvery }] }),
    })),
  })
}

const route = z.looseObject({ group_wait: z.string().optional() })

const alertmanagerFile = z.looseObject({
  route: route.extend({ routes: z.array(route) }),
  receivers: z.array(z.looseObject({ name: z.string() })),
})

/** For one who watches, the first alert of a group need not wait for others. */
const groupWait = '1s'

/** deploy/alertmanager/alertmanager.yml, with every receiver at `receiverUrl`/<its name>. */
export function alertmanagerConfig(shipped: string, receiverUrl: string): string {
  const file = alertmanagerFile.parse(parse(shipped))
  return stringify({
    ...file,
    route: {
      ...file.route,
      group_wait: groupWait,
      routes: file.route.routes.map((one) => ({ ...one, group_wait: groupWait })),
    },
    receivers: file.receivers.map(({ name }) => ({
      name,
      webhook_configs: [{ url: `${receiverUrl}/${name}`, send_resolved: true }],
    })),
  })
}

/** Links to the Upstream dashboard of one server, for the time that is looked at. */
import { label } from '../../../src/telemetry/names.ts'
import { dashboardUids } from '../links.ts'

export interface DataLink {
  readonly title: string
  readonly url: string
}

/** `valueOf` is how Grafana spells the value of a label where the link stands. */
function serverLink(title: string, valueOf: (name: string) => string): DataLink {
  const choices = [
    '${datasource:queryparam}',
    '${job:queryparam}',
    `var-instance=${valueOf('instance')}`,
    `var-upstream=${valueOf(label.upstream)}`,
    '${__url_time_range}',
  ]
  return { title, url: `/d/${dashboardUids.upstream}?${choices.join('&')}` }
}

/** From a cell of the table column that names the server. */
export const linkFromRow = serverLink('Show ${__value.text}', (name) => `\${__data.fields.${name}}`)

/** From a line or bar that belongs to one server. */
export const linkFromSeries = serverLink(
  `Show \${__field.labels.${label.upstream}}`,
  (name) => `\${__field.labels.${name}}`,
)

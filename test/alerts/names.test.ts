import { expect, it } from 'vitest'
import { alerts as rules } from '../../dashboards/src/rules.ts'
import { alertNames, sentAlertTexts, sentAlerts } from '../../src/alerts/names.ts'

it('every alert that there may be has a rule, and no rule has another name', () => {
  expect(new Set(rules.map(({ alert }) => alert))).toEqual(new Set(alertNames))
})

it.each(sentAlerts)('%s is as bad as its rule says', (name) => {
  const severities = rules.filter(({ alert }) => alert === name).map(({ severity }) => severity)
  expect(severities).toContain(sentAlertTexts[name].severity)
})

import { availableParallelism } from 'node:os'
import { relative } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * What measures how soon faults of real processes are noticed. It runs before all others: with the processor busy,
 * mcp-vitals doubts its own event loop, as it should, and takes its time.
 */
const detection = [
  'test/e2e/fault-table.test.ts',
  'test/e2e/fault-soak.test.ts',
  'test/e2e/session-heartbeats.test.ts',
  'test/e2e/stdio-wrapper.test.ts',
  'test/e2e/supervision.test.ts',
  'test/e2e/alerts.test.ts',
  'test/e2e/recoveries.test.ts',
  'test/e2e/notifications.test.ts',
]

/** What computes all the time and on all cores: alone, after all others. */
const computing = ['test/simulation/thousand-worlds.test.ts', 'test/simulation/calm-fleet.test.ts']

/** Of the others, those that take longest: they begin first, or they would end alone. */
const longest = [
  'test/e2e/soak.test.ts',
  'test/e2e/session-ends.test.ts',
  'test/e2e/stdio-url.test.ts',
  'test/differential/conversations.test.ts',
  'test/e2e/conformance.test.ts',
  'test/e2e/prometheus.test.ts',
  'test/deploy/stack.test.ts',
  'test/e2e/demo.test.ts',
  'test/dashboards/alerts.test.ts',
  'test/e2e/cli.test.ts',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const order = [...detection, ...longest]
    const place = ({ moduleId }: TestSpecification) => {
      const at = order.indexOf(relative(this.ctx.config.root, moduleId))
      return at === -1 ? order.length : at
    }
    // oxlint-disable-next-line unicorn/no-array-sort -- it is no array's.
    const largestFirst = await super.sort(files)
    return largestFirst.toSorted((a, b) => place(a) - place(b))
  }
}

/** Most tests of real processes wait most of the time, so two files at once take half as long, also on one core. */
const filesAtOnce = Math.max(2, availableParallelism())

const inTests = (file: string) => relative('test', file)
const groups = { detection: detection.map(inTests), computing: computing.map(inTests) }

export default defineConfig({
  test: {
    dir: 'test',
    globalSetup: 'test/built.ts',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: { name: 'detection', include: groups.detection, maxWorkers: filesAtOnce, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: {
          name: 'all',
          include: ['**/*.test.ts'],
          exclude: [...groups.detection, ...groups.computing],
          // Nobody's time is measured here.
          maxWorkers: filesAtOnce + 1,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: 'computing', include: groups.computing, maxWorkers: 1, sequence: { groupOrder: 2 } },
      },
    ],
  },
})

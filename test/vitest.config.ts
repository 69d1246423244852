import { relative } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * The tests that take longest, most of it in waiting: they begin first, or they would end alone. Those that need the
 * processor most come after those that measure how soon something is noticed.
 */
const longest = [
  'test/e2e/fault-table.test.ts',
  'test/e2e/fault-soak.test.ts',
  'test/e2e/session-ends.test.ts',
  'test/e2e/session-heartbeats.test.ts',
  'test/e2e/stdio-url.test.ts',
  'test/e2e/supervision.test.ts',
  'test/e2e/alerts.test.ts',
  'test/e2e/soak.test.ts',
  'test/differential/conversations.test.ts',
  'test/e2e/conformance.test.ts',
  'test/e2e/stdio-wrapper.test.ts',
  'test/e2e/prometheus.test.ts',
  'test/deploy/stack.test.ts',
  'test/e2e/demo.test.ts',
  'test/dashboards/alerts.test.ts',
  'test/e2e/recoveries.test.ts',
  'test/e2e/cli.test.ts',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const at = longest.indexOf(relative(this.ctx.config.root, moduleId))
      return at === -1 ? longest.length : at
    }
    // oxlint-disable-next-line unicorn/no-array-sort -- it is no array's.
    const largestFirst = await super.sort(files)
    return largestFirst.toSorted((a, b) => place(a) - place(b))
  }
}

/** Takes every core for two minutes, and so runs before all others, which then have the machine to themselves. */
const worlds = 'simulation/thousand-worlds.test.ts'

export default defineConfig({
  test: {
    dir: 'test',
    globalSetup: 'test/built.ts',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      { extends: true, test: { name: 'worlds', include: [worlds], sequence: { groupOrder: 0 } } },
      {
        extends: true,
        test: { name: 'all', include: ['**/*.test.ts'], exclude: [worlds], sequence: { groupOrder: 1 } },
      },
    ],
  },
})

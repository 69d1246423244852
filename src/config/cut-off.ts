import type { Config } from './config.ts'
import type { Loaded } from './load.ts'

/**
 * Why a running program should not follow a file that reads as one of which the end is missing: a full disk, an editor
 * or `>` leaves such files, which say nothing and so would take every server away. A line for each reason.
 */
export function signsOfCutOff(before: Config, { config, emptyFiles, saysNoServers }: Loaded): readonly string[] {
  if (emptyFiles.length > 0)
    return emptyFiles.map((file) => `${file}: the file is empty; if nothing is meant, write {}`)
  const removesAll = before.upstreams.some(({ disabled }) => !disabled) && config.upstreams.length === 0
  if (!removesAll || saysNoServers) return []
  return ['mcpServers: no server is left of those that run; if none is meant, write mcpServers: {}']
}

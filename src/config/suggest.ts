/** The candidate that was probably meant: nearly the same letters, or a name that contains the given one. */
export function nearest(given: string, candidates: readonly string[]): string | undefined {
  const wanted = bare(given)
  const distances = candidates.map((candidate) => ({ candidate, distance: editDistance(wanted, bare(candidate)) }))
  const best = distances.toSorted((a, b) => a.distance - b.distance)[0]
  if (best && best.distance <= Math.max(1, Math.floor(wanted.length / 3))) return best.candidate
  return wanted.length < 4 ? undefined : candidates.find((candidate) => bare(candidate).includes(wanted))
}

/** `heartbeatInterval`, `heartbeat-interval` and `heartbeat_interval` are one word. */
function bare(name: string): string {
  return name.toLowerCase().replaceAll(/[_-]/g, '')
}

/** Levenshtein's distance, one row of the matrix at a time. */
export function editDistance(a: string, b: string): number {
  const letters = Array.from(b)
  let row = [0, ...letters.map((_, index) => index + 1)]
  for (const [i, letter] of Array.from(a).entries()) {
    const next = [i + 1]
    for (const [j, other] of letters.entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1)
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}

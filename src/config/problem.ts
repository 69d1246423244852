import { formatPath, type Path, type Place } from './tree.ts'

/** One thing to tell about a configuration: where it is, what it concerns and which rule it meets. */
export interface Problem {
  readonly place: Place
  readonly column?: number
  /** Empty for a fault of the file itself. */
  readonly path: Path
  readonly message: string
}

/** `mcp-vitals.yaml:12: mcpServers.files.resident: "sometimes" is not one of always, when_idle, never`. */
export function formatProblem(problem: Problem): string {
  const { file, line } = problem.place
  const position = [file, line, problem.column].filter((part) => part !== undefined).join(':')
  return [position, formatPath(problem.path), problem.message].filter((part) => part !== '').join(': ')
}

/** One line for each, in the order of file and line, none twice. */
export function formatProblems(problems: readonly Problem[]): readonly string[] {
  return [...new Set(problems.toSorted(byPlace).map(formatProblem))]
}

function byPlace(a: Problem, b: Problem): number {
  if (a.place.file !== b.place.file) return a.place.file < b.place.file ? -1 : 1
  return (a.place.line ?? 0) - (b.place.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)
}

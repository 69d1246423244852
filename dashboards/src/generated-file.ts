/** One file that is made from the code's own names and checked in beside it. */
export interface GeneratedFile {
  /** From the top of the repository. */
  readonly path: string
  /** As it will be before formatting. */
  readonly text: string
}

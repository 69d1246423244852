/** What the system answers when we have used up file descriptors (ours or all), ports, buffers, memory or processes. */
const lackCodes: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'EADDRNOTAVAIL', 'ENOBUFS', 'ENOMEM', 'EAGAIN'])

/** Whether an error of a system call tells of a lack of our own machine, which says nothing about any server. */
export function isOwnLack(code: string): boolean {
  return lackCodes.has(code)
}

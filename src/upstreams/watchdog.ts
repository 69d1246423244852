import { spawn, type ChildProcess } from 'node:child_process'
import { Socket } from 'node:net'

/**
 * Remembers process groups and kills them once its input ends, which the kernel sees to however we die; then whatever has
 * the mark in its environment (strays.ts), which takes a few looks if that goes on forking. It ignores the signals that a
 * terminal or an init system sends to everybody. `kill -KILL -N` is the one spelling that dash, bash and busybox share.
 */
const script = `
trap '' HUP INT QUIT TERM
set -f
groups=' '
while read -r sign group; do
  case $sign in
  +) groups="$groups$group " ;;
  -) case $groups in *" $group "*) groups="\${groups%% $group *} \${groups#* $group }" ;; esac ;;
  esac
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
set +f
for look in 1 2 3; do
  [ -n "$1" ] || break
  for file in $(grep -Fls -e "$1" /proc/[0-9]*/environ 2>/dev/null); do
    pid="\${file#/proc/}"
    kill -KILL "\${pid%/environ}" 2>/dev/null
  done
done
`

function startShell(mark: string): ChildProcess | undefined {
  try {
    return spawn('/bin/sh', ['-c', script, 'mcp-vitals-watchdog', mark], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
  } catch {
    return undefined // Out of memory or processes: a server without a watchdog is better than no server.
  }
}

/**
 * One small shell for the whole sidecar that outlives it by a moment: when we end without having stopped our servers
 * (`kill -9`, a crash), it kills every group still registered, so grandchildren (npx → node) go too. A parent-death
 * signal alone reaches only the direct child. What left its group goes by the mark, where there is one. Started with the
 * first group; a watchdog that was killed is replaced with the next one. Does nothing on Windows.
 */
export class Watchdog {
  readonly #groups = new Set<number>()
  readonly #mark: string
  #shell: ChildProcess | undefined

  constructor(mark = '') {
    this.#mark = mark
  }

  /** Kill this group when we die. */
  watch(groupId: number): void {
    if (process.platform === 'win32') return
    this.#groups.add(groupId)
    if (this.#shell) this.#tell(`+ ${groupId}`)
    else this.#start()
  }

  /** This group has gone. Say so at once: its id can be used again. */
  forget(groupId: number): void {
    if (this.#groups.delete(groupId)) this.#tell(`- ${groupId}`)
  }

  /** The watchdog's own process id, while it runs. */
  pid(): number | undefined {
    return this.#shell?.pid
  }

  /** Ends the watchdog; it kills what is still registered. */
  close(): void {
    this.#groups.clear()
    this.#shell?.stdin?.end()
    this.#shell = undefined
  }

  #start(): void {
    const shell = startShell(this.#mark)
    if (!shell) return
    const gone = () => {
      if (this.#shell === shell) this.#shell = undefined
    }
    shell.on('error', gone).on('exit', gone)
    shell.stdin?.on('error', gone)
    shell.unref()
    if (shell.stdin instanceof Socket) shell.stdin.unref()
    this.#shell = shell
    for (const groupId of this.#groups) this.#tell(`+ ${groupId}`)
  }

  #tell(line: string): void {
    this.#shell?.stdin?.write(`${line}\n`)
  }
}

/** Where servers are on which faults are tried. */
export type Transport = 'stdio' | 'http' | 'sse'
export type Era = 'legacy' | 'modern'

/** `stdio` and `launched` are processes of ours, `url` is somebody else's. */
export interface Place {
  readonly where: 'stdio' | 'launched' | 'url'
  readonly transport: Transport
  readonly era: Era
}

export const stdio = (era: Era): Place => ({ where: 'stdio', transport: 'stdio', era })
export const launched = (transport: 'http' | 'sse', era: Era): Place => ({ where: 'launched', transport, era })
export const url = (transport: 'http' | 'sse', era: Era): Place => ({ where: 'url', transport, era })

/** Every place where a process is ours. */
export const ourProcesses = [
  stdio('legacy'),
  stdio('modern'),
  launched('http', 'legacy'),
  launched('http', 'modern'),
  launched('sse', 'legacy'),
]
/** Every place where it is not. */
export const urls = [url('http', 'legacy'), url('http', 'modern'), url('sse', 'legacy')]

export const pathOf = (transport: Transport) => (transport === 'sse' ? '/sse' : '/mcp')

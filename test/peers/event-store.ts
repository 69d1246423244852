import type { EventStore, JSONRPCMessage } from '@modelcontextprotocol/server'

const eventsKept = 1000

/** Keeps the last events of one session, so that a broken stream can be resumed. */
export function memoryEventStore(): EventStore {
  const events: { readonly id: string; readonly streamId: string; readonly message: JSONRPCMessage }[] = []
  let stored = 0
  return {
    storeEvent: async (streamId, message) => {
      const id = `${streamId}:${++stored}`
      events.push({ id, streamId, message })
      if (events.length > eventsKept) events.shift()
      return id
    },
    getStreamIdForEventId: async (eventId) => events.find(({ id }) => id === eventId)?.streamId,
    replayEventsAfter: async (lastEventId, { send }) => {
      const last = events.findIndex(({ id }) => id === lastEventId)
      const streamId = events[last]?.streamId ?? lastEventId
      for (const event of last < 0 ? [] : events.slice(last + 1)) {
        // A priming event is stored as an empty message; it opens a stream and is never replayed.
        if (event.streamId === streamId && 'jsonrpc' in event.message) await send(event.id, event.message)
      }
      return streamId
    },
  }
}

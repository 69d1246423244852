/**
 * Every default and threshold, in one place: read by the configuration schema, the control law, the alert rules and
 * the dashboards alike. Keys carry their unit.
 */
export const defaults = {
  listen: '127.0.0.1:7080',
  adminListen: '127.0.0.1:9464',
  /** As long as the longest line, so that what one transport carries, the others do. */
  maxBodyBytes: 16 * 1024 * 1024,
  /** Bridged client sessions, each with a process or connection of its own, over all upstreams. */
  maxSessions: 100,
  /** So much of it is kept for servers that have fewer sessions than their share. */
  keptSessionsRatio: 0.25,
  /** Client sessions of all kinds that are kept track of. */
  maxTrackedSessions: 10_000,
  maxLabelsPerUpstream: 200,
  /** How often the files of the configuration are looked at. */
  configCheckMs: 2000,
  /** A client's event stream that was silent for this long gets a comment. */
  streamKeepAliveMs: 15_000,
  /** A bridge's answer that takes longer begins as an event stream, which can be kept alive. */
  quickAnswerMs: 5000,
  /** The longest stdout line of a stdio server that a bridge accepts. */
  maxLineBytes: 16 * 1024 * 1024,
  /**
   * While a server has left this much of what a client sent unread, more is refused: of a stdio server's stdin, or of a
   * session's notifications and answers to a server behind a URL.
   */
  maxUnreadBytes: 64 * 1024 * 1024,
  stderrTailBytes: 16 * 1024,
  /** What a wrapper keeps of one line while it may be the answer to a heartbeat, or holds names for labels. */
  maxHeldBytes: 1024 * 1024,
  heartbeat: {
    intervalSeconds: 10,
    minIntervalSeconds: 5,
    maxIntervalSeconds: 30,
    sessionTimeoutSeconds: 300,
    cleanupIntervalSeconds: 300,
    logIntervalSeconds: 60,
    responseTimeThresholdMs: 1000,
    errorRateThresholdPercent: 5,
    /** A probe's time-out is RFC 6298's estimate within these bounds. */
    minTimeoutMs: 2000,
    maxTimeoutMs: 5000,
    /** An answer after its time-out but within this is `late`: slow, not missed. */
    lateAnswerMs: 10_000,
    missesToDown: 3,
    goodsToHealthy: 2,
    /** After so many slow answers, slow is what a server is, until it is quick again: no reason to suspect it. */
    slowToUsual: 5,
    /** After so many heartbeats in a row that told nothing, a server is no longer taken for healthy. */
    inconclusiveToDoubt: 5,
    /** A probe that was silent while our own event loop stood still for this part of its time-out tells nothing. */
    stallRatio: 0.25,
    /** A client's process is asked when it said nothing for this part of an interval, so that no jitter skips it. */
    idleIntervals: 0.8,
    probesPerSecond: 50,
    probesInFlight: 16,
    /** A probe that took longer only waits for its server: below 16 ÷ 50 s, silent servers take nobody's turn. */
    probeSlotMs: 250,
    /** How long a client's session is idle before its server is asked inside it, and what it waits after a miss. */
    sessionPingSeconds: 60,
    sessionRetryMs: 10_000,
    /** How old what is known of a server's tools may be before they are read again. */
    inventoryAgeMs: 300_000,
    recentKept: 20,
    failuresKept: 20,
  },
  /** What makes a server suspect, as [nothing up to, everything from], and for how long it is remembered. */
  suspicion: {
    /** A server is suspect from the one on, and trusted again up to the other. */
    suspect: 0.3,
    calm: 0.1,
    failureRatio: [0.02, 0.2],
    failureTauMs: 30_000,
    /** Answers in multiples of their baseline; a slowdown below `noticeableMs` is noise whatever its ratio. */
    rttRatio: [1.5, 4],
    noticeableMs: 50,
    shortRttTauMs: 10_000,
    baselineRttTauMs: 600_000,
    /** While answers take this many times their baseline, it stands still: an illness is not a new normal … */
    frozenRatio: 1.5,
    /** … unless that lasts this long without a failure. */
    newNormalMs: 20 * 60_000,
    flapHalfLifeMs: 300_000,
  },
  /** How the adaptive interval moves towards its target (src/heartbeat/interval.ts). */
  adaptation: {
    /** Decisions in a row without suspicion before it lengthens. */
    goodsToLengthen: 3,
    /** Recovery takes so many steps from the shortest interval to the longest: 2.5 s each with the defaults. */
    recoverySteps: 10,
    /** A target that is nearer than this part of the interval is not worth a step on soft signs. */
    deadBandRatio: 0.1,
    /** Each delay is drawn from the interval ± this part of it. */
    jitterRatio: 0.1,
  },
  /** When upstreams count as silent together (src/heartbeat/correlation.ts). */
  correlation: {
    /** With fewer upstreams than this, half of them is no crowd. */
    fewestUpstreams: 5,
    /** So far apart at most, or one interval if that is longer. */
    windowMs: 10_000,
    /** A network recovers within this, or it is not why a process is silent. */
    excusedMs: 120_000,
  },
  /** What counts as our own overload, as [nothing up to, everything from]. */
  load: {
    loopDelayMs: [50, 250],
    /** How much an event loop that is late must work for that to be its own doing. */
    workingUtilisation: [0.1, 0.3],
    utilisation: [0.7, 0.95],
    /** Probes that wait ÷ those that may run at a time. */
    backlog: [0.5, 1],
  },
  supervision: {
    startDeadlineMs: 60_000,
    firstBackoffMs: 1000,
    maxBackoffMs: 60_000,
    resetAfterReadyMs: 120_000,
    /** A launched server that ends sooner than this after its URL answered was hardly what answered there. */
    launchOutlivesMs: 5000,
    /** How long it is looked whether something else answers there. */
    strangerLookMs: 1000,
    startsBeforeCrashLoop: 10,
    /** So many starts in a row that failed, and no session is started before the next start has its time. */
    startsBeforeRefusal: 3,
    crashLoopRetryMs: 600_000,
    concurrentStarts: 4,
    /** As many of them may be of one server. */
    concurrentStartsOfOne: 2,
    /** A start that nobody knows to be over holds its place among those for this long at most. */
    startHoldMs: 2000,
    discoverPatienceMs: 20_000,
    /** How long after its pipe or port the end of a process may be heard of. */
    exitHeardMs: 500,
    /** How long requests of clients wait for a server that only starts to listen, and how often they try. */
    clientPatienceMs: 5000,
    clientRetryMs: 100,
    /** The same for one that a server refused because of our own connection, which it may not know yet to be closed. */
    makeWay: { patienceMs: 2000, retryMs: 100 },
    stdinGraceMs: 3000,
    residentStdinGraceMs: 500,
    termGraceMs: 5000,
    /** How often memory is looked at where it has a limit, and how long requests may finish before a process is replaced. */
    memoryLookMs: 10_000,
    memoryDrainMs: 10_000,
  },
  /** When a silent process hangs, and until when it may be busy (src/heartbeat/hang.ts). */
  hang: {
    unanswered: 3,
    silentMs: 30_000,
    silentIntervals: 3,
    idleCpuRatio: 0.02,
    spinningMs: 60_000,
    waitingMs: 60_000,
    workingMs: 600_000,
  },
  http: {
    connectTimeoutMs: 5000,
    /** All headers of a message together, either way: servers in other languages take more than Node's 16 KiB. */
    maxHeaderBytes: 64 * 1024,
    /**
     * Servers commonly close connections that were idle for 5 s (Node, uvicorn), and a POST that meets that moment is
     * lost: ours close long before, since timers are late on a busy machine.
     */
    idleConnectionMs: 2000,
    /** The same for a server that names its own time in `Keep-Alive`: its connections close this long before. */
    idleMarginMs: 3000,
    /** How long a server may take to hear that it should stop. */
    cancellationMs: 5000,
    /** For a document about tokens, such as protected resource metadata, and how long it may be. */
    metadataTimeoutMs: 10_000,
    maxMetadataBytes: 256 * 1024,
    /** Clients' requests for such documents at a time: each may ask a server several times. */
    maxMetadataRequests: 16,
  },
  requests: {
    /** Without a sign of the server while a request is open; and how long that request may last at all. */
    stallTimeoutMs: 60_000,
    requestTimeoutMs: 600_000,
    /** Requests to one server at a time: as many as no ordinary client has; and how many more wait for how long. */
    maxInFlight: 1024,
    maxQueue: 128,
    queueTimeoutMs: 3000,
    /** To one server behind a URL: streams that only listen are most of them. */
    maxConnections: 4096,
    hasBreaker: true,
  },
  tokens: {
    /** A token is renewed this long before it expires, or when a tenth of its life is left if that is later. */
    renewBeforeMs: 60_000,
    /** A token that was refused while it was younger than this is not replaced: the next would be refused as well. */
    minAgeMs: 5000,
    retryAfterFailureMs: 5000,
    /** How often a file with a token is read again. */
    rereadMs: 10_000,
  },
  /** When requests to a server are refused instead of failing: by failures in a row, or by their share lately. */
  breaker: {
    failuresToOpen: 5,
    successFloor: 0.8,
    minRequests: 10,
    windowMs: 30_000,
    firstOpenMs: 1000,
    maxOpenMs: 60_000,
    /** While a request tries whether the server is there again, the next one that may try waits this long. */
    trialMs: 1000,
  },
  /** When we refuse work because we are overloaded ourselves, and how fast that grows and fades. */
  shedding: {
    loadFrom: 0.8,
    loadUntil: 0.6,
    heapFrom: 0.85,
    heapUntil: 0.75,
    escalateAfterMs: 3000,
    relaxAfterMs: 10_000,
    startGraceMs: 10_000,
  },
  /** What mcp-vitals tells others about upstreams by itself (src/alerts/). */
  notifications: {
    /** A cause that lasts shorter wakes nobody, and one that is gone for shorter is not over. */
    forSeconds: 15,
    keepFiringForSeconds: 60,
    lookMs: 1000,
    /** An alert that fires is sent to Alertmanager this often, each time to end by itself after the other. */
    repeatMs: 60_000,
    expireMs: 240_000,
    /** Notices that wait for one receiver, and those that go to Alertmanager together. */
    maxWaiting: 1000,
    alertmanagerBatch: 100,
    timeoutMs: 10_000,
    backoff: { firstMs: 1000, maxMs: 60_000, maxRetryAfterMs: 600_000 },
    /** How long a shutdown goes on telling what waits. */
    flushMs: 1000,
    /** One line of the log in this time about a receiver that takes nothing. */
    logEveryMs: 60_000,
  },
  /** What alerts may ask for (POST /alerts). */
  recoveries: {
    minIntervalSeconds: 60,
    drainSeconds: 300,
    maxBodyBytes: 1024 * 1024,
    /** Occurrences of alerts for which something was done. */
    maxRemembered: 1000,
  },
  /**
   * What only the alert rules know (dashboards/src/); the response time, the failure rate and our own load that they
   * alert on are those above. Their windows and delays stand with the rules.
   */
  alerts: {
    /** Of 30 days, for each server: 3.6 hours may be missing. Shorter outages than that of 99.9 % are within the error. */
    availabilityObjectivePercent: 99.5,
    /** How many times too fast the budget is used up, over a long and a short window (Google's SRE workbook, ch. 5). */
    burnRates: {
      page: [
        { rate: 14.4, long: '1h', short: '5m' },
        { rate: 6, long: '6h', short: '30m' },
      ],
      ticket: [
        { rate: 3, long: '1d', short: '2h' },
        { rate: 1, long: '3d', short: '6h' },
      ],
    },
    /** One miss among ten calm heartbeats is 10 %: a share alone is not enough. */
    heartbeatMisses: 3,
    /**
     * A server that was unavailable for more of the last ten minutes than this (6 s) had an outage, which explains its
     * errors: three silent heartbeats take longer, and a process that ends and starts again most often less.
     */
    outageShare: 0.01,
    /** Outages within half an hour. */
    flaps: 4,
    /** Processes started again within a quarter of an hour: the fourth comes four to seven seconds after the first. */
    crashes: 4,
    /** Resident bytes of one process that it should not reach within the next hours, and how far it must have grown. */
    memoryBytes: 1024 * 1024 * 1024,
    memoryHorizonSeconds: 4 * 3600,
    memoryGrowth: 1.05,
    /** Tools fail by nature, a file that is not there is an answer too: only a tool that fails often is news. */
    toolErrorRatio: 0.25,
    toolErrors: 5,
    /** Requests in an hour. Models misspell names of tools now and then. */
    labelOverflows: 10,
  },
  /** How long a shutdown waits for requests in flight: what is left of the deadline belongs to the processes. */
  shutdownDrainMs: 4000,
  shutdownDeadlineMs: 14_000,
} as const

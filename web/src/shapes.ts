/** What the relay answers, as far as the pages read it. Instants are ISO-8601, money is USD. */

export interface Bucket {
  requests: number
  tokens: number
  inputTokens: number
  outputTokens: number
  cacheCreateTokens: number
  cacheReadTokens: number
  allTokens: number
  cost?: number
}

export interface Usage {
  total: Bucket
  daily: Bucket
  monthly: Bucket
}

/** A limit in force. `remaining` is never below 0. */
export interface Limit {
  limit: number
  used: number
  remaining: number
  resetAt: string | null
}

export const COST_LIMITS = [
  'dailyCostLimit',
  'weeklyCostLimit',
  'monthlyCostLimit',
  'totalCostLimit',
  'rateLimitCost',
] as const
export const COUNT_LIMITS = ['rateLimitRequests', 'tokenLimit', 'concurrencyLimit'] as const
export type CostLimit = (typeof COST_LIMITS)[number]
export type CountLimit = (typeof COUNT_LIMITS)[number]
export type LimitName = CostLimit | CountLimit
export type Limits = Partial<Record<LimitName, Limit>>

export interface ApiKey extends Record<CostLimit, number> {
  id: string
  name: string
  description: string
  tags: string[]
  isActive: boolean
  createdAt: string
  lastUsedAt: string
  expiresAt: string
  expirationMode: 'fixed' | 'activation'
  activationDays: number
  activatedAt: string | null
  tokenLimit: number | null
  concurrencyLimit: number | null
  rateLimitWindow: number
  rateLimitRequests: number
  claudeAccountId: string
  accountFallback: boolean
  enableModelRestriction: boolean
  restrictedModels: string[]
  allowedModels: string[]
  limits: Limits
  usage: Usage
  currentConcurrency: number
  deletedAt?: string
  purgeAt?: string
}

/** A page of the list of keys. */
export interface KeyList {
  data: ApiKey[]
  /** How many fit, on all pages. */
  total: number
  /** Every tag of every key. */
  tags: string[]
}

/** What creating or rotating answers: the only time the key itself is told. */
export interface NewKey {
  id: string
  apiKey: string
  name: string
}

export interface ModelUse {
  model: string
  requests: number
  inputTokens: number
  outputTokens: number
  cacheCreateTokens: number
  cacheReadTokens: number
  allTokens: number
  costs: {
    input: number
    output: number
    cacheWrite: number
    cacheRead: number
    webSearch?: number
    total: number
  }
  pricing?: { input: number; output: number; cacheWrite: number; cacheRead: number }
  unpriced?: boolean
}

/** The part of an account that other pages name it by. */
export interface AccountName {
  id: string
  name: string
  accountType: string
}

/** What was used in some range. */
export interface Use extends Omit<ModelUse, 'model' | 'pricing'> {
  cost: number
}

export interface RangeUse {
  by: 'hour' | 'day'
  total: Use
  series: (Use & { at: string })[]
  models: (Use & { model: string; pricing?: ModelUse['pricing'] })[]
  keys: (Use & { id: string; name: string; isDeleted: boolean })[]
}

export interface Running {
  id: string
  keyId: string
  keyName: string
  accountId: string | null
  accountName: string | null
  model: string | null
  stream: boolean
  purpose: 'message' | 'count_tokens'
  startedAt: string
  seconds: number
  state: 'waiting for upstream' | 'streaming'
  tokens: { input: number; output: number; cacheCreate: number; cacheRead: number; total: number } | null
  bytes: number
}

export interface Pools {
  relay: { size: number; busy: number }
  control: { size: number; busy: number; waiting: number }
}

export interface Live {
  at: string
  running: { count: number; requests: Running[] }
  perMinute: { requests: number; tokens: number }
  minutes: { requests: number; tokens: number }[]
  pools: Pools
  connections: { open: number; bodiesBytes: number }
  accounts: { id: string; name: string; inFlight: number }[]
  residentBytes: number
}

export interface Rest {
  reason: string
  scope: string
  until: string
  source: string
  message: string
  isSoft?: boolean
}

export interface AccountWindow {
  utilization: number
  status: string
  resetAt: string | null
  seenAt?: string
  name?: string
}

export interface Proxy {
  type: string
  host: string
  port: number | string
  username?: string
  password?: string
}

export interface Account {
  id: string
  name: string
  description: string
  kind: 'oauth' | 'api_key' | 'setup_token'
  accountType: string
  baseUrl: string | null
  isActive: boolean
  status: string
  errorMessage: string
  priority: number
  schedulable: boolean
  maxConcurrency: number
  inFlight: number
  expiresOn: string | null
  isExpired?: boolean
  dailyCostLimit: number
  modelMapping: Record<string, string> | null
  proxy: Proxy | null
  rest: Rest | null
  rests?: Rest[]
  windows: { fiveHour: AccountWindow | null; sevenDay: AccountWindow | null } | null
  otherWindows?: AccountWindow[]
  tokenExpiresAt: string | null
  lastRefreshAt: string
  lastUsedAt: string
  createdAt: string
  usage: { today: Bucket; total: Bucket }
  boundKeys?: number
  affinities?: number
}

export interface AccountEvent {
  at: string
  kind: string
  reason?: string
  scope?: string
  until?: string
  source?: string
  status?: number
  message: string
}

export interface Line {
  id: number
  requestId: string
  at: string
  keyId: string | null
  keyName: string | null
  keyDeleted: boolean
  accountId: string | null
  accountName: string | null
  accountDeleted: boolean
  model: string
  stream: boolean
  status: number
  complete: boolean
  outcome: 'ok' | 'error' | 'partial'
  tokens: {
    input: number
    output: number
    cacheCreate5m: number
    cacheCreate1h: number
    cacheRead: number
    total: number
  } | null
  webSearchRequests: number
  cost: {
    input: number
    output: number
    cacheWrite: number
    cacheRead: number
    webSearch: number
    total: number
  } | null
  priceVersion: string | null
  attempts: number
  /** Empty for requests that have no answer, and for those from before it was noted. */
  accountReason: '' | 'bound' | 'fallback' | 'affinity' | 'pool' | 'failover'
  firstByteMs: number | null
  totalMs: number
  upstreamRequestId: string | null
  serviceTier: string | null
  speed: string | null
  geo: string | null
}

export interface LogLine {
  id: number
  at: string
  level: 'ERROR' | 'WARN' | 'INFO' | 'DEBUG' | 'TRACE'
  target: string
  message: string
}

export interface SystemState {
  version: string
  startedAt: string
  uptimeSeconds: number
  checkedAt: string
  process: { residentBytes: number; threads: number }
  pools: Pools
  connections: { open: number; bodiesBytes: number }
  watchers: { open: number; max: number }
  database: { fileBytes: number; walBytes: number }
  ledger: { waiting: number; lines: number }
  counts: { keys: number; accounts: number; accountsUsable: number }
  timeZone: string
  upstreamHost: string
  prices: { edition: string; names: number; fetchedAt: string | null; ageSeconds: number | null }
  disk: { freeBytes: number; totalBytes: number } | null
  health: 'ok' | 'warning' | 'error'
  checks: Check[]
}

/** What a check found: a sentence of the relay's, and its code with the figures in it for a sentence of our own. */
export interface Check {
  name: string
  status: 'ok' | 'warning' | 'error'
  code: string
  figures: Record<string, number | string>
  message: string
  checkedAt: string
}

/** A setting: what it is, where it comes from, and whether it can be changed here. */
export interface Setting<T> {
  value: T
  source: 'environment' | 'stored' | 'default'
  fixed: boolean
}

export const WEBHOOK_EVENTS = [
  'account.down',
  'account.recovered',
  'account.refresh_failed',
  'key.budget_reached',
  'model.unpriced',
] as const

export interface Settings {
  timeZone: Setting<string> & { inForce: string }
  retentionDays: Setting<number>
  priceSource: Setting<string>
  title: Setting<string>
  description: Setting<string>
  logoUrl: Setting<string>
  webhook: {
    url: Setting<string> & { isSet: boolean }
    secret: Setting<string> & { isSet: boolean }
    preset: Setting<string>
    events: Setting<string[]>
    state: {
      waiting: number
      sent: number
      failed: number
      dropped: number
      lastSentAt: string | null
      lastError: string | null
      lastErrorAt: string | null
    }
  }
  restartNeeded: boolean
}

export interface Rates {
  input: number
  output: number
  cacheWrite5m: number
  cacheWrite1h: number
  cacheRead: number
}

export interface Price extends Rates {
  model: string
  source: 'override' | 'builtin' | 'downloaded'
  edition: string
  tiers: (Rates & { from: string | null; above: number })[]
  webSearch: number
}

export interface Prices {
  edition: string
  names: number
  fetchedAt: string | null
  ageSeconds: number | null
  priceSource: string
  unpriced: { model: string; requests: number; lastDay: string; hasPriceNow: boolean }[]
  models: Price[]
}

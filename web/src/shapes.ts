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

import { describe, expect, it } from 'vitest'
import { bodyOf, check, emptyForm, fieldOf, formOf, keyState, tightest, withPreset } from './keys'
import type { ApiKey } from './shapes'

const bucket = {
  requests: 0,
  tokens: 0,
  inputTokens: 0,
  outputTokens: 0,
  cacheCreateTokens: 0,
  cacheReadTokens: 0,
  allTokens: 0,
  cost: 0,
}
const NOW = Date.parse('2026-11-24T12:00:00Z')

function key(more: Partial<ApiKey> = {}): ApiKey {
  return {
    id: 'id',
    name: 'Ann',
    description: '',
    tags: [],
    isActive: true,
    createdAt: '2026-01-01T00:00:00Z',
    lastUsedAt: '',
    expiresAt: '',
    expirationMode: 'fixed',
    activationDays: 0,
    activatedAt: null,
    tokenLimit: 0,
    concurrencyLimit: 0,
    rateLimitWindow: 0,
    rateLimitRequests: 0,
    rateLimitCost: 0,
    dailyCostLimit: 0,
    weeklyCostLimit: 0,
    monthlyCostLimit: 0,
    totalCostLimit: 0,
    claudeAccountId: '',
    accountFallback: false,
    enableModelRestriction: false,
    restrictedModels: [],
    allowedModels: [],
    limits: {},
    usage: { total: bucket, daily: bucket, monthly: bucket },
    currentConcurrency: 0,
    ...more,
  }
}
const limit = (used: number, max: number) => ({
  limit: max,
  used,
  remaining: Math.max(0, max - used),
  resetAt: null,
})

describe('a key', () => {
  it('is what keeps it from being used', () => {
    expect(keyState(key(), NOW)).toBe('active')
    expect(keyState(key({ isActive: false, expiresAt: '2020-01-01' }), NOW)).toBe('off')
    expect(keyState(key({ expiresAt: '2026-11-24T12:00:00Z' }), NOW)).toBe('expired')
    expect(keyState(key({ limits: { dailyCostLimit: limit(5, 5) } }), NOW)).toBe('reached')
    expect(keyState(key({ limits: { concurrencyLimit: limit(2, 2) } }), NOW)).toBe('active')
  })
  it('shows the limit that is nearest to its end', () => {
    expect(tightest(key())).toBeNull()
    const limits = {
      dailyCostLimit: limit(1, 5),
      totalCostLimit: limit(40, 50),
      concurrencyLimit: limit(1, 1),
    }
    expect(tightest(key({ limits }))).toEqual(['totalCostLimit', 0.8])
  })
})

describe('the form', () => {
  const same = (at: string) => at
  it('goes to the relay and comes back unchanged', () => {
    const before = {
      ...emptyForm(),
      name: 'Ann',
      dailyCostLimit: '2.5',
      rateLimitWindow: '60',
      rateLimitRequests: '10',
      tags: ['a'],
    }
    const body = bodyOf(before, true, same)
    expect(formOf(key(body as Partial<ApiKey>), same)).toEqual(before)
  })
  it('shows no limit of a window that there is not', () => {
    expect(formOf(key({ tokenLimit: 1_000_000 }), same).tokenLimit).toBe('')
    expect(formOf(key({ tokenLimit: 1_000_000, rateLimitWindow: 5 }), same).tokenLimit).toBe('1000000')
  })
  it('sends no zero where a new key may have none', () => {
    const body = bodyOf({ ...emptyForm(), name: 'Ann' }, true, same)
    expect(JSON.parse(JSON.stringify(body))).not.toHaveProperty('rateLimitWindow')
    expect(bodyOf({ ...emptyForm(), name: 'Ann' }, false, same).rateLimitWindow).toBe(0)
  })
  it('says what is wrong beside the field', () => {
    expect(check({ ...emptyForm(), name: ' ', dailyCostLimit: '-1', concurrencyLimit: '1.5' })).toEqual({
      name: 'keyForm.errors.name',
      dailyCostLimit: 'keyForm.errors.amount',
      concurrencyLimit: 'keyForm.errors.whole',
    })
    expect(check({ ...emptyForm(), name: 'a', rateLimitRequests: '5' })).toEqual({
      rateLimitWindow: 'keyForm.errors.window',
    })
    expect(check({ ...emptyForm(), name: 'a', expiry: 'days', activationDays: '0' })).toEqual({
      activationDays: 'keyForm.errors.days',
    })
  })
  it('finds the field that the relay’s refusal speaks of', () => {
    expect(fieldOf('dailyCostLimit must be an amount in USD from 0 to 1000000')).toBe('dailyCostLimit')
    expect(fieldOf('Rate limit window must be a positive integer (minutes)')).toBe('rateLimitWindow')
    expect(fieldOf('count must be a whole number from 1 to 500')).toBe('count')
    expect(fieldOf('Something else')).toBeNull()
  })
  it('takes a preset’s limits and drops the others', () => {
    const form = withPreset({ ...emptyForm(), name: 'Ann', totalCostLimit: '9' }, 'light')
    expect([form.name, form.totalCostLimit, form.dailyCostLimit]).toEqual(['Ann', '', '2'])
  })
})

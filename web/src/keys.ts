/** What the pages know about API keys. Pure. */

import { COST_LIMITS, type ApiKey, type CostLimit, type LimitName } from './shapes'

export type KeyState = 'active' | 'off' | 'expired' | 'reached'

/** One word for a key: what keeps it from being used, if anything does. */
export function keyState(key: ApiKey, now: number): KeyState {
  if (!key.isActive) return 'off'
  if (key.expiresAt && Date.parse(key.expiresAt) <= now) return 'expired'
  const isReached = Object.entries(key.limits ?? {}).some(
    ([name, limit]) => name !== 'concurrencyLimit' && limit.remaining <= 0,
  )
  return isReached ? 'reached' : 'active'
}

/** The limit that is nearest to its end, which a row shows. */
export function tightest(key: ApiKey): [LimitName, number] | null {
  let found: [LimitName, number] | null = null
  for (const [name, limit] of Object.entries(key.limits ?? {})) {
    if (name === 'concurrencyLimit') continue
    const share = limit.limit > 0 ? limit.used / limit.limit : 0
    if (!found || share > found[1]) found = [name as LimitName, share]
  }
  return found
}

/** A key's form: every field is a text as it was typed. Blank means none. */
export interface KeyForm extends Record<CostLimit, string> {
  name: string
  description: string
  tags: string[]
  concurrencyLimit: string
  rateLimitWindow: string
  rateLimitRequests: string
  tokenLimit: string
  expiry: 'never' | 'date' | 'days'
  expiresAt: string
  activationDays: string
  claudeAccountId: string
  accountFallback: boolean
  allowedModels: string[]
  restrictedModels: string[]
}

export function emptyForm(): KeyForm {
  return {
    name: '',
    description: '',
    tags: [],
    dailyCostLimit: '',
    weeklyCostLimit: '',
    monthlyCostLimit: '',
    totalCostLimit: '',
    rateLimitCost: '',
    concurrencyLimit: '',
    rateLimitWindow: '',
    rateLimitRequests: '',
    tokenLimit: '',
    expiry: 'never',
    expiresAt: '',
    activationDays: '30',
    claudeAccountId: '',
    accountFallback: false,
    allowedModels: [],
    restrictedModels: [],
  }
}

const orBlank = (value: number | null | undefined) => (value ? String(value) : '')

/** The form of a key that exists. `toLocal` writes an instant as its field does. */
export function formOf(key: ApiKey, toLocal: (at: string) => string): KeyForm {
  const isByUse = key.expirationMode === 'activation'
  // Without a window its limits are not in force, whatever they say: a key of the original has a default that means nothing.
  const inWindow = (value: number | null) => (key.rateLimitWindow ? orBlank(value) : '')
  return {
    ...emptyForm(),
    name: key.name,
    description: key.description ?? '',
    tags: [...(key.tags ?? [])],
    dailyCostLimit: orBlank(key.dailyCostLimit),
    weeklyCostLimit: orBlank(key.weeklyCostLimit),
    monthlyCostLimit: orBlank(key.monthlyCostLimit),
    totalCostLimit: orBlank(key.totalCostLimit),
    rateLimitCost: inWindow(key.rateLimitCost),
    concurrencyLimit: orBlank(key.concurrencyLimit),
    rateLimitWindow: orBlank(key.rateLimitWindow),
    rateLimitRequests: inWindow(key.rateLimitRequests),
    tokenLimit: inWindow(key.tokenLimit),
    expiry: isByUse ? 'days' : key.expiresAt ? 'date' : 'never',
    expiresAt: key.expiresAt && !isByUse ? toLocal(key.expiresAt) : '',
    activationDays: orBlank(key.activationDays) || '30',
    claudeAccountId: key.claudeAccountId ?? '',
    accountFallback: key.accountFallback ?? false,
    allowedModels: [...(key.allowedModels ?? [])],
    restrictedModels: key.enableModelRestriction ? [...(key.restrictedModels ?? [])] : [],
  }
}

const amount = (text: string) => (text.trim() === '' ? 0 : Number(text))

/** What is sent for a form. `isNew`: where the original takes no 0, nothing is sent. `toInstant` reads the field of an instant. */
export function bodyOf(
  form: KeyForm,
  isNew: boolean,
  toInstant: (local: string) => string,
): Record<string, unknown> {
  const window = amount(form.rateLimitWindow)
  const requests = amount(form.rateLimitRequests)
  const isByUse = form.expiry === 'days'
  return {
    name: form.name.trim(),
    description: form.description,
    tags: form.tags,
    ...Object.fromEntries(COST_LIMITS.map((name) => [name, amount(form[name])])),
    concurrencyLimit: amount(form.concurrencyLimit),
    rateLimitWindow: isNew && !window ? undefined : window,
    rateLimitRequests: isNew && !requests ? undefined : requests,
    tokenLimit: amount(form.tokenLimit),
    expirationMode: isByUse ? 'activation' : 'fixed',
    activationDays: isByUse ? amount(form.activationDays) : 0,
    expiresAt: form.expiry === 'date' && form.expiresAt ? toInstant(form.expiresAt) : null,
    claudeAccountId: form.claudeAccountId || null,
    accountFallback: form.accountFallback,
    allowedModels: form.allowedModels,
    enableModelRestriction: form.restrictedModels.length > 0,
    restrictedModels: form.restrictedModels,
  }
}

export type FormErrors = Partial<Record<keyof KeyForm | 'count', string>>

const WHOLE = ['concurrencyLimit', 'rateLimitWindow', 'rateLimitRequests', 'tokenLimit'] as const

/** What is wrong before anything is sent: message keys by field. */
export function check(form: KeyForm): FormErrors {
  const errors: FormErrors = {}
  if (!form.name.trim()) errors.name = 'keyForm.errors.name'
  for (const name of COST_LIMITS) {
    const value = amount(form[name])
    if (!(value >= 0 && value <= 1_000_000)) errors[name] = 'keyForm.errors.amount'
  }
  for (const name of WHOLE) {
    const value = amount(form[name])
    if (!(Number.isInteger(value) && value >= 0)) errors[name] = 'keyForm.errors.whole'
  }
  const needsWindow = form.rateLimitRequests || form.tokenLimit || form.rateLimitCost
  if (needsWindow && !amount(form.rateLimitWindow)) errors.rateLimitWindow ??= 'keyForm.errors.window'
  if (form.expiry === 'date' && !form.expiresAt) errors.expiresAt = 'keyForm.errors.date'
  const days = amount(form.activationDays)
  if (form.expiry === 'days' && !(Number.isInteger(days) && days >= 1 && days <= 3650)) {
    errors.activationDays = 'keyForm.errors.days'
  }
  return errors
}

const STARTS: [string, keyof KeyForm][] = [
  ['name', 'name'],
  ['description', 'description'],
  ['tags', 'tags'],
  ['allowed models', 'allowedModels'],
  ['restricted models', 'restrictedModels'],
  ['expiry', 'expiresAt'],
  ['token limit', 'tokenLimit'],
  ['concurrency limit', 'concurrencyLimit'],
  ['rate limit window', 'rateLimitWindow'],
  ['rate limit requests', 'rateLimitRequests'],
]

/** The field that the server's refusal speaks of, so that its words stand beside it. */
export function fieldOf(refusal: string): keyof KeyForm | 'count' | null {
  const first = refusal.split(' ')[0] ?? ''
  if (first === 'count') return 'count'
  if (first in emptyForm()) return first as keyof KeyForm
  const text = refusal.toLowerCase()
  return STARTS.find(([start]) => text.startsWith(start))?.[1] ?? null
}

/** Limits to begin with; every figure can be changed afterwards. */
export const PRESETS: Record<'none' | 'light' | 'normal', Partial<KeyForm>> = {
  none: {},
  light: { dailyCostLimit: '2', monthlyCostLimit: '20', concurrencyLimit: '2' },
  normal: { dailyCostLimit: '10', monthlyCostLimit: '100', concurrencyLimit: '5' },
}

/** The form with the limits of a preset and no others. */
export function withPreset(form: KeyForm, preset: keyof typeof PRESETS): KeyForm {
  const blank = emptyForm()
  const limits = [...COST_LIMITS, ...WHOLE]
  return { ...form, ...Object.fromEntries(limits.map((name) => [name, blank[name]])), ...PRESETS[preset] }
}

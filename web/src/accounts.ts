/** What the pages know about accounts. Pure. */

import type { Account, Proxy } from './shapes'

export type AccountState =
  'serving' | 'resting' | 'slowed' | 'spent' | 'stopped' | 'paused' | 'off' | 'expired' | 'created'

/** One word for an account; the sentence of it is made from the same record. */
export function accountState(account: Account, now: number): AccountState {
  if (!account.isActive) return 'off'
  if (account.isExpired || (account.expiresOn && Date.parse(account.expiresOn) <= now)) return 'expired'
  if (account.status === 'error') return 'stopped'
  if (account.status === 'created') return 'created'
  if (account.schedulable === false) return 'paused'
  const { rest } = account
  if (rest && Date.parse(rest.until) > now) {
    return rest.isSoft || (rest.scope !== 'account' && rest.scope) ? 'slowed' : 'resting'
  }
  const { dailyCostLimit, usage } = account
  return dailyCostLimit > 0 && (usage.today.cost ?? 0) >= dailyCostLimit ? 'spent' : 'serving'
}

export const STATE_KINDS = {
  serving: 'good',
  resting: 'warn',
  slowed: 'warn',
  spent: 'warn',
  stopped: 'bad',
  paused: 'off',
  off: 'off',
  expired: 'bad',
  created: 'warn',
} as const

/** An account's form: every field is a text as it was typed. */
export interface AccountForm {
  name: string
  description: string
  secret: string
  baseUrl: string
  accountType: string
  priority: string
  maxConcurrency: string
  dailyCostLimit: string
  expiresOn: string
  schedulable: boolean
  /** Lines of `asked=sent`. */
  modelMapping: string
  hasProxy: boolean
  proxy: { type: string; host: string; port: string; username: string; password: string }
}

export function emptyAccount(): AccountForm {
  return {
    name: '',
    description: '',
    secret: '',
    baseUrl: '',
    accountType: 'shared',
    priority: '50',
    maxConcurrency: '',
    dailyCostLimit: '',
    expiresOn: '',
    schedulable: true,
    modelMapping: '',
    hasProxy: false,
    proxy: { type: 'socks5', host: '', port: '', username: '', password: '' },
  }
}

export function accountForm(account: Account, toLocal: (at: string) => string): AccountForm {
  const { proxy } = account
  return {
    ...emptyAccount(),
    name: account.name,
    description: account.description ?? '',
    baseUrl: account.baseUrl ?? '',
    accountType: account.accountType ?? 'shared',
    priority: String(account.priority ?? 50),
    maxConcurrency: account.maxConcurrency ? String(account.maxConcurrency) : '',
    dailyCostLimit: account.dailyCostLimit ? String(account.dailyCostLimit) : '',
    expiresOn: account.expiresOn ? toLocal(account.expiresOn) : '',
    schedulable: account.schedulable !== false,
    modelMapping: Object.entries(account.modelMapping ?? {})
      .map(([asked, sent]) => `${asked}=${sent}`)
      .join('\n'),
    hasProxy: proxy !== null && proxy !== undefined,
    // Its password never comes here; what is left blank stays as it is.
    proxy: proxy
      ? {
          type: proxy.type,
          host: proxy.host,
          port: String(proxy.port),
          username: proxy.username ?? '',
          password: '',
        }
      : emptyAccount().proxy,
  }
}

export function proxyOf(form: AccountForm): Proxy | null {
  if (!form.hasProxy) return null
  const { type, host, port, username, password } = form.proxy
  const proxy: Proxy = { type, host: host.trim(), port: Number(port) }
  if (username) proxy.username = username
  if (password) proxy.password = password
  return proxy
}

/** The names of `asked=sent` lines; null when a line is none. */
export function mappingOf(text: string): Record<string, string> | null {
  const found: Record<string, string> = {}
  for (const line of text.split('\n')) {
    if (!line.trim()) continue
    const [asked = '', sent = '', ...more] = line.split('=').map((part) => part.trim())
    if (!asked || !sent || more.length) return null
    found[asked] = sent
  }
  return found
}

export type AccountErrors = Partial<Record<keyof AccountForm | 'host' | 'port', string>>

/** What is wrong before anything is sent: message keys by field. */
export function checkAccount(form: AccountForm): AccountErrors {
  const errors: AccountErrors = {}
  if (!form.name.trim()) errors.name = 'account.errors.name'
  const priority = Number(form.priority || 50)
  if (!(Number.isInteger(priority) && priority >= 1 && priority <= 100))
    errors.priority = 'account.errors.priority'
  const most = Number(form.maxConcurrency || 0)
  if (!(Number.isInteger(most) && most >= 0)) errors.maxConcurrency = 'keyForm.errors.whole'
  if (!(Number(form.dailyCostLimit || 0) >= 0)) errors.dailyCostLimit = 'keyForm.errors.amount'
  if (mappingOf(form.modelMapping) === null) errors.modelMapping = 'account.errors.mapping'
  if (form.hasProxy) {
    if (!form.proxy.host.trim()) errors.host = 'account.errors.host'
    const port = Number(form.proxy.port)
    if (!(Number.isInteger(port) && port >= 1 && port <= 65_535)) errors.port = 'account.errors.port'
  }
  return errors
}

/** What all kinds of account send. */
export function accountBody(
  form: AccountForm,
  toInstant: (local: string) => string,
): Record<string, unknown> {
  return {
    name: form.name.trim(),
    description: form.description,
    accountType: form.accountType,
    priority: Number(form.priority || 50),
    schedulable: form.schedulable,
    maxConcurrency: Number(form.maxConcurrency || 0),
    dailyCostLimit: Number(form.dailyCostLimit || 0),
    expiresOn: form.expiresOn ? toInstant(form.expiresOn) : null,
    modelMapping: mappingOf(form.modelMapping) ?? {},
    proxy: proxyOf(form),
  }
}

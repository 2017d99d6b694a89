/** How far the set-up of a new relay is, from what the relay really has. */

import { get, json } from './api'
import type { Account, KeyList } from './shapes'

export const STEPS = ['password', 'account', 'key', 'request'] as const
export type Step = (typeof STEPS)[number]

interface User {
  user: { isPasswordMadeUp?: boolean }
}

/** Which steps are done. */
export async function progress(): Promise<Record<Step, boolean>> {
  const [{ user }, accounts, keys] = await Promise.all([
    json<User>('GET', '/web/auth/user'),
    get<Account[]>('/admin/claude-accounts'),
    json<KeyList>('GET', '/admin/api-keys?sort=lastUsedAt&order=desc&limit=1'),
  ])
  return {
    password: user.isPasswordMadeUp !== true,
    account: accounts.length > 0,
    key: keys.total > 0,
    request: keys.data.some((key) => key.lastUsedAt !== ''),
  }
}

/** Whether somebody has begun to use the relay, so that it needs no guide any more. */
export async function isSetUp(): Promise<boolean> {
  const { account, key } = await progress()
  return account || key
}

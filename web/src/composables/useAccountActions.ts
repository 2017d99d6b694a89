/** What can be done with an account, wherever it is shown. */

import { reactive } from 'vue'
import { useI18n } from 'vue-i18n'
import { json, post, put, remove } from '../api'
import type { Account } from '../shapes'
import { useAction } from './useAction'
import { confirm } from './useConfirm'
import { useErrorText } from './useErrorText'
import { useFormat } from './useFormat'
import { notify } from './useNotes'

interface Tested {
  ok: boolean
  status: number
  latencyMs: number
  model: string
  message: string
}

export function useAccountActions(changed: () => void) {
  const { t } = useI18n()
  const format = useFormat()
  const errorText = useErrorText()
  const { isBusy, run } = useAction()
  /** How the last test of each account went. */
  const tests = reactive(new Map<string, { isGood: boolean; text: string } | 'running'>())
  const path = (account: Account) => `/admin/claude-accounts/${encodeURIComponent(account.id)}`

  /** Does it, says so, and looks again. */
  const done = (work: () => Promise<unknown>, key: string, account: Account) =>
    run(async () => {
      await work()
      notify({ kind: 'good', text: t(key, { name: account.name }) })
      changed()
    })

  async function test(account: Account): Promise<void> {
    tests.set(account.id, 'running')
    try {
      const { ok, status, latencyMs, model, message } = await post<Tested>(`${path(account)}/test`, {})
      const time = format.latency(latencyMs)
      const text = ok
        ? t('account.testGood', { model, time })
        : t('account.testBad', { status: status || '–', message })
      tests.set(account.id, { isGood: ok, text })
    } catch (error) {
      tests.set(account.id, { isGood: false, text: errorText(error) })
    }
    changed()
  }

  const wake = (account: Account) =>
    done(() => json('POST', `${path(account)}/wake`), 'account.woken', account)
  const refresh = (account: Account) =>
    done(() => json('POST', `${path(account)}/refresh`), 'account.refreshed', account)
  const setActive = (account: Account, isActive: boolean) =>
    done(
      () => put(path(account), { isActive }),
      isActive ? 'account.switchedOn' : 'account.switchedOff',
      account,
    )

  async function erase(account: Account): Promise<boolean> {
    const bound = account.boundKeys ?? 0
    const isSure = await confirm({
      title: t('account.deleteTitle', { name: account.name }),
      text: [bound ? t('account.deleteBound', { count: bound }, bound) : '', t('account.deleteText')]
        .filter(Boolean)
        .join('\n\n'),
      action: t('account.delete'),
      isDangerous: true,
    })
    return isSure && done(() => remove(path(account)), 'account.deleted', account)
  }

  return { isBusy, tests, test, wake, refresh, setActive, erase }
}

/** What can be done with a key, wherever it is shown: each asks first where something would be lost. */

import { useI18n } from 'vue-i18n'
import { json, post, put, remove } from '../api'
import type { ApiKey, NewKey } from '../shapes'
import { confirm } from './useConfirm'
import { useAction } from './useAction'
import { notify } from './useNotes'

export function useKeyActions(changed: () => void, renewed: (key: NewKey) => void) {
  const { t } = useI18n()
  const { isBusy, run } = useAction()
  const path = (key: ApiKey) => `/admin/api-keys/${encodeURIComponent(key.id)}`

  const restore = (key: ApiKey) =>
    run(async () => {
      await json('POST', `${path(key)}/restore`)
      notify({ kind: 'good', text: t('keys.restored', { name: key.name }) })
      changed()
    })

  const setActive = (key: ApiKey, isActive: boolean) =>
    run(async () => {
      await put(path(key), { isActive })
      notify({ kind: 'good', text: t(isActive ? 'keys.enabled' : 'keys.disabled', { name: key.name }) })
      changed()
    })

  async function rotate(key: ApiKey): Promise<void> {
    const isSure = await confirm({
      title: t('keys.rotateTitle', { name: key.name }),
      text: t('keys.rotateText'),
      action: t('keys.rotate'),
      isDangerous: true,
    })
    if (!isSure) return
    await run(async () => {
      renewed(await post<NewKey>(`${path(key)}/rotate`))
      changed()
    })
  }

  async function erase(key: ApiKey): Promise<boolean> {
    const isSure = await confirm({
      title: t('keys.deleteTitle', { name: key.name }),
      text: t('keys.deleteText'),
      action: t('keys.delete'),
      isDangerous: true,
    })
    if (!isSure) return false
    return run(async () => {
      await remove(path(key))
      notify({
        kind: 'good',
        text: t('keys.deleted', { name: key.name }),
        action: { label: t('common.undo'), run: () => void restore(key) },
      })
      changed()
    })
  }

  return { isBusy, restore, setActive, rotate, erase }
}

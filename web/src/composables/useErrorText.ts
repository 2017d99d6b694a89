/** What went wrong and what to do about it, in the language of the page. The server's own words are added where it has any. */

import { useI18n } from 'vue-i18n'
import { ApiError } from '../api'
import { useTold } from './useTold'

/** The message key of a failure. */
export function errorKey(error: unknown): string {
  if (!(error instanceof ApiError)) return 'error.unexpected'
  if (error.status === 0) return 'error.unreachable'
  // What the upstream does not know is nothing that went here.
  if (error.status === 404 && error.title) return 'error.gone'
  const known: Record<number, string> = {
    401: 'error.signedOut',
    403: 'error.forbidden',
    413: 'error.tooLarge',
    429: 'error.tooMany',
    503: 'error.busy',
  }
  return known[error.status] ?? (error.status >= 500 ? 'error.server' : 'error.refused')
}

export function useErrorText() {
  const { t } = useI18n()
  const words = useTold()
  return (error: unknown): string => {
    if (error instanceof ApiError && error.told) return words(error.told)
    const key = errorKey(error)
    const advice = t(key)
    const said = error instanceof ApiError ? error.message : ''
    if (key === 'error.gone') return advice
    if (key === 'error.refused') return said ? t('error.refusedWhy', { reason: said }) : advice
    return said ? t('error.withReason', { advice, reason: said }) : advice
  }
}

/** What went wrong and what to do about it, in the language of the page. The server's own words are added where it has any. */

import { useI18n } from 'vue-i18n'
import { ApiError } from '../api'

/** The message key of a failure. */
export function errorKey(error: unknown): string {
  if (!(error instanceof ApiError)) return 'error.unexpected'
  if (error.status === 0) return 'error.unreachable'
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
  return (error: unknown): string => {
    const key = errorKey(error)
    const advice = t(key)
    const said = error instanceof ApiError ? error.message : ''
    if (key === 'error.refused') return said || advice
    return said ? t('error.withReason', { advice, reason: said }) : advice
  }
}

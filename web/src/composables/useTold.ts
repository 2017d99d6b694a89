/** Sentences of the relay that have a name, in the language of the page. */

import { useI18n } from 'vue-i18n'

/** A sentence as the relay sends it: its name, what stands in it, and the English of it. A value may be a sentence itself. */
export interface Told {
  code: string
  values?: Record<string, unknown>
  text: string
}

const isTold = (value: unknown): value is Told =>
  typeof value === 'object' && value !== null && 'code' in value && 'text' in value

export function useTold() {
  const { t, te } = useI18n()
  return function words({ code, values = {}, text }: Told): string {
    const key = `told.${code}`
    if (!te(key)) return text
    const named = Object.entries(values).map(([name, value]) => [name, isTold(value) ? words(value) : value])
    return t(key, Object.fromEntries(named) as Record<string, unknown>, Number(values.count ?? 1))
  }
}

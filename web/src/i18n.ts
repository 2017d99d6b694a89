/** The two languages. Only the chosen one is loaded; the choice may stay in the browser. */

import { createI18n } from 'vue-i18n'

export const LOCALES = { en: 'English', 'zh-CN': '简体中文' } as const
export type Locale = keyof typeof LOCALES
const KEY = 'relay-locale'

const loaders: Record<Locale, () => Promise<{ default: object }>> = {
  en: () => import('./i18n/en.json'),
  'zh-CN': () => import('./i18n/zh-CN.json'),
}

export const i18n = createI18n({ legacy: false, locale: 'en', fallbackLocale: false, messages: {} })

function preferred(): Locale {
  const stored = localStorage.getItem(KEY)
  if (stored === 'en' || stored === 'zh-CN') return stored
  return navigator.languages
    .find((name) => /^(zh|en)\b/i.test(name))
    ?.toLowerCase()
    .startsWith('zh')
    ? 'zh-CN'
    : 'en'
}

async function use(locale: Locale): Promise<void> {
  const global = i18n.global
  if (!global.availableLocales.includes(locale as never)) {
    global.setLocaleMessage(locale, (await loaders[locale]()).default as never)
  }
  global.locale.value = locale as never
  document.documentElement.lang = locale
}

export function setLocale(locale: Locale): Promise<void> {
  localStorage.setItem(KEY, locale)
  return use(locale)
}

export function startLocale(): Promise<void> {
  return use(preferred())
}

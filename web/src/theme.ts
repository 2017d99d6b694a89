/** Light, dark, or as the system says. The choice is no secret and may stay in the browser. */

import { ref } from 'vue'

export type Theme = 'system' | 'light' | 'dark'
const KEY = 'relay-theme'

function stored(): Theme {
  const found = localStorage.getItem(KEY)
  return found === 'light' || found === 'dark' ? found : 'system'
}

export const theme = ref<Theme>(stored())

export function setTheme(chosen: Theme): void {
  theme.value = chosen
  if (chosen === 'system') {
    localStorage.removeItem(KEY)
    delete document.documentElement.dataset.theme
  } else {
    localStorage.setItem(KEY, chosen)
    document.documentElement.dataset.theme = chosen
  }
}

setTheme(theme.value)

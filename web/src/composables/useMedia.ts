/** Whether a media query holds, as it changes. */

import { onScopeDispose, ref } from 'vue'

export function useMedia(query: string) {
  const list = matchMedia(query)
  const matches = ref(list.matches)
  const update = () => (matches.value = list.matches)
  list.addEventListener('change', update)
  onScopeDispose(() => list.removeEventListener('change', update))
  return matches
}

/** Narrow: cards instead of tables. */
export const useIsNarrow = () => useMedia('(max-width: 639.98px)')

/** Something read from the relay, with its states: loading, failed, there. A newer question ends an older one. */

import { onScopeDispose, ref, shallowRef } from 'vue'

export function useAsk<T>(question: (signal: AbortSignal) => Promise<T>) {
  const data = shallowRef<T | null>(null)
  const error = shallowRef<unknown>(null)
  const isLoading = ref(false)
  let running: AbortController | null = null

  async function load(): Promise<void> {
    running?.abort()
    const mine = new AbortController()
    running = mine
    isLoading.value = true
    try {
      const found = await question(mine.signal)
      if (mine.signal.aborted) return
      data.value = found
      error.value = null
    } catch (failure) {
      if (mine.signal.aborted) return
      error.value = failure
    }
    isLoading.value = false
  }

  onScopeDispose(() => running?.abort())
  return { data, error, isLoading, load }
}

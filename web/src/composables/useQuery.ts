/** Parts of a page's state that live in its address, so that a view can be bookmarked. Never anything secret. */

import { computed, type WritableComputedRef } from 'vue'
import { useRoute, useRouter } from 'vue-router'

/** A text in the query; the default is not written. Changes made in one go become one entry. */
export function useQuery() {
  const route = useRoute()
  const router = useRouter()
  let pending: Record<string, string | undefined> | null = null

  function set(name: string, value: string | undefined): void {
    if (pending) {
      pending[name] = value
      return
    }
    pending = { [name]: value }
    const path = route.path
    queueMicrotask(() => {
      const query = { ...route.query, ...pending }
      pending = null
      if (route.path === path) void router.replace({ query })
    })
  }

  return function text(name: string, initial = ''): WritableComputedRef<string> {
    return computed({
      get: () => {
        const found = route.query[name]
        return typeof found === 'string' ? found : initial
      },
      set: (value) => set(name, value === initial ? undefined : value),
    })
  }
}

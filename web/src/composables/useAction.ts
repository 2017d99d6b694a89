/** Something that is done: busy while it runs, and its failure shown as a note unless the caller shows it. */

import { ref } from 'vue'
import { useErrorText } from './useErrorText'
import { notify } from './useNotes'

export function useAction() {
  const isBusy = ref(false)
  const errorText = useErrorText()

  /** True when it succeeded. */
  async function run(work: () => Promise<void>, onError?: (error: unknown) => void): Promise<boolean> {
    if (isBusy.value) return false
    isBusy.value = true
    try {
      await work()
      return true
    } catch (error) {
      if (onError) onError(error)
      else notify({ text: errorText(error), kind: 'bad' })
      return false
    } finally {
      isBusy.value = false
    }
  }

  return { isBusy, run }
}

/** One question at a time, in a dialog of the page's own. */

import { shallowRef } from 'vue'

export interface Question {
  title: string
  /** What will happen, and what will be lost. */
  text: string
  /** What the button does, as a verb. */
  action: string
  isDangerous?: boolean
}

interface Asked extends Question {
  answer: (isYes: boolean) => void
}

export const asked = shallowRef<Asked | null>(null)

export function confirm(question: Question): Promise<boolean> {
  asked.value?.answer(false)
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer: (isYes) => {
        asked.value = null
        resolve(isYes)
      },
    }
  })
}

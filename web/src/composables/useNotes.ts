/** Short notes at the edge of the page, at most four; each goes by itself or with its cross. */

import { reactive } from 'vue'

export interface Note {
  id: number
  text: string
  kind: 'good' | 'bad'
  /** Something to do about it, such as undoing. */
  action?: { label: string; run: () => void }
}

const NOTES_MAX = 4
const LIFE_MS = { good: 6000, bad: 12_000, action: 10_000 }
let next = 1
export const notes = reactive<Note[]>([])

export function dismiss(id: number): void {
  const at = notes.findIndex((note) => note.id === id)
  if (at >= 0) notes.splice(at, 1)
}

export function notify(note: Omit<Note, 'id'>): void {
  const id = next++
  // Said again, it stands once.
  const same = notes.find(({ text, action }) => text === note.text && !action)
  if (same) dismiss(same.id)
  notes.push({ ...note, id })
  if (notes.length > NOTES_MAX) notes.shift()
  setTimeout(() => dismiss(id), note.action ? LIFE_MS.action : LIFE_MS[note.kind])
}

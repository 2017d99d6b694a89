/** Short notes at the edge of the page, at most four; each goes by itself, unless someone is at them, or with its cross. */

import { reactive } from 'vue'

export interface Note {
  id: number
  text: string
  kind: 'good' | 'bad'
  /** Something to do about it, such as undoing. */
  action?: { label: string; run: () => void }
}

const NOTES_MAX = 4
const LIFE_MS = { good: 6000, bad: 12_000, action: 20_000 }
let next = 1
let isHeld = false
const timers = new Map<number, ReturnType<typeof setTimeout>>()
export const notes = reactive<Note[]>([])

function age({ id, kind, action }: Note): void {
  if (isHeld) return
  clearTimeout(timers.get(id))
  timers.set(
    id,
    setTimeout(() => dismiss(id), action ? LIFE_MS.action : LIFE_MS[kind]),
  )
}

export function dismiss(id: number): void {
  const at = notes.findIndex((note) => note.id === id)
  if (at >= 0) notes.splice(at, 1)
  clearTimeout(timers.get(id))
  timers.delete(id)
}

export function notify(note: Omit<Note, 'id'>): void {
  // Said again, it stands once.
  const same = notes.find(({ text, action }) => text === note.text && !action)
  if (same) dismiss(same.id)
  const fresh = { ...note, id: next++ }
  notes.push(fresh)
  age(fresh)
  if (notes.length > NOTES_MAX) dismiss(notes[0]!.id)
}

/** While someone points at them or has the focus in them, none goes by itself. */
export function hold(shall: boolean): void {
  isHeld = shall
  if (shall) timers.forEach((timer) => clearTimeout(timer))
  else notes.forEach(age)
}

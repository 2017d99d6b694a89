/**
 * Who works with the keyboard keeps their place when the page changes under it. What has the focus loses it by being disabled
 * while something is done, and by being removed; the browser then gives it to nothing at all. Here it comes back as soon as it
 * can be taken again, or goes on: to what stands where the removed thing stood, or to the part of the page around it.
 */

const USABLE = ['a[href]', 'button', 'input', 'select', 'textarea'].map((one) => `${one}:not(:disabled)`)
const FIELDS = USABLE.slice(2)
const PARTS = 'dialog, article, section, main'

interface Place {
  /** The focused thing and all it stands in, from the inside out, each with what stood beside it. */
  path: { element: HTMLElement; next: Element | null; previous: Element | null }[]
}

let place: Place | null = null

function remember(target: EventTarget | null): void {
  const path: Place['path'] = []
  for (let element = target; element instanceof HTMLElement; element = element.parentElement) {
    path.push({ element, next: element.nextElementSibling, previous: element.previousElementSibling })
  }
  place = { path }
}

function isLost(): boolean {
  return document.activeElement === null || document.activeElement === document.body
}

/** The first of these inside of it that is shown. */
function first(within: Element | null, selectors: string[]): HTMLElement | undefined {
  if (!within?.isConnected) return undefined
  return [...within.querySelectorAll<HTMLElement>(selectors.join())].find(
    (one) => one.getClientRects().length > 0,
  )
}

/** Gives the focus to a part of the page, which is no stop of Tab's. */
export function focusPart(part: HTMLElement | null | undefined): void {
  if (!part) return
  if (!part.hasAttribute('tabindex')) part.tabIndex = -1
  part.focus({ preventScroll: true })
}

/** Gives the focus to what a dialog is about, rather than to its cross; a field that asks for it has it already. */
export function enter(dialog: HTMLDialogElement | null): void {
  if (!dialog || dialog.querySelector('[autofocus]')) return
  const [, ...content] = dialog.querySelector('header')?.parentElement?.children ?? []
  const heir = content.map((part) => first(part, USABLE)).find(Boolean)
  heir?.focus()
}

function handOn({ path }: Place): void {
  const gone = path.findLast(({ element }) => !element.isConnected)
  const part = path.find(({ element }) => element.isConnected && element.matches(PARTS))?.element
  const heir = part?.matches('dialog')
    ? (first(part, FIELDS) ?? first(part, USABLE))
    : (first(gone?.next ?? null, USABLE) ?? first(gone?.previous ?? null, USABLE))
  if (heir) heir.focus()
  else focusPart(part ?? document.getElementById('main'))
}

function check(): void {
  const held = place?.path[0]?.element
  if (!held || !isLost()) return
  if (held.isConnected) {
    held.focus()
    return
  }
  // What goes is often followed by what takes its place.
  requestAnimationFrame(() => {
    if (place?.path[0]?.element === held && isLost()) handOn(place)
  })
}

/** Starts to watch the page; once, for good. */
export function keepFocus(): void {
  document.addEventListener('focusin', ({ target }) => remember(target))
  // A phone's keyboard that is put away takes the focus from a field that could keep it; so that is meant.
  document.addEventListener('focusout', ({ target }) => {
    setTimeout(() => {
      const held = place?.path[0]?.element
      if (
        held === target &&
        isLost() &&
        document.hasFocus() &&
        held?.isConnected &&
        !held.matches(':disabled')
      )
        place = null
    })
  })
  // Who points beside all things takes the focus away on purpose, too.
  document.addEventListener('pointerdown', ({ target }) => {
    if (!place?.path[0]?.element.contains(target as Node)) place = null
  })
  new MutationObserver(check).observe(document.body, {
    subtree: true,
    childList: true,
    attributeFilter: ['disabled'],
  })
}

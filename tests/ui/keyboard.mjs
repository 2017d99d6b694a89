// The hands of someone without a mouse. With HANDS=keyboard every flow of these tests is gone through with keys alone: what
// the tests click, fill and choose is reached by Tab, and worked with Enter, blank and the arrows.

import assert from 'node:assert/strict'
import { eventually } from './eventually.mjs'

const PRESSES_MAX = 600

/** What had the focus still has it, or cannot have it now, or something took its place. */
function keepsPlace() {
  const { lastFocus } = window
  return document.activeElement !== document.body || !lastFocus || (lastFocus.isConnected && lastFocus.disabled)
}

/** Tab or Shift+Tab until the focus is where it shall be, in sight and marked. */
async function reach(locator) {
  await locator.waitFor()
  const page = locator.page()
  await eventually(`the focus is kept before ${locator}`, () => page.evaluate(keepsPlace))
  const look = () =>
    locator.evaluate((found) => {
      const one = found.closest('a[href], button, input, select, textarea, summary, [tabindex]') ?? found.control
      const now = document.activeElement
      if (one !== now) {
        const isBehind = now !== document.body && Boolean(now.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_PRECEDING)
        return { isThere: false, isBehind, role: one?.getAttribute('role') ?? one?.type, isUsable: Boolean(one && !one.disabled) }
      }
      const { outlineStyle, outlineWidth } = getComputedStyle(one)
      const { left, top, width, height } = one.getBoundingClientRect()
      const inSight = [0.1, 0.5, 0.9].some((x) =>
        [0.1, 0.5, 0.9].some((y) => {
          const there = document.elementFromPoint(left + x * width, top + y * height)
          return there && (one.contains(there) || there.contains(one))
        }),
      )
      return { isThere: true, isMarked: outlineStyle !== 'none' && outlineWidth !== '0px', inSight }
    })
  let seen
  await eventually(`${locator} takes keys`, async () => (seen = await look()).isThere || seen.isUsable)
  // Within a group the arrows move: Tab goes to the one that was chosen.
  const key = seen.role === 'menuitem' ? 'ArrowDown' : seen.isBehind ? 'Shift+Tab' : 'Tab'
  const isOfGroup = ['tab', 'radio'].includes(seen.role)
  for (let presses = 0; !seen.isThere; presses += 1) {
    assert.ok(presses < PRESSES_MAX, `${locator} is not reached with the keyboard`)
    const isInGroup =
      isOfGroup &&
      (await locator.evaluate((one) => {
        const { activeElement } = document
        if (one.type === 'radio') return activeElement.type === 'radio' && activeElement.name === one.name
        return activeElement.closest('[role=tablist]') === one.closest('[role=tablist]')
      }))
    await page.keyboard.press(isInGroup ? 'ArrowRight' : key)
    seen = await look()
  }
  assert.ok(seen.isMarked, `${locator} has the focus, and nothing shows it`)
  assert.ok(seen.inSight, `${locator} has the focus, and something hides it`)
}

/** A date as its field takes it in American English, the language of the browser here. */
function dateKeys(value) {
  const [, year, month, day, hours, minutes] = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d))?$/.exec(value)
  const hour = String(hours % 12 || 12).padStart(2, '0')
  return [month + day + year, hours && `${hour}${minutes}${hours < 12 ? 'AM' : 'PM'}`]
}

const works = {
  async click() {
    await reach(this)
    const kind = await this.evaluate((found) => {
      const one = document.activeElement
      if (!one.contains(found) && found.control !== one) return 'gone'
      return one.type === 'checkbox' ? 'checkbox' : one.getAttribute('role')
    })
    const page = this.page()
    if (kind === 'tab' && (await this.getAttribute('aria-selected')) === 'true') return
    await page.keyboard.press(kind === 'checkbox' ? 'Space' : 'Enter')
  },

  async fill(value) {
    await reach(this)
    const { keyboard } = this.page()
    const type = await this.evaluate((one) => one.type)
    if (type.startsWith('date')) {
      const [date, time] = dateKeys(value)
      await keyboard.type(date)
      if (time) {
        await keyboard.press('ArrowRight')
        await keyboard.type(time)
      }
    } else {
      await keyboard.press('Control+A')
      await keyboard.press('Delete')
      await keyboard.insertText(value)
    }
    assert.equal(await this.inputValue(), value)
  },

  async check() {
    await reach(this)
    if (!(await this.isChecked())) await this.page().keyboard.press('Space')
    assert.ok(await this.isChecked())
  },

  async uncheck() {
    await reach(this)
    if (await this.isChecked()) await this.page().keyboard.press('Space')
    assert.ok(!(await this.isChecked()))
  },

  async selectOption(wanted) {
    await reach(this)
    const field = await this.elementHandle()
    const away = () =>
      field.evaluate((one, text) => {
        const at = [...one.options].findIndex((option) => option.value === text || option.label === text)
        if (at < 0) throw new Error(`there is no ${text}`)
        return at - one.selectedIndex
      }, wanted.label ?? wanted)
    for (let steps = await away(); steps !== 0; steps = await away()) {
      await this.page().keyboard.press(steps > 0 ? 'ArrowDown' : 'ArrowUp')
    }
  },

  async setInputFiles(path) {
    await reach(this)
    const page = this.page()
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press('Space')])
    await chooser.setFiles(path)
  },

  async press(key) {
    await reach(this)
    await this.page().keyboard.press(key)
  },
}

/** Takes the mouse from the pages of this browser. */
export async function takeMouse(page) {
  Object.assign(Object.getPrototypeOf(page.locator('html')), works)
  // So that choosers come here from the beginning, and not only from some time after they are waited for.
  page.on('filechooser', () => undefined)
  await page.addInitScript(() => {
    addEventListener('pointerdown', () => console.error('a pointer was used'), true)
    addEventListener('focusin', ({ target }) => (window.lastFocus = target), true)
  })
}

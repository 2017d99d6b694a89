// Every page as people see it: in both themes and both languages, on a desk and on a phone; with its dialogs.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { checkAccess, checkWidth, openPage, shoot, startBrowser, startRelay, startUpstream } from './harness.mjs'
import { furnish } from './world.mjs'

let browser, relay, upstream, world
before(async () => {
  upstream = await startUpstream()
  relay = await startRelay(upstream)
  world = await furnish(relay, upstream)
  browser = await startBrowser()
})
after(async () => {
  await browser.close()
  await relay.stop()
  upstream.close()
})

const pages = () => ({
  overview: '/web',
  keys: '/web/keys',
  deleted: '/web/keys?view=deleted',
  key: `/web/keys/${world.keys.ann.id}`,
  accounts: '/web/accounts',
  account: `/web/accounts/${world.accounts.second.id}`,
  requests: '/web/requests',
  logs: '/web/logs',
  system: '/web/system',
  settings: '/web/system/settings',
  prices: '/web/system/prices',
  password: '/web/system/password',
  backup: '/web/system/backup',
  move: '/web/system/move',
  welcome: '/web/welcome',
  guide: '/web/guide',
  holder: '/web/key',
  lost: '/web/keys/nobody',
})

/** All that a page asks for has come. */
async function settled(page) {
  await page.locator('.animate-pulse').first().waitFor({ state: 'detached' })
  await page.waitForTimeout(150)
}

/** Presses Tab through a page, and gives back what can be used but was not reached. */
async function unreached(page) {
  const count = await page.evaluate(() => {
    document.activeElement?.blur()
    const usable = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [role=button], [role=tab]'
    const isThere = (one) => one.getClientRects().length > 0 && !one.disabled && !one.closest('[inert]')
    // Of a group that the arrows walk through, one member takes the focus.
    const isOfGroup = (one) => one.tabIndex < 0 && ['tab', 'radio', 'menuitem'].includes(one.getAttribute('role'))
    const isOtherChoice = (one) => one.type === 'radio' && !one.checked
    const all = [...document.querySelectorAll(usable)].filter((one) => isThere(one) && !isOfGroup(one) && !isOtherChoice(one))
    window.notReached = new Set(all)
    return all.length
  })
  const reach = () =>
    page.evaluate(() => {
      window.notReached.delete(document.activeElement)
      return [...window.notReached].filter((one) => one.isConnected).length
    })
  // A field of a date has several stops.
  for (let presses = 0; presses < 3 * count + 60 && (await reach()) > 0; presses += 1) await page.keyboard.press('Tab')
  return page.evaluate(() =>
    [...window.notReached].filter((one) => one.isConnected).map((one) => one.outerHTML.slice(0, 200)),
  )
}

const looks = [
  { theme: 'light', locale: 'en-GB', width: 1280 },
  { theme: 'dark', locale: 'zh-CN', width: 1280 },
  { theme: 'dark', locale: 'en-GB', width: 1280 },
  { theme: 'light', locale: 'zh-CN', width: 1280 },
  { theme: 'light', locale: 'en-GB', width: 360 },
  { theme: 'dark', locale: 'zh-CN', width: 360 },
]

for (const look of looks) {
  const name = `${look.theme}-${look.locale.slice(0, 2)}-${look.width}`
  test(`every page is accessible and fits its window: ${name}`, async () => {
    const page = await openPage(browser, relay, look)
    for (const [what, path] of Object.entries(pages())) {
      await page.visit(path)
      await settled(page)
      await checkAccess(page, `${what} ${name}`)
      await checkWidth(page, `${what} ${name}`)
      await shoot(page, `${what}-${name}`)
    }
    await page.finish()
  })

  test(`the sign-in is accessible and fits its window: ${name}`, async () => {
    const page = await openPage(browser, relay, {
      ...look,
      isSignedIn: false,
      // The page asks whether it is signed in, and a browser writes each 401 into its console.
      allow: [/401 .*\/web\/auth\/user/],
    })
    await page.visit('/web/keys')
    await checkAccess(page, name)
    await checkWidth(page, name)
    await shoot(page, `sign-in-${name}`)
    await page.finish()
  })
}

for (const look of [looks[0], looks[1], looks[4]]) {
  const name = `${look.theme}-${look.locale.slice(0, 2)}-${look.width}`
  test(`every dialog is accessible and fits its window: ${name}`, async () => {
    const page = await openPage(browser, relay, look)
    const dialog = page.locator('dialog[open]').last()
    const look_at = async (what) => {
      await dialog.waitFor()
      await checkAccess(page, `${what} ${name}`)
      await checkWidth(page, `${what} ${name}`)
      await page.screenshot({ path: new URL(`./shots/dialog-${what}-${name}.png`, import.meta.url).pathname })
    }
    await page.visit('/web/keys')
    await page.locator('main .btn-primary').first().click()
    for (const fold of await dialog.locator('summary').all()) {
      if (!(await fold.evaluate((one) => one.parentElement.open))) await fold.click()
    }
    await look_at('key-form')
    await page.keyboard.press('Escape')
    await page.locator('[aria-haspopup=menu]').first().click()
    await checkAccess(page, `menu ${name}`)
    await page.getByRole('menuitem').last().click()
    await look_at('confirm')
    await page.keyboard.press('Escape')

    await page.visit('/web/accounts?add=1')
    await look_at('account-kind')
    await dialog.locator('li button').nth(1).click()
    await dialog.locator('input').first().fill('Mine')
    for (const fold of await dialog.locator('summary').all()) await fold.click()
    await dialog.locator('input[type=checkbox]').first().check()
    await look_at('account-form')
    await dialog.locator('input[type=checkbox]').first().uncheck()
    await dialog.locator('button[type=submit]').click()
    await dialog.locator('[role=timer]').waitFor()
    await look_at('account-link')
    await page.keyboard.press('Escape')

    await page.visit('/web/requests')
    await page.locator('main .link').first().click()
    await look_at('request')
    await page.keyboard.press('Escape')
    if (look.width < 640) {
      await page.locator('header button').click()
      await look_at('menu')
    }
    await page.finish()
  })
}

for (const width of [1280, 360]) {
  test(`whatever can be used on a page is reached with the keyboard: ${width}`, async () => {
    const page = await openPage(browser, relay, { width })
    for (const [what, path] of Object.entries(pages())) {
      await page.visit(path)
      await settled(page)
      const closed = page.locator('main details:not([open]) > summary')
      while ((await closed.count()) > 0) await closed.first().click()
      assert.deepEqual(await unreached(page), [], what)
    }
    await page.finish()
  })
}

// The key holder's page, the languages and themes, and the keyboard alone.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ADMIN, checkAccess, checkWidth, eventually, openPage, shoot, startBrowser, startRelay, startUpstream } from './harness.mjs'

let browser, relay, upstream, key
const allow = [/401 .*\/web\/auth\/user/]
before(async () => {
  upstream = await startUpstream()
  relay = await startRelay(upstream)
  await relay.admin('POST', '/admin/claude-accounts', { name: 'Console', kind: 'api_key', apiKey: 'sk-ant-api03-a' })
  key = await relay.admin('POST', '/admin/api-keys', { name: 'Ann', dailyCostLimit: 5, rateLimitWindow: 60, rateLimitRequests: 10 })
  await (await relay.send(key.apiKey)).text()
  browser = await startBrowser()
})
after(async () => {
  await browser.close()
  await relay.stop()
  upstream.close()
})

for (const [theme, width] of [['light', 1280], ['dark', 360]]) {
  test(`a key holder sees use, limits, models and set-up of the own key: ${theme}, ${width}`, async () => {
    const page = await openPage(browser, relay, { isSignedIn: false, allow: [...allow, /401 .*key-info/], theme, width })
    await page.visit('/web/key')
    await page.getByRole('textbox', { name: 'API key' }).fill(`cr_${'0'.repeat(64)}`)
    await page.getByRole('button', { name: 'Show', exact: true }).click()
    await page.getByText('The relay does not know this key.', { exact: false }).waitFor()
    await page.getByRole('textbox', { name: 'API key' }).fill(key.apiKey)
    await page.getByRole('button', { name: 'Show', exact: true }).click()
    await page.getByRole('heading', { name: 'Ann' }).waitFor()
    await page.getByText(/\$0\.0\d+ of \$5\.00/).waitFor()
    await page.getByText('1 of 10').waitFor()
    await page.getByRole('cell', { name: '26.6K' }).first().waitFor()
    const setup = await page.getByRole('tabpanel').textContent()
    assert.ok(setup.includes(key.apiKey))
    await checkAccess(page, `holder ${theme}`)
    await checkWidth(page, `holder ${theme}`)
    await shoot(page, `holder-open-${theme}-${width}`)
    await page.getByRole('button', { name: 'Forget the key' }).click()
    await page.getByRole('textbox', { name: 'API key' }).waitFor()
    assert.ok(!(await page.content()).includes(key.apiKey), 'the key is gone from the page')
    await page.finish()
  })
}

test('the language and the theme are chosen, kept, and shape numbers and dates', async () => {
  const page = await openPage(browser, relay)
  await page.visit(`/web/keys/${key.id}`)
  await page.getByLabel('Language').selectOption('zh-CN')
  await page.getByRole('heading', { name: '限额' }).waitFor()
  await page.getByText(/月\d+日/).first().waitFor()
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN')
  await page.getByLabel('主题').selectOption('dark')
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)
  await eventually('it is dark', async () => (await background()) === 'rgb(16, 19, 18)')
  await page.reload()
  await page.getByRole('heading', { name: '限额' }).waitFor()
  await eventually('it is dark', async () => (await background()) === 'rgb(16, 19, 18)')
  await page.getByLabel('主题').selectOption('system')
  await eventually('it is light', async () => (await background()) === 'rgb(245, 246, 244)')
  await page.finish()
})

/** Presses Tab until what has the focus has this name. */
async function tabTo(page, name) {
  for (let turn = 0; turn < 80; turn += 1) {
    await page.keyboard.press('Tab')
    const found = await page.evaluate(() => {
      const one = document.activeElement
      const label = one?.labels?.[0]?.textContent ?? ''
      return [one?.getAttribute('aria-label'), one?.textContent, label].map((text) => (text ?? '').trim())
    })
    if (found.includes(name)) return
  }
  assert.fail(`${name} is not reached with the keyboard`)
}

test('the keyboard alone signs in, makes a key, deletes it, and signs out', async () => {
  const page = await openPage(browser, relay, { isSignedIn: false, allow })
  await page.visit('/web/keys')
  await tabTo(page, 'Name')
  await page.keyboard.type(ADMIN.username)
  await tabTo(page, 'Password')
  await page.keyboard.type(ADMIN.password)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'API keys' }).waitFor()

  await tabTo(page, 'New key')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog').waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'detached' })
  assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), 'New key', 'the focus is back')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog').waitFor()
  await page.keyboard.type('By hand')
  await page.keyboard.press('Enter')
  await page.getByTestId('new-key').waitFor()
  await tabTo(page, 'Copy the key')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Copied' }).waitFor()
  await tabTo(page, 'Done')
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'By hand' }).waitFor()

  await tabTo(page, 'Actions for By hand')
  await page.keyboard.press('Enter')
  await page.getByRole('menu').waitFor()
  const focused = (name) => eventually(`the focus is on ${name}`, () => page.evaluate((text) => document.activeElement.textContent.trim() === text, name))
  await focused('Edit')
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('End')
  await focused('Delete')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog', { name: 'Delete “By hand”?' }).waitFor()
  await tabTo(page, 'Delete')
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'By hand' }).waitFor({ state: 'detached' })
  await tabTo(page, 'Sign out')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  await page.finish()
})

test('an unreachable relay is told, with a way to try again', async () => {
  const page = await openPage(browser, relay, { allow: [/net::ERR/] })
  await page.visit('/web/keys')
  await page.getByRole('link', { name: 'Ann' }).waitFor()
  await page.context().setOffline(true)
  await page.getByRole('button', { name: 'Deleted' }).click()
  await page.getByRole('alert').getByText('The relay does not answer.', { exact: false }).waitFor()
  await page.context().setOffline(false)
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.getByRole('columnheader', { name: 'Gone for good' }).waitFor()
  await page.finish()
})

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

test('the focus goes back to what opened a dialog, on to what takes the place of what went, and to the page that was asked for', async () => {
  for (const name of ['One', 'Two']) await relay.admin('POST', '/admin/api-keys', { name })
  const page = await openPage(browser, relay)
  await page.visit('/web/keys')
  const focused = (name) =>
    eventually(`the focus is on ${name}`, () =>
      page.evaluate((text) => [document.activeElement.textContent.trim(), document.activeElement.ariaLabel].includes(text), name),
    )
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key)
  }
  await page.getByRole('button', { name: 'New key' }).press('Enter')
  await page.getByRole('dialog').waitFor()
  await press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'detached' })
  await focused('New key')
  await press('Enter')
  await page.getByRole('dialog').waitFor()
  await page.keyboard.type('By hand')
  await press('Enter')
  await page.getByTestId('new-key').waitFor()
  await page.getByRole('button', { name: 'Copy the key' }).press('Enter')
  await page.getByRole('button', { name: 'Done' }).press('Enter')
  await focused('New key')

  await page.getByRole('button', { name: 'Actions for One' }).press('Enter')
  await focused('Edit')
  await press('ArrowDown', 'End')
  await focused('Delete')
  await press('Home')
  await focused('Edit')
  await press('Escape')
  await focused('Actions for One')
  await press('Enter')
  await focused('Edit')
  await press('ArrowUp', 'Enter')
  await page.getByRole('dialog', { name: 'Delete “One”?' }).getByRole('button', { name: 'Delete' }).press('Enter')
  await page.getByRole('link', { name: 'One', exact: true }).waitFor({ state: 'detached' })
  await focused('Two')
  await press('Enter')
  await page.getByRole('heading', { name: 'Two' }).waitFor()
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main')
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

test('what lost the focus on purpose is not given it again', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/keys')
  const search = page.getByLabel('Search name, tag, note')
  const change = () =>
    page.evaluate(async () => {
      document.body.append(document.createElement('i'))
      await new Promise((done) => setTimeout(done, 100))
      document.body.lastChild.remove()
      return document.activeElement === document.body
    })
  await search.fill('a')
  // As a phone does that puts its keyboard away.
  await page.evaluate(() => document.activeElement.blur())
  await eventually('the page may change', change)
  await page.keyboard.press('Tab')
  await search.fill('b')
  await page.evaluate(() => (document.activeElement.disabled = true))
  await eventually('the field has lost it', () => page.evaluate(() => document.activeElement === document.body))
  await search.evaluate((one) => (one.disabled = false))
  await eventually('the field has it again', () => search.evaluate((one) => one === document.activeElement))
  await page.finish()
})

test('a phone goes everywhere by its menu', async () => {
  const page = await openPage(browser, relay, { width: 360, height: 740 })
  await page.visit('/web')
  const places = ['API keys', 'Accounts', 'Requests', 'Logs', 'System', 'Set up a client', 'Overview']
  for (const place of places) {
    await page.getByRole('button', { name: 'Menu' }).click()
    await page.getByRole('dialog').getByRole('link', { name: place }).click()
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await page.getByRole('heading', { name: place, level: 1 }).waitFor()
  }
  await page.visit('/web/system/move')
  const { x, width } = await page.getByRole('link', { name: 'Move in and out' }).boundingBox()
  assert.ok(x >= 0 && x + width <= 360, `the open part stands from ${x} to ${x + width}`)
  await page.getByRole('button', { name: 'Menu' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Sign out' }).click()
  await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  await page.finish()
})

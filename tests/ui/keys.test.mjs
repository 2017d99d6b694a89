// API keys: made, handed over once, limited, changed, renewed, deleted and brought back; and very many of them.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { eventually, openPage, shoot, startBrowser, startRelay, startUpstream } from './harness.mjs'

let browser, relay, upstream
before(async () => {
  upstream = await startUpstream()
  relay = await startRelay(upstream)
  await relay.admin('POST', '/admin/claude-accounts', { name: 'a', kind: 'api_key', apiKey: 'sk-ant-api03-a' })
  browser = await startBrowser()
})
after(async () => {
  await browser.close()
  await relay.stop()
  upstream.close()
})

const clipboard = (page) => page.evaluate(() => navigator.clipboard.readText())
const stored = async (name) => (await relay.admin('GET', '/admin/api-keys')).find((key) => key.name === name)
const menu = async (page, name, item) => {
  await page.getByRole('button', { name: `Actions for ${name}` }).click()
  await page.getByRole('menuitem', { name: item, exact: true }).click()
}

test('a key is made with limits, shown once with what to paste, tried, and gone from the page when it was left', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/keys')
  await page.getByRole('button', { name: 'New key' }).first().click()
  const form = page.getByRole('dialog', { name: 'New API key' })
  await form.getByLabel('Name', { exact: true }).fill('Ann')
  await form.getByLabel('Tags').fill('family,')
  await form.getByText('Limits', { exact: true }).click()
  await form.getByRole('button', { name: 'Light use' }).click()
  await form.getByLabel('Requests per window').fill('2.5')
  await form.getByRole('button', { name: 'Create', exact: true }).click()
  await form.getByText('A whole number, 0 or more.').waitFor()
  await form.getByText('These limits need the length of the window.').waitFor()
  await form.getByLabel('Requests per window').fill('20')
  await form.getByLabel('Length of the window in minutes').fill('60')
  await form.getByRole('button', { name: 'Create', exact: true }).click()

  const handOver = page.getByRole('dialog', { name: 'The new key' })
  const key = await handOver.getByTestId('new-key').textContent()
  assert.match(key, /^cr_[0-9a-f]{64}$/)
  await shoot(page, 'hand-over')
  for (const [system, expected] of [
    ['macOS', '.zshrc'],
    ['Windows', 'SetEnvironmentVariable'],
    ['Python', 'import anthropic'],
    ['TypeScript', '@anthropic-ai/sdk'],
    ['curl', 'x-api-key'],
    ['Linux', '.bashrc'],
  ]) {
    await handOver.getByRole('tab', { name: system }).click()
    const text = await handOver.getByRole('tabpanel').textContent()
    assert.ok(text.includes(expected) && text.includes(key) && text.includes(`${relay.origin}/api`), system)
  }
  await handOver.getByRole('tabpanel').getByRole('button', { name: 'Copy' }).nth(1).click()
  const pasted = await clipboard(page)
  assert.ok(pasted.includes(`ANTHROPIC_BASE_URL="${relay.origin}/api"`) && pasted.includes(key))
  await handOver.getByRole('button', { name: 'Test it now' }).click()
  await handOver.getByText('It works: claude-haiku-4-5').waitFor()

  await handOver.getByRole('button', { name: 'Done' }).click()
  const sure = page.getByRole('dialog', { name: 'Have you copied it?' })
  await sure.getByRole('button', { name: 'Cancel' }).click()
  await handOver.getByRole('button', { name: 'Copy the key' }).click()
  assert.equal(await clipboard(page), key)
  await handOver.getByRole('button', { name: 'Done' }).click()
  await handOver.waitFor({ state: 'detached' })
  assert.ok(!(await page.content()).includes(key), 'the key is gone from the page')

  const made = await stored('Ann')
  assert.deepEqual(
    [made.tags, made.dailyCostLimit, made.monthlyCostLimit, made.concurrencyLimit, made.rateLimitWindow, made.rateLimitRequests],
    [['family'], 2, 20, 2, 60, 20],
  )
  await page.finish()
})

test('a key is changed, disabled, renewed, deleted and brought back', async () => {
  const { apiKey } = await relay.admin('POST', '/admin/api-keys', { name: 'Bob' })
  // What its client gets, with the old key and the new one.
  const answers = (key, status) => eventually(`its client gets ${status}`, async () => (await relay.send(key)).status === status)
  await answers(apiKey, 200)
  const page = await openPage(browser, relay)
  await page.visit('/web/keys')
  await menu(page, 'Bob', 'Edit')
  const form = page.getByRole('dialog', { name: 'Change “Bob”' })
  await form.getByText('Expiry, account and models').click()
  await form.getByLabel('Valid').selectOption({ label: 'Until a date' })
  await form.getByLabel('Until', { exact: true }).fill('2030-06-01T12:00')
  await form.getByRole('button', { name: 'Save' }).click()
  await form.waitFor({ state: 'detached' })
  assert.equal(new Date((await stored('Bob')).expiresAt).toISOString(), '2030-06-01T10:00:00.000Z', 'in the zone of the relay')

  await menu(page, 'Bob', 'Disable')
  await page.getByRole('row', { name: /Bob/ }).getByText('Disabled').waitFor()
  assert.equal((await stored('Bob')).isActive, false)
  await answers(apiKey, 401)
  await menu(page, 'Bob', 'Enable')
  await page.getByRole('row', { name: /Bob/ }).getByText('Active').waitFor()
  await answers(apiKey, 200)

  await menu(page, 'Bob', 'Renew the key')
  await page.getByRole('dialog').getByRole('button', { name: 'Renew the key' }).click()
  const renewed = await page.getByTestId('new-key').textContent()
  await page.getByRole('button', { name: 'Copy the key' }).click()
  await page.getByRole('button', { name: 'Done' }).click()
  await answers(apiKey, 401)
  await answers(renewed, 200)

  await menu(page, 'Bob', 'Delete')
  await page.getByRole('dialog', { name: 'Delete “Bob”?' }).getByRole('button', { name: 'Delete' }).click()
  await page.getByRole('row', { name: /Bob/ }).waitFor({ state: 'detached' })
  await answers(renewed, 401)
  await page.getByRole('button', { name: 'Undo' }).click()
  await page.getByRole('row', { name: /Bob/ }).waitFor()
  await answers(renewed, 200)

  await menu(page, 'Bob', 'Delete')
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await page.getByRole('button', { name: 'Deleted' }).click()
  await page.getByRole('row', { name: /Bob Deleted/ }).waitFor()
  await menu(page, 'Bob', 'Restore')
  await eventually('Bob is back', () => stored('Bob'))
  await answers(renewed, 200)
  await page.finish()
})

test('many keys are made at once and handed over as a list', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/keys')
  await page.getByRole('button', { name: 'New key' }).first().click()
  await page.getByLabel('Name', { exact: true }).fill('course')
  await page.getByLabel('Create several at once').check()
  await page.getByLabel('How many').fill('501')
  await page.getByRole('button', { name: 'Create', exact: true }).click()
  await page.getByText('A whole number from 1 to 500.').waitFor()
  await page.getByLabel('How many').fill('3')
  await page.getByRole('button', { name: 'Create', exact: true }).click()
  await page.getByRole('button', { name: 'Copy all' }).click()
  assert.match(await clipboard(page), /^course_1\tcr_[0-9a-f]{64}\ncourse_2\tcr_\S+\ncourse_3\tcr_\S+$/)
  await page.evaluate(() => navigator.clipboard.writeText(''))
  await page.getByRole('button', { name: 'Done' }).click()
  assert.ok(await stored('course_3'))
  await page.finish()
})

test('what the relay refuses is told beside the field', async () => {
  const page = await openPage(browser, relay, { allow: [/400/] })
  await page.visit('/web/keys')
  await page.getByRole('button', { name: 'New key' }).first().click()
  await page.getByLabel('Name', { exact: true }).fill('x')
  const tags = page.getByRole('dialog').getByLabel('Tags')
  for (let number = 0; number < 21; number += 1) await tags.fill(`tag${number},`).then(() => tags.press('Enter'))
  await page.getByRole('button', { name: 'Create', exact: true }).click()
  const said = page.getByText('Tags must be an array of at most 20 texts')
  await said.waitFor()
  const describes = await tags.getAttribute('aria-describedby')
  assert.equal(await said.getAttribute('id'), describes)
  await page.finish()
})

test('five thousand keys: there at once, found, sorted, and never all of them in the page', async (t) => {
  const many = await startRelay(upstream)
  t.after(() => many.stop())
  for (let batch = 0; batch < 10; batch += 1) {
    await many.admin('POST', '/admin/api-keys/batch', { count: 500, template: { name: `person ${batch}`, tags: [`team ${batch}`], dailyCostLimit: 5 } })
  }
  const page = await openPage(browser, many)
  await page.visit('/web/keys')
  await page.getByRole('row').nth(50).waitFor()
  // Again, with the assets in the cache: the time until the list can be used.
  const start = Date.now()
  await page.goto(`${many.origin}/web/keys`)
  await page.getByRole('row').nth(50).waitFor()
  const time = Date.now() - start
  console.log(`5,000 keys: ${time} ms until the list can be used`)
  // The aim is 500 ms; what is asserted leaves room for a machine that does other things, too.
  assert.ok(time < 3000, `${time} ms`)
  const nodes = () => page.evaluate(() => document.querySelectorAll('*').length)
  assert.ok((await nodes()) < 3000, `${await nodes()} elements`)
  await page.getByText('5,000 keys').waitFor()

  await page.getByLabel('Search name, tag, note').fill('person 7_499')
  await eventually('one is left', async () => (await page.getByRole('row').count()) === 2)
  assert.match(page.url(), /q=person/)
  await page.reload()
  await page.getByText('1 key', { exact: true }).waitFor()
  await page.getByLabel('Search name, tag, note').fill('')
  await page.getByLabel('Tags').selectOption('team 3')
  await page.getByText('500 keys').waitFor()
  await page.getByRole('button', { name: 'Name', exact: true }).click()
  await page.getByRole('row').nth(1).getByText('person 3_500').waitFor()
  await page.getByRole('button', { name: 'Next' }).click()
  await page.getByRole('row').nth(1).getByText('person 3_450').waitFor()
  assert.match(page.url(), /page=2/)
  assert.ok((await nodes()) < 3000)
  await page.finish()
})

test('the first load stays small', async () => {
  const page = await openPage(browser, relay)
  const sizes = new Map()
  page.on('response', async (response) => {
    const url = new URL(response.url())
    if (!url.pathname.startsWith('/web/') && url.pathname !== '/web') return
    if (url.pathname.startsWith('/web/auth')) return
    sizes.set(url.pathname, Number((await response.allHeaders())['content-length'] ?? 0))
  })
  await page.visit('/web')
  await page.getByRole('heading', { name: 'Usage and cost' }).waitFor()
  await page.waitForTimeout(300)
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0)
  console.log(`first load: ${(total / 1000).toFixed(1)} kB in ${sizes.size} files`)
  assert.ok(sizes.size >= 5 && total > 50_000, `${sizes.size} files, ${total} bytes`)
  assert.ok(total < 150_000, `${total} bytes: ${JSON.stringify([...sizes])}`)
  await page.finish()
})

// What happens now: a stream that appears as it runs and is ended, the ledger, the log.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { beginStream, eventually, openPage, startBrowser, startRelay, startUpstream } from './harness.mjs'

let browser, relay, upstream, key
before(async () => {
  upstream = await startUpstream()
  relay = await startRelay(upstream)
  await relay.admin('POST', '/admin/claude-accounts', { name: 'Console', kind: 'api_key', apiKey: 'sk-ant-api03-a' })
  key = await relay.admin('POST', '/admin/api-keys', { name: 'Ann', dailyCostLimit: 0.05 })
  browser = await startBrowser()
})
after(async () => {
  await browser.close()
  await relay.stop()
  upstream.close()
})

test('a stream appears by itself while it runs, and is ended from the page', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web')
  await page.getByText('Nothing is running.').waitFor()
  await page.getByText('Live', { exact: true }).waitFor()
  let hasBegun = false
  upstream.next = ({ body, response }) => {
    beginStream(response, body.model)
    hasBegun = true
  }
  const answer = relay.send(key.apiKey, { stream: true }).then((response) => response.text())
  await eventually('it has begun', () => hasBegun)
  const row = page.getByRole('row', { name: /Ann/ }).filter({ hasText: 'answering' })
  await row.waitFor()
  for (const text of ['claude-sonnet-4-5', 'Console', '26.2K']) await row.getByText(text).waitFor()
  await page.getByRole('button', { name: 'End the request of Ann' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'End' }).click()
  assert.match(await answer, /event: error/)
  await page.getByText('Nothing is running.').waitFor()

  await page.visit('/web/requests')
  const line = page.getByRole('row', { name: /Ann/ })
  await line.getByText('Partial').waitFor()
  await line.getByRole('button').click()
  await page.getByRole('dialog', { name: 'Request' }).getByText('incomplete: it was cut off').waitFor()
  await page.finish()
})

test('a budget that is reached shows at the key, and at the refusal in the ledger', async () => {
  for (let turn = 0; turn < 3; turn += 1) await (await relay.send(key.apiKey)).text()
  const refused = await relay.send(key.apiKey)
  assert.equal(refused.status, 429)
  const page = await openPage(browser, relay)
  await page.visit('/web/keys?state=reached')
  await page.getByRole('row', { name: /Ann/ }).getByText('Limit reached').waitFor()
  await page.getByRole('link', { name: 'Ann' }).click()
  await page.getByRole('meter', { name: 'Cost per day' }).waitFor()
  await page.getByText(/of \$0\.05/).waitFor()
  await page.getByRole('heading', { name: 'By model' }).waitFor()
  await page.finish()
})

test('one range rules every figure, and each chart has its table', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web')
  await page.getByRole('button', { name: 'Today', exact: true }).click()
  await eventually('the range is in the address', () => page.url().includes('range=today'))
  const figure = page.locator('figure').filter({ hasText: 'Tokens' }).first()
  await figure.getByRole('button', { name: 'As a table' }).click()
  await eventually('a row an hour', async () => (await figure.getByRole('row').count()) === 25)
  await page.getByRole('button', { name: 'Other' }).click()
  await page.getByLabel('From', { exact: true }).fill('2020-01-01')
  await page.getByLabel('To', { exact: true }).fill('2020-01-31')
  await page.getByText('Nothing was used in this range.').first().waitFor()
  await page.finish()
})

test('the ledger is filtered by what stands in the address, and downloaded', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/requests?status=ok')
  await page.getByRole('row', { name: /Complete/ }).first().waitFor()
  assert.equal(await page.getByRole('row', { name: /Partial/ }).count(), 0)
  const csv = async () => {
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download CSV' }).click()])
    return readFileSync(await file.path(), 'utf8').trim().split('\r\n')
  }
  const whole = (await csv()).length
  await page.getByLabel('Model', { exact: true }).fill('claude-of-nowhere')
  await page.keyboard.press('Tab')
  await page.getByText('No request fits').waitFor()
  await page.getByRole('button', { name: 'Clear filters' }).click()
  await page.getByRole('row', { name: /Partial/ }).waitFor()
  const [head, ...lines] = await csv()
  assert.match(head, /^id,request_id,at,/)
  assert.equal(lines.length, await page.getByRole('region', { name: 'Ended requests' }).or(page.getByRole('table', { name: 'Ended requests' })).getByRole('row').count() - 1)
  assert.ok(lines.every((line) => /^\d+,/.test(line)) && whole <= lines.length, 'the filter rules the file, too')
  await page.finish()
})

test('the log is followed as it is written, filtered and paused', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/logs')
  await page.getByRole('log').waitFor()
  await relay.admin('POST', '/admin/api-keys', { name: 'seen-in-the-log' })
  await page.getByText(/seen-in-the-log/).waitFor()
  await page.getByLabel('Search the text').fill('nothing like this')
  await page.getByText('No lines fit').waitFor()
  assert.match(page.url(), /q=nothing/)
  await page.getByLabel('Search the text').fill('')
  await page.getByText(/seen-in-the-log/).waitFor()
  await page.getByLabel('Level').selectOption({ label: 'Errors' })
  await page.getByText('No lines fit').waitFor()
  assert.match(page.url(), /level=error/)
  await page.getByLabel('Level').selectOption({ label: 'Information and worse' })
  await page.getByText(/seen-in-the-log/).waitFor()
  const watchers = (count) => eventually(`${count} watch`, async () => (await relay.admin('GET', '/admin/system')).watchers.open === count)
  await watchers(1)
  await page.getByRole('button', { name: 'Pause' }).click()
  await watchers(0)
  await relay.admin('POST', '/admin/api-keys', { name: 'while-it-paused' })
  await eventually('it is in the log', async () => JSON.stringify(await relay.admin('GET', '/admin/logs?limit=500')).includes('while-it-paused'))
  assert.equal(await page.getByText(/while-it-paused/).count(), 0)
  await page.getByRole('button', { name: 'Go on' }).click()
  await page.getByText(/while-it-paused/).waitFor()
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()])
  assert.match(readFileSync(await file.path(), 'utf8'), /while-it-paused/)
  await page.finish()
})

// The relay itself: its state, settings, prices and webhook, a backup and the way back, moving out and in.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import http from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ADMIN, checkAccess, checkWidth, eventually, openPage, shoot, shots, startBrowser, startRelay, startUpstream } from './harness.mjs'
import { startRedis } from './redis.mjs'

const ENCRYPTION_KEY = 'a-key-of-thirty-two-characters-0'
const SIGNING = 'what do ya want for nothing?'
const PASSPHRASE = 'a long passphrase, with blanks'
let browser, relay, upstream, key
before(async () => {
  upstream = await startUpstream()
  relay = await startRelay(upstream, { ENCRYPTION_KEY })
  await relay.admin('POST', '/admin/claude-accounts', { name: 'Console', kind: 'api_key', apiKey: 'sk-ant-api03-a' })
  key = await relay.admin('POST', '/admin/api-keys', { name: 'Ann' })
  await (await relay.send(key.apiKey)).text()
  browser = await startBrowser()
})
after(async () => {
  await browser.close()
  await relay.stop()
  upstream.close()
})

for (const look of [
  { theme: 'light', locale: 'en-GB', width: 1280 },
  { theme: 'dark', locale: 'zh-CN', width: 360 },
]) {
  test(`the parts of the system are accessible and fit their window: ${look.theme}`, async () => {
    const page = await openPage(browser, relay, look)
    for (const part of ['backup', 'move']) {
      await page.visit(`/web/system/${part}`)
      await page.locator('section').first().waitFor()
      for (const fold of await page.locator('main summary').all()) await fold.click()
      await checkAccess(page, part)
      await checkWidth(page, part)
      await shoot(page, `system-${part}-${look.theme}-${look.width}`)
    }
    await page.finish()
  })
}

test('what the relay checks and does is told in the language of the page', async () => {
  const page = await openPage(browser, relay, { locale: 'zh-CN' })
  await page.visit('/web/system')
  const line = (name) => page.getByRole('listitem').filter({ hasText: name })
  await line('创建快照').getByText('已完成。').waitFor()
  await line('账户').getByText('1 个中现在有 1 个可用。').waitFor()
  await line('账本').getByText('没有待写入的记录。').waitFor()
  const health = page.locator('section').filter({ has: page.getByRole('heading', { name: '健康状况' }) })
  assert.doesNotMatch(await health.textContent(), /[a-z]{3}/i)
  await page.finish()
})

test('settings are changed, refused beside their field, and those of the environment stay', async (t) => {
  const own = await startRelay(upstream)
  t.after(() => own.stop())
  const page = await openPage(browser, own, { allow: [/400 .*settings/] })
  await page.visit('/web/system/settings')
  const form = page.locator('section').filter({ has: page.getByRole('heading', { name: 'Settings' }) })
  const save = form.getByRole('button', { name: 'Save' })
  await form.getByLabel('Time zone').waitFor()
  assert.ok(await form.getByLabel('Time zone').isDisabled())
  await form.getByText('Set by the environment; it cannot be changed here.').first().waitFor()
  assert.ok(await save.isDisabled(), 'nothing is changed yet')
  await form.getByLabel('Days that requests are kept').fill('0')
  await save.click()
  const days = form.getByLabel('Days that requests are kept')
  await eventually('it is marked', async () => (await days.getAttribute('aria-invalid')) === 'true')
  await checkAccess(page, 'a refused setting')
  await days.fill('90')
  await form.getByLabel('Title').fill('House relay')
  await form.getByLabel('Description').fill('For all of us')
  await save.click()
  await page.getByText('The settings are saved.').waitFor()
  assert.ok(await save.isDisabled(), 'all of it is kept')
  const { title, retentionDays } = await own.admin('GET', '/admin/settings')
  assert.deepEqual([title.value, title.source, retentionDays.value], ['House relay', 'stored', 90])
  await page.reload()
  await page.getByRole('link', { name: 'House relay' }).waitFor()
  await page.finish()
})

/** Takes what the relay tells; `status` is what it answers. */
async function startHook(t) {
  const hook = { received: [], status: 200, url: '' }
  const server = http.createServer(async (request, response) => {
    let body = ''
    for await (const part of request) body += part
    hook.received.push({ headers: request.headers, body })
    response.writeHead(hook.status).end()
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => (server.closeAllConnections(), server.close()))
  hook.url = `http://127.0.0.1:${server.address().port}/hook/secret-part`
  return hook
}

test('a webhook is set, tested, signed, changed without its secrets, and removed', async (t) => {
  const own = await startRelay(upstream)
  t.after(() => own.stop())
  const hook = await startHook(t)
  const page = await openPage(browser, own, { allow: [/400 .*settings/] })
  await page.visit('/web/system/settings')
  const form = page.locator('section').filter({ has: page.getByRole('heading', { name: 'Webhook' }) })
  const [save, send] = ['Save', 'Send a test'].map((name) => form.getByRole('button', { name }))
  await send.waitFor()
  assert.ok(await send.isDisabled(), 'there is no address yet')
  await form.getByLabel('Address').fill(hook.url)
  await form.getByLabel('Secret for the signature').fill('short')
  const events = form.getByRole('group', { name: 'Tell of' }).getByRole('checkbox')
  for (const event of await events.all()) await event.uncheck()
  await save.click()
  await form.getByText('Choose at least one event.').waitFor()
  await form.getByLabel('An account rests or stops').check()
  await save.click()
  await form.getByRole('alert').getByText('webhook.secret must be').waitFor()
  await form.getByLabel('Secret for the signature').fill(SIGNING)
  await save.click()
  await page.getByText('The settings are saved.').waitFor()
  await send.click()
  await form.getByRole('status').getByText(/^It arrived, in \d/).waitFor()
  const [{ headers, body }] = hook.received
  const [, at, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(headers['x-relay-signature'])
  assert.equal(signature, createHmac('sha256', SIGNING).update(`${at}.${body}`).digest('hex'))
  const content = await page.content()
  assert.ok(!content.includes('secret-part') && !content.includes(SIGNING), 'the page keeps no secret')
  assert.ok(!(await form.getByLabel('Address').inputValue()).includes('secret-part'))

  // What is shown masked stays as it is.
  await form.getByLabel('Form').selectOption({ label: 'Slack, Mattermost, Discord (/slack)' })
  await save.click()
  await eventually('the form is kept', async () => (await own.admin('GET', '/admin/settings')).webhook.preset.value === 'slack')
  hook.status = 500
  await send.click()
  await form.getByRole('status').getByText(/^Failed \(500\): /).waitFor()
  assert.ok(JSON.parse(hook.received.at(-1).body).text, 'it has the form of Slack')
  await checkAccess(page, 'the webhook')
  await shoot(page, 'settings-webhook')

  await form.getByLabel('Address').fill('')
  await save.click()
  await eventually('it is gone', async () => !(await own.admin('GET', '/admin/settings')).webhook.url.isSet)
  await eventually('there is nothing to test', () => send.isDisabled())
  await page.finish()
})

test('a model without a price gets one of the admin’s own, which bills what comes, and loses it again', async () => {
  await (await relay.send(key.apiKey, { model: 'claude-of-tomorrow' })).text()
  const page = await openPage(browser, relay)
  await page.visit('/web/system/prices')
  const missing = page.locator('section').filter({ hasText: 'Models without a price' })
  await missing.getByText('claude-of-tomorrow').waitFor()
  await missing.getByRole('button', { name: 'Set a price' }).click()
  const form = page.getByRole('dialog', { name: 'A price of your own' })
  assert.ok(await form.getByLabel('Model').isDisabled(), 'the model is given')
  await form.getByRole('button', { name: 'Save' }).click()
  await form.getByText('A model and all five prices are needed.').waitFor()
  const rates = { Input: '3', Output: '15', 'Cache write, 5 minutes': '3.75', 'Cache write, 1 hour': '6', 'Cache read': '0.3' }
  for (const [label, rate] of Object.entries(rates)) await form.getByLabel(label, { exact: true }).fill(rate)
  await checkAccess(page, 'the price dialog')
  await page.screenshot({ path: join(shots, 'dialog-price.png') })
  await form.getByRole('button', { name: 'Save' }).click()
  await page.getByText('claude-of-tomorrow has a price.').waitFor()
  await missing.waitFor({ state: 'detached' })
  await page.getByLabel('Search a model').fill('of-tomorrow')
  const row = page.getByRole('row', { name: /claude-of-tomorrow/ })
  await row.getByText('own', { exact: true }).waitFor()
  await (await relay.send(key.apiKey, { model: 'claude-of-tomorrow' })).text()
  const billed = async () => (await relay.admin('GET', '/admin/requests?model=claude-of-tomorrow')).requests[0].cost?.total
  // 1,200 in, 350 out, 4,000 written for five minutes, 21,000 read.
  await eventually('it is billed', async () => Math.abs(((await billed()) ?? 0) - 0.03015) < 1e-9)

  await page.getByRole('button', { name: 'Actions for claude-of-tomorrow' }).click()
  await page.getByRole('menuitem', { name: 'Remove the own price' }).click()
  const sure = page.getByRole('dialog', { name: 'Remove the price of claude-of-tomorrow?' })
  await sure.getByRole('button', { name: 'Remove the own price' }).click()
  await row.waitFor({ state: 'detached' })
  await missing.getByText('claude-of-tomorrow').waitFor()
  await page.finish()
})

test('a backup is made under a passphrase and brings everything back elsewhere', async (t) => {
  const page = await openPage(browser, relay)
  await page.visit('/web/system/backup')
  await page.getByLabel('Passphrase', { exact: true }).first().fill('short')
  await page.getByRole('button', { name: 'Make and download' }).click()
  await page.getByText('At least 12 characters.').waitFor()
  await page.getByLabel('Passphrase', { exact: true }).first().fill(PASSPHRASE)
  await page.getByLabel('Passphrase again').fill(PASSPHRASE)
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Make and download' }).click()])
  assert.match(file.suggestedFilename(), /^claude-relay-.*\.backup$/)
  const path = await file.path()
  await page.getByText(/is made\.$/).waitFor()
  await page.getByRole('button', { name: 'Make one now' }).click()
  await page.locator('li', { hasText: /kB|MB/ }).first().waitFor()

  const other = await startRelay(upstream, { ADMIN_USERNAME: 'someone', ADMIN_PASSWORD: 'quite another password' })
  t.after(() => other.stop())
  const there = await openPage(browser, other, { allow: [/400 .*restore/, /401/] })
  await there.visit('/web/system/backup')
  await there.getByLabel('Backup file').setInputFiles(path)
  const restore = async (passphrase) => {
    await there.getByLabel('Passphrase', { exact: true }).last().fill(passphrase)
    await there.getByRole('button', { name: 'Restore', exact: true }).click()
    await there.getByRole('dialog').getByRole('button', { name: 'Restore' }).click()
  }
  await restore('not the passphrase')
  await there.getByText('The passphrase is wrong or the file is damaged').waitFor()
  await restore(PASSPHRASE)
  await there.getByText(/^1 key and 1 account of/).waitFor()
  await there.getByRole('button', { name: 'Sign in' }).click()
  await eventually('the key works there', async () => (await other.send(key.apiKey).catch(() => null))?.status === 200)
  await there.getByLabel('Name', { exact: true }).fill(ADMIN.username)
  await there.getByLabel('Password', { exact: true }).fill(ADMIN.password)
  await there.getByRole('button', { name: 'Sign in' }).click()
  await there.getByRole('heading', { name: 'System' }).waitFor()
  await there.finish()
  await page.finish()
})

test('everything moves out as an export and in again, a dry run first', async (t) => {
  const page = await openPage(browser, relay, {})
  await page.visit('/web/system/move')
  await page.getByText('Export with all secrets').click()
  await page.getByLabel('ENCRYPTION_KEY of the target').fill(ENCRYPTION_KEY)
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export everything' }).click()])
  const path = await file.path()

  const other = await startRelay(upstream, { ENCRYPTION_KEY })
  t.after(() => other.stop())
  const there = await openPage(browser, other)
  await there.visit('/web/system/move')
  await there.getByLabel('Source').selectOption({ label: 'Its export, a JSON file' })
  await there.getByRole('button', { name: 'Dry run' }).click()
  await there.getByText('Choose the file.').waitFor()
  await there.getByLabel('Export file').setInputFiles(path)
  await there.getByLabel('ENCRYPTION_KEY of the original').fill(ENCRYPTION_KEY)
  await there.getByRole('button', { name: 'Dry run' }).click()
  await there.getByText('Nothing was written. This is what would come.').waitFor()
  assert.equal((await other.admin('GET', '/admin/api-keys')).length, 0)
  await there.getByRole('button', { name: 'Move in', exact: true }).click()
  await there.getByRole('dialog').getByRole('button', { name: 'Move in' }).click()
  await there.getByText('Everything was written and checked.').waitFor()
  const row = there.getByRole('row', { name: /API keys/ })
  assert.deepEqual(await row.getByRole('cell').allTextContents(), ['1', '1', '0', '1'])
  await shoot(there, 'move-report')
  await checkAccess(there, 'the report')
  // Accounts that pay by use are not in that format.
  await other.admin('POST', '/admin/claude-accounts', { name: 'Console', kind: 'api_key', apiKey: 'sk-ant-there' })
  assert.equal((await other.send(key.apiKey)).status, 200, 'the same key works')
  await there.finish()
  await page.finish()
})

test('a live Redis moves in with its progress in sight, also after the page was left; a cancelled one changes nothing', async (t) => {
  const count = 40_000
  const redis = await startRedis({ count, encryptionKey: ENCRYPTION_KEY, day: '2026-02-03' })
  t.after(() => redis.stop())
  const own = await startRelay(upstream)
  t.after(() => own.stop())
  await own.admin('POST', '/admin/claude-accounts', { name: 'Console', kind: 'api_key', apiKey: 'sk-ant-there' })
  const page = await openPage(browser, own, { allow: [/400 .*migrate/] })
  await page.visit('/web/system/move')
  const [dry, start] = ['Dry run', 'Move in'].map((name) => page.getByRole('button', { name, exact: true }))
  const bar = page.getByRole('progressbar')
  const keys = async () => (await own.admin('GET', '/admin/api-keys')).length

  await page.getByLabel('Address of Redis').fill('http://127.0.0.1:1')
  await dry.click()
  await page.getByText('An address that begins with redis://').waitFor()
  await page.getByLabel('Address of Redis').fill(redis.url)
  await page.getByLabel('ENCRYPTION_KEY of the original').fill(ENCRYPTION_KEY)
  await page.getByText('More', { exact: true }).click()
  const sample = page.getByLabel('One clear API key of the original')
  await sample.fill(`cr_${'0'.repeat(64)}`)
  await dry.click()
  await page.getByText('Failed', { exact: true }).waitFor()
  await sample.fill(redis.clear(7))

  await start.click()
  await page.getByRole('dialog').getByRole('button', { name: 'Move in' }).click()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByText('Cancelled', { exact: true }).waitFor()
  assert.equal(await keys(), 0, 'nothing was changed')

  await start.click()
  await page.getByRole('dialog').getByRole('button', { name: 'Move in' }).click()
  await bar.waitFor()
  await shoot(page, 'move-running')
  await page.reload()
  await bar.waitFor()
  await checkAccess(page, 'a migration that runs')
  await eventually('it goes on', async () => Number(await bar.getAttribute('aria-valuenow').catch(() => 100)) > 0)
  await page.getByText('Everything was written and checked.').waitFor({ timeout: 60_000 })
  const row = page.getByRole('row', { name: /API keys/ })
  assert.deepEqual(await row.getByRole('cell').allTextContents(), ['40,000', '40,000', '0', '40,000'])
  assert.equal(await keys(), count)
  assert.equal((await own.send(redis.clear(count - 1))).status, 200, 'the same key works')
  await page.reload()
  await row.waitFor()
  await page.finish()
})

test('a Chinese page tells a migration and what is refused in Chinese', async (t) => {
  const other = await startRelay(upstream)
  t.after(() => other.stop())
  const page = await openPage(browser, other, { locale: 'zh-CN', allow: [/400 .*restore/] })
  await page.visit('/web/system/move')
  const data = {
    apiKeys: [{ id: 'k', name: 'k', isActive: 'true', tokenLimit: 'many', apiKey: 'a'.repeat(64) }],
    claudeAccounts: [
      { id: 'a', name: 'A', createdAt: '2026-01-01', isActive: 'true', accessToken: 'sk-ant-oat01-x', proxy: '{}' },
      { id: 'b' },
    ],
  }
  const move = async (source) => {
    const buffer = Buffer.from(JSON.stringify(source))
    await page.getByLabel('来源').selectOption({ label: 'JSON 导出文件' })
    await page.getByLabel('导出文件').setInputFiles({ name: 'export.json', mimeType: 'application/json', buffer })
    await page.getByLabel('原服务的 ENCRYPTION_KEY').fill(ENCRYPTION_KEY)
    await page.getByRole('button', { name: '试运行' }).click()
  }
  await move({ metadata: { version: '3.0' }, data })
  await page.getByText('导出文件须为原服务格式的 1.0 或 2.0 版本。').waitFor()
  await move({ metadata: { version: '2.0' }, data })
  await page.getByText('1 个密钥：有一项限额不是数字，在这里不设该限额。').waitFor()
  await page.getByText('账户“A”已关闭，其代理无法使用：代理需要类型、主机和端口。').waitFor()
  await page.getByText('跳过 1 项：残留记录，没有名称和创建时间').waitFor()
  const report = await page.locator('li').allTextContents()
  assert.deepEqual(report.filter((text) => /is|are|here/.test(text)), [])
  await shoot(page, 'move-report-zh')

  await page.visit('/web/system/backup')
  await page.getByLabel('备份文件').setInputFiles({ name: 'x.backup', mimeType: '', buffer: Buffer.alloc(5000) })
  await page.getByLabel('口令', { exact: true }).last().fill('anything')
  await page.getByRole('button', { name: '恢复', exact: true }).click()
  await page.getByRole('dialog').getByRole('button', { name: '恢复' }).click()
  await page.getByText('该文件不是 claude-relay 的备份。').waitFor()
  await page.finish()
})

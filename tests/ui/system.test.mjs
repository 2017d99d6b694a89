// The relay itself: its state, a backup and the way back, moving out and in.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ADMIN, checkAccess, checkWidth, eventually, openPage, shoot, startBrowser, startRelay, startUpstream } from './harness.mjs'

const ENCRYPTION_KEY = 'a-key-of-thirty-two-characters-0'
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
  await line('账户').getByText('1 个中有 1 个可用。').waitFor()
  await line('账本').getByText('没有待写入的记录。').waitFor()
  const health = page.locator('section').filter({ has: page.getByRole('heading', { name: '健康状况' }) })
  assert.doesNotMatch(await health.textContent(), /[a-z]{3}/i)
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
  await there.getByText(/^1 keys and 1 accounts of/).waitFor()
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

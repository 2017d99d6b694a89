// Who is let in, what a lost session does, and the first steps of a new relay.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ADMIN, checkAccess, eventually, openPage, shoot, startBrowser, startRelay, startUpstream } from './harness.mjs'

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
const allow = [/401 .*\/web\/auth\/(user|login)/]

async function signIn(page, { username, password }) {
  await page.getByLabel('Name', { exact: true }).fill(username)
  await page.getByLabel('Password', { exact: true }).fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

test('a wrong password is told as one, the right one leads to the page that was asked for, and signing out ends it', async () => {
  const page = await openPage(browser, relay, { isSignedIn: false, allow })
  await page.visit('/web/keys?sort=-today')
  await signIn(page, { ...ADMIN, password: 'wrong' })
  await page.getByRole('alert').getByText('The name or the password is wrong').waitFor()
  await signIn(page, ADMIN)
  await page.getByRole('heading', { name: 'API keys' }).waitFor()
  assert.match(page.url(), /\/web\/keys\?sort=-today$/)
  const cookie = (await page.context().cookies()).find(({ name }) => name === 'adminToken')
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict'])
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  assert.equal(await page.getByText('API keys').count(), 0, 'nothing of the page is left')
  await page.finish()
})

test('a session that ends does not lose what stands in a form', async () => {
  const page = await openPage(browser, relay, { allow: [/401/] })
  await page.visit('/web/keys')
  await page.getByRole('button', { name: 'New key' }).first().click()
  await page.getByLabel('Name', { exact: true }).fill('Written before the session ended')
  await page.context().clearCookies()
  await page.getByRole('button', { name: 'Create', exact: true }).click()
  const again = page.getByRole('dialog', { name: 'Sign in to go on' })
  await again.waitFor()
  await checkAccess(page, 'the sign-in over a page')
  await shoot(page, 'sign-in-again')
  await page.keyboard.press('Escape')
  await again.getByLabel('Password', { exact: true }).fill(ADMIN.password)
  await again.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'The new key' }).waitFor()
  const [key] = (await relay.admin('GET', '/admin/api-keys')).filter(({ name }) => name.startsWith('Written'))
  assert.ok(key, 'the key was made after the sign-in')
  await page.finish()
})

test('a new relay leads through its first steps, and each ticks itself', async (t) => {
  const fresh = await startRelay(upstream, { ADMIN_USERNAME: undefined, ADMIN_PASSWORD: undefined })
  t.after(() => fresh.stop())
  const { adminUsername: username, adminPassword: password } = JSON.parse(readFileSync(join(fresh.folder, 'data/init.json')))
  const page = await openPage(browser, fresh, { isSignedIn: false, allow })
  await page.visit('/web')
  await signIn(page, { username, password })
  await page.getByRole('heading', { name: 'Welcome' }).waitFor()
  assert.match(page.url(), /\/web\/welcome$/)
  // The made-up name is a long one.
  assert.ok(await page.getByRole('complementary').evaluate((side) => side.scrollWidth <= side.clientWidth), 'the side fits')
  await shoot(page, 'welcome-first')

  await page.getByRole('button', { name: 'Change', exact: true }).click()
  const form = page.getByRole('dialog')
  await form.getByLabel('Your password now').fill('not it')
  await form.getByLabel('New password', { exact: true }).fill('a better password')
  await form.getByLabel('New password again').fill('another password')
  await form.getByRole('button', { name: 'Change', exact: true }).click()
  await form.getByText('The two differ.').waitFor()
  await form.getByLabel('New password again').fill('a better password')
  page.allow(/401 .*change-password/)
  await form.getByRole('button', { name: 'Change', exact: true }).click()
  await form.getByText('That is not your password.').waitFor()
  await form.getByLabel('Your password now').fill(password)
  await form.getByRole('button', { name: 'Change', exact: true }).click()
  await form.waitFor({ state: 'detached' })

  await page.getByRole('button', { name: 'Add', exact: true }).click()
  await page.getByRole('button', { name: /^API key/ }).click()
  await page.getByLabel('Name', { exact: true }).fill('Console')
  await page.getByRole('textbox', { name: 'API key' }).fill('sk-ant-api03-welcome')
  await page.getByRole('button', { name: 'Add an account' }).click()
  await page.getByRole('button', { name: 'Make', exact: true }).click()
  await page.getByLabel('Name', { exact: true }).fill('Me')
  await page.getByRole('button', { name: 'Create', exact: true }).click()
  await page.getByRole('button', { name: 'Test it now' }).click()
  await page.getByText('It works: claude-haiku-4-5').waitFor()
  await page.getByRole('button', { name: 'Copy the key' }).click()
  await page.getByRole('button', { name: 'Done' }).click()
  await eventually('all four steps are done', async () => (await page.getByText('done', { exact: true }).count()) === 4)
  await shoot(page, 'welcome-last')
  await page.getByRole('link', { name: 'Go to the overview' }).click()
  await page.getByRole('heading', { name: 'Overview' }).waitFor()
  await page.finish()
})

// Accounts: added in each of the three ways, through a proxy, tested, resting and woken, deleted.

import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { checkAccess, eventually, openPage, shoot, shots, startBrowser, startRelay, startUpstream } from './harness.mjs'

let browser, relay, upstream, proxy
before(async () => {
  upstream = await startUpstream()
  relay = await startRelay(upstream)
  browser = await startBrowser()
  proxy = await startProxy()
})
after(async () => {
  await browser.close()
  await relay.stop()
  upstream.close()
  proxy.close()
})

/**
 * A proxy that takes both forms: CONNECT, and whole addresses. What it was asked for is kept in `passed`; from
 * which ports its tunnels go on, in `ports`.
 */
async function startProxy() {
  const passed = []
  const server = http.createServer((request, response) => {
    passed.push(request.url)
    const target = new URL(request.url)
    const onward = http.request(target, { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  const tunnels = new Set()
  const ports = new Set()
  server.on('connect', (request, socket) => {
    passed.push(request.url)
    tunnels.add(socket)
    const [host, port] = request.url.split(':')
    const onward = net.connect(Number(port), host, () => {
      ports.add(onward.localPort)
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(socket)
      socket.pipe(onward)
    })
    onward.on('error', () => socket.destroy())
    socket.on('error', () => onward.destroy())
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const close = () => {
    for (const socket of tunnels) socket.destroy()
    server.closeAllConnections()
    server.close()
  }
  return { port: String(server.address().port), passed, ports, close }
}

const stored = async (name) => (await relay.admin('GET', '/admin/claude-accounts')).find((account) => account.name === name)
const card = (page, name) => page.getByRole('article').filter({ hasText: name })

test('an API key account is added, and goes through its proxy', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/accounts')
  await page.getByRole('button', { name: 'Add an account' }).first().click()
  const form = page.getByRole('dialog')
  await form.getByRole('button', { name: /^API key/ }).click()
  await form.getByRole('button', { name: 'Add an account' }).click()
  await form.getByText('The API key is needed.').waitFor()
  await form.getByLabel('Name', { exact: true }).fill('Console')
  await form.getByRole('textbox', { name: 'API key' }).fill('sk-ant-api03-console')
  await fillProxy(form, '70000')
  await form.getByRole('button', { name: 'Add an account' }).click()
  await form.getByText('A number from 1 to 65535.').waitFor()
  await form.getByLabel('Port').fill(proxy.port)
  await form.getByRole('button', { name: 'Add an account' }).click()
  await form.waitFor({ state: 'detached' })

  await card(page, 'Console').getByText('through http://127.0.0.1').waitFor()
  const key = await relay.admin('POST', '/admin/api-keys', { name: 'Any' })
  assert.equal((await relay.send(key.apiKey)).status, 200)
  assert.ok(proxy.passed.length > 0, 'the request went through the proxy')
  assert.ok(!(await page.content()).includes('sk-ant-api03-console'))
  await page.finish()
})

test('a subscription signs in by its link; a wrong code is told and the link stays', async () => {
  const page = await openPage(browser, relay, { allow: [/(400|500) .*exchange-code/] })
  await page.visit('/web/accounts?add=1')
  const form = page.getByRole('dialog')
  await form.getByRole('button', { name: /^Claude subscription/ }).click()
  await form.getByText('restrict what they may be used with').waitFor()
  await form.getByLabel('Name', { exact: true }).fill('Family')
  await form.getByRole('button', { name: 'Make the link' }).click()
  await form.getByText(/Good for (9:5\d|10:00)/).waitFor()
  const link = new URL(await form.getByRole('link', { name: 'Open' }).getAttribute('href'))
  assert.equal(link.searchParams.get('code_challenge_method'), 'S256')
  const code = form.getByLabel('Code, or the address')
  await code.fill('short')
  await form.getByText('That is too short for a code.').waitFor()
  await code.fill('https://console.anthropic.com/oauth?x=1')
  await form.getByText('This address has no code in it.', { exact: false }).waitFor()
  upstream.token = (_, reply) => reply(400, { error: 'invalid_grant', error_description: 'Code is wrong' })
  await code.fill(`wrong-code-0123456789#${link.searchParams.get('state')}`)
  await form.getByText('Looks like a code.').waitFor()
  await form.getByRole('button', { name: 'Finish' }).click()
  await form.getByRole('alert').waitFor()
  upstream.token = null
  await code.fill(`right-code-0123456789#${link.searchParams.get('state')}`)
  await form.getByRole('button', { name: 'Finish' }).click()
  await form.waitFor({ state: 'detached' })
  await card(page, 'Family').getByText('Claude subscription').waitFor()
  assert.equal((await stored('Family')).kind, 'oauth')
  const grant = upstream.received.filter(({ url }) => url.startsWith('/v1/oauth/token')).at(-1)
  assert.equal(grant.body.code, 'right-code-0123456789')
  await page.finish()
})

test('a setup token is added, a subscription renews its token, and each is switched off and on', async () => {
  const page = await openPage(browser, relay)
  await page.visit('/web/accounts?add=1')
  const form = page.getByRole('dialog')
  await form.getByRole('button', { name: /^Setup token/ }).click()
  await form.getByText('restrict what they may be used with').waitFor()
  await form.getByLabel('Name', { exact: true }).fill('For a year')
  await form.getByRole('textbox', { name: 'Setup token' }).fill('sk-ant-oat01-for-a-year')
  await form.getByRole('button', { name: 'Add an account' }).click()
  await form.waitFor({ state: 'detached' })
  await card(page, 'For a year').getByText('Serving', { exact: true }).waitFor()
  assert.equal((await stored('For a year')).kind, 'setup_token')

  const menu = async (name, item) => {
    await page.getByRole('button', { name: `Actions for ${name}` }).click()
    await page.getByRole('menuitem', { name: item }).click()
  }
  const before = upstream.received.length
  await menu('Family', 'Renew the token')
  await page.getByText('The token of “Family” is renewed.').waitFor()
  const { url, body } = upstream.received[before]
  assert.deepEqual([url, body.grant_type], ['/v1/oauth/token', 'refresh_token'])
  await menu('For a year', 'Switch off')
  await card(page, 'For a year').getByText('Switched off', { exact: true }).waitFor()
  assert.equal((await stored('For a year')).isActive, false)
  await menu('For a year', 'Switch on')
  await card(page, 'For a year').getByText('Serving', { exact: true }).waitFor()
  await page.finish()
})

test('an account is tried from its card, and its history keeps how it went', async () => {
  await relay.admin('POST', '/admin/claude-accounts', { name: 'Tried', kind: 'api_key', apiKey: 'sk-ant-api03-tried', accountType: 'dedicated' })
  const page = await openPage(browser, relay)
  await page.visit('/web/accounts')
  const tried = card(page, 'Tried')
  await tried.getByRole('button', { name: 'Test' }).click()
  await tried.getByRole('status').getByText(/^claude-haiku-4-5 answered in \d/).waitFor()
  assert.equal(upstream.received.at(-1).headers['x-api-key'], 'sk-ant-api03-tried')
  upstream.next = ({ reply }) => reply(401, { type: 'error', error: { type: 'authentication_error', message: 'invalid x-api-key' } })
  await tried.getByRole('button', { name: 'Test' }).click()
  await tried.getByRole('status').getByText('Failed (401): invalid x-api-key').waitFor()
  await tried.getByText('Serving', { exact: true }).waitFor()
  await checkAccess(page, 'a test that failed')
  await tried.getByRole('link', { name: 'Tried' }).click()
  await page.getByRole('row', { name: /Tested.*invalid x-api-key/ }).waitFor()
  await page.getByRole('row', { name: /Tested.*the account answers/ }).waitFor()
  await page.getByRole('button', { name: 'Test' }).click()
  await page.getByRole('status').getByText(/answered in/).waitFor()
  await eventually('the history has three', async () => (await page.getByRole('row', { name: /Tested/ }).count()) === 3)
  await page.finish()
})

/** A port where nobody listens. */
async function closedPort() {
  const server = net.createServer()
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return String(port)
}

async function fillProxy(form, port) {
  await form.getByText('Proxy', { exact: true }).click()
  await form.getByLabel('Use a proxy').check()
  await form.getByLabel('Type').selectOption('http')
  await form.getByLabel('Host').fill('127.0.0.1')
  await form.getByLabel('Port').fill(port)
}

test('a proxy is tested where it is typed, before anything is kept', async (t) => {
  const fresh = await startProxy()
  t.after(fresh.close)
  const page = await openPage(browser, relay)
  await page.visit('/web/accounts?add=1')
  const form = page.getByRole('dialog')
  await form.getByRole('button', { name: /^API key/ }).click()
  await fillProxy(form, '')
  const button = form.getByRole('button', { name: 'Test the proxy' })
  assert.ok(await button.isDisabled(), 'there is nothing to test yet')
  await form.getByLabel('Port').fill(await closedPort())
  await button.click()
  await form.getByRole('status').getByText(/^The upstream was not reached: /).waitFor()
  await form.getByLabel('Port').fill(fresh.port)
  await form.getByText('was not reached').waitFor({ state: 'detached' })
  await button.click()
  await form.getByRole('status').getByText(`Reached ${upstream.url}/ in`).waitFor()
  assert.equal(fresh.passed.length, 1, 'the test went through the proxy')
  await checkAccess(page, 'a tested proxy')
  await page.keyboard.press('Escape')
  await form.waitFor({ state: 'detached' })
  await page.finish()
})

test('a sign-in through a proxy has its test beside the link, and goes through it', async (t) => {
  const fresh = await startProxy()
  t.after(fresh.close)
  const page = await openPage(browser, relay)
  await page.visit('/web/accounts?add=1')
  const form = page.getByRole('dialog')
  await form.getByRole('button', { name: /^Claude subscription/ }).click()
  await form.getByLabel('Name', { exact: true }).first().fill('Behind the proxy')
  await fillProxy(form, fresh.port)
  await form.getByRole('button', { name: 'Make the link' }).click()
  await form.getByText(`redeemed through http://127.0.0.1:${fresh.port}.`).waitFor()
  await form.getByRole('button', { name: 'Test the proxy' }).click()
  await form.getByRole('status').getByText(`Reached ${upstream.url}/ in`).waitFor()
  await checkAccess(page, 'the link of a sign-in through a proxy')
  await page.screenshot({ path: join(shots, 'account-link-proxy.png') })
  const link = new URL(await form.getByRole('link', { name: 'Open' }).getAttribute('href'))
  await form.getByLabel('Code, or the address').fill(`right-code-0123456789#${link.searchParams.get('state')}`)
  await form.getByRole('button', { name: 'Finish' }).click()
  await form.waitFor({ state: 'detached' })
  await card(page, 'Behind the proxy').getByText('through http://127.0.0.1').waitFor()
  const grant = upstream.received.filter(({ url }) => url.startsWith('/v1/oauth/token')).at(-1)
  assert.ok(fresh.ports.has(grant.port), 'the code was redeemed through the proxy')
  await page.finish()
})

test('an account that rests says why and until when, is woken, and its history tells of it', async () => {
  const { id } = await relay.admin('POST', '/admin/claude-accounts', { name: 'Tired', kind: 'api_key', apiKey: 'sk-ant-api03-tired', accountType: 'dedicated' })
  const key = await relay.admin('POST', '/admin/api-keys', { name: 'Bound', claudeAccountId: id })
  upstream.next = ({ reply }) =>
    reply(429, { type: 'error', error: { type: 'rate_limit_error', message: 'Slow down.' } }, { 'retry-after': '1800' })
  await (await relay.send(key.apiKey)).text()
  const page = await openPage(browser, relay)
  await page.visit('/web/accounts')
  const tired = card(page, 'Tired')
  await tired.getByText(/Not for sonnet until .* \((29|30):\d\d\): its limit is used up\. The upstream said: Slow down/).waitFor()
  await shoot(page, 'account-resting')
  await tired.getByRole('button', { name: 'Try now' }).click()
  await tired.getByText('Serving', { exact: true }).waitFor()
  assert.equal((await stored('Tired')).rest, null)
  await tired.getByRole('link', { name: 'Tired' }).click()
  await page.getByRole('row', { name: /Rests/ }).waitFor()
  await page.getByRole('row', { name: /Woken/ }).waitFor()

  await page.getByRole('button', { name: 'Actions for Tired' }).click()
  await page.getByRole('menuitem', { name: 'Delete' }).click()
  const sure = page.getByRole('dialog', { name: 'Delete “Tired”?' })
  await sure.getByText('1 key uses only this account').waitFor()
  await sure.getByRole('button', { name: 'Delete' }).click()
  await eventually('it is gone', async () => !(await stored('Tired')))
  await page.getByRole('heading', { name: 'Accounts' }).waitFor()
  await page.finish()
})

test('a change of an account keeps its secrets, and is refused in words', async () => {
  const page = await openPage(browser, relay, { allow: [/400/] })
  await page.visit('/web/accounts')
  await page.getByRole('button', { name: 'Actions for Console' }).click()
  await page.getByRole('menuitem', { name: 'Edit' }).click()
  const form = page.getByRole('dialog')
  await form.getByText('Routing and limits').click()
  await form.getByLabel('Priority').fill('101')
  await form.getByRole('button', { name: 'Save' }).click()
  await form.getByText('A whole number from 1 to 100.').waitFor()
  await form.getByLabel('Priority').fill('7')
  await form.getByLabel('Other names for models').fill('claude-old=claude-haiku-4-5')
  await form.getByRole('button', { name: 'Save' }).click()
  await form.waitFor({ state: 'detached' })
  const account = await stored('Console')
  assert.deepEqual([account.priority, account.modelMapping], [7, { 'claude-old': 'claude-haiku-4-5' }])
  const key = await relay.admin('POST', '/admin/api-keys', { name: 'Bound to it', claudeAccountId: account.id })
  assert.equal((await relay.send(key.apiKey, { model: 'claude-old' })).status, 200)
  const { headers, body } = upstream.received.at(-1)
  assert.deepEqual([headers['x-api-key'], body.model], ['sk-ant-api03-console', 'claude-haiku-4-5'])
  await page.finish()
})

test('two hundred accounts stay a page at a time', async (t) => {
  const many = await startRelay(upstream)
  t.after(() => many.stop())
  for (let number = 0; number < 200; number += 1) {
    await many.admin('POST', '/admin/claude-accounts', { name: `account ${number}`, kind: 'api_key', apiKey: `sk-ant-api03-${number}` })
  }
  const page = await openPage(browser, many)
  await page.visit('/web/accounts')
  await page.getByRole('article').nth(23).waitFor()
  assert.equal(await page.getByRole('article').count(), 24)
  assert.ok((await page.evaluate(() => document.querySelectorAll('*').length)) < 2500)
  await page.getByLabel('Search name or note').fill('199')
  await eventually('one is left', async () => (await page.getByRole('article').count()) === 1)
  await page.finish()
})

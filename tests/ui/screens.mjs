// Makes the README's pictures anew, in web/screens: `npm run screens`, with ImageMagick to shrink them. It is no test. A relay is
// given the keys of a few people with a week of use, which comes in as an export; then the pages are looked at while requests run.

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beginStream, eventually, message, openPage, startBrowser, startRelay, startUpstream } from './harness.mjs'

const ENCRYPTION_KEY = 'a-key-of-thirty-two-characters-0'
const folder = join(import.meta.dirname, '../../web/screens')
const [opus, sonnet, haiku] = ['claude-opus-4-1', 'claude-sonnet-4-5', 'claude-haiku-4-5']

/** Who uses the relay: their limits, what they did on each of the last days, and the model that they use. */
const PEOPLE = [
  { name: 'Ann', limits: { tags: ['family'], dailyCostLimit: 15 }, days: [40, 52, 61, 48, 70, 35, 33], model: opus },
  { name: 'Ben', limits: { tags: ['family'], dailyCostLimit: 6 }, days: [90, 130, 84, 152, 120, 60, 102], model: sonnet },
  { name: 'Chiara', limits: { tags: ['studio'], monthlyCostLimit: 60 }, days: [160, 240, 260, 210, 230, 96, 120], model: sonnet },
  { name: 'Course, spring term', limits: { tags: ['school'], dailyCostLimit: 1 }, days: [70, 170, 190, 60, 240, 12, 131], model: haiku },
  { name: 'Nightly build', limits: { tags: ['robots', 'studio'], weeklyCostLimit: 20 }, days: [300, 310, 290, 305, 320, 296, 308], model: haiku },
  { name: 'Omar', limits: { tags: ['studio'], dailyCostLimit: 8 }, days: [110, 90, 175, 150, 166, 40, 74], model: sonnet },
  { name: 'Review bot', limits: { tags: ['robots'], rateLimitWindow: 60, rateLimitRequests: 20 }, days: [60, 85, 92, 77, 101, 20, 48], model: sonnet },
]

const PICTURES = [
  { name: 'keys', path: '/web/keys', look: { width: 1200, height: 560 } },
  { name: 'phone', path: '/web/accounts', look: { width: 390, height: 844, theme: 'dark' } },
  { name: 'overview', path: '/web', look: { width: 1200, height: 1276 } },
]

const dayOf = (back) =>
  new Intl.DateTimeFormat('en-CA', { timeZone: 'Europe/Berlin', dateStyle: 'short' }).format(Date.now() - back * 86_400_000)
const texts = (record) => Object.fromEntries(Object.entries(record).map(([name, value]) => [name, String(value)]))

/** What so many requests use, in the form of the export. */
function use(requests) {
  const tokens = { inputTokens: 2600 * requests, outputTokens: 720 * requests, cacheCreateTokens: 2100 * requests, cacheReadTokens: 14_000 * requests }
  return { ...tokens, allTokens: Object.values(tokens).reduce((sum, one) => sum + one, 0), requests }
}

function stats({ days, model }) {
  const by = (name) => {
    const sums = {}
    days.forEach((requests, at) => (sums[name(at)] = (sums[name(at)] ?? 0) + requests))
    return Object.fromEntries(Object.entries(sums).map(([when, requests]) => [when, texts(use(requests))]))
  }
  const back = (at) => days.length - 1 - at
  const spans = { daily: by((at) => dayOf(back(at))), monthly: by((at) => dayOf(back(at)).slice(0, 7)) }
  const all = Object.entries(use(days.reduce((sum, one) => sum + one, 0)))
  const total = Object.fromEntries(all.map(([name, value]) => [`total${name[0].toUpperCase()}${name.slice(1)}`, String(value)]))
  return { total, ...spans, models: { [model]: spans } }
}

/** The people's keys, and an export that has them with their week. */
async function week(upstream) {
  const relay = await startRelay(upstream, { ENCRYPTION_KEY })
  const keys = []
  for (const { name } of PEOPLE) keys.push(await relay.admin('POST', '/admin/api-keys', { name }))
  const response = await fetch(`${relay.origin}/admin/export`, {
    method: 'POST',
    headers: { authorization: `Bearer ${relay.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ encryptionKey: ENCRYPTION_KEY }),
  })
  const found = await response.json()
  await relay.stop()
  for (const record of found.data.apiKeys) record.usageStats = stats(PEOPLE.find(({ name }) => name === record.name))
  return { found, keys }
}

async function moveIn(relay, found) {
  const { id } = await relay.admin('POST', '/admin/migrate', { source: 'json', export: found, encryptionKey: ENCRYPTION_KEY, dryRun: false })
  await eventually('the week has come', async () => (await relay.admin('GET', `/admin/migrate/${id}`)).state === 'done')
}

/** The fields in which the upstream says how much of a subscription's windows is used. */
function windows(fiveHour, sevenDay, hours) {
  const state = fiveHour < 1 ? 'allowed' : 'rejected'
  const end = String(Math.floor(Date.now() / 1000 + hours * 3600))
  return {
    'anthropic-ratelimit-unified-status': state,
    'anthropic-ratelimit-unified-5h-status': state,
    'anthropic-ratelimit-unified-5h-utilization': String(fiveHour),
    'anthropic-ratelimit-unified-5h-reset': end,
    'anthropic-ratelimit-unified-7d-status': 'allowed',
    'anthropic-ratelimit-unified-7d-utilization': String(sevenDay),
    'anthropic-ratelimit-unified-7d-reset': String(Math.floor(Date.now() / 1000 + 3.4 * 86_400)),
    'anthropic-ratelimit-unified-reset': end,
  }
}

function subscribe(relay, name, more) {
  const scopes = ['user:inference', 'user:profile']
  const expiresAt = Date.now() + 7 * 3600_000
  const claudeAiOauth = { accessToken: `sk-ant-oat01-${name}`, refreshToken: `sk-ant-ort01-${name}`, expiresAt, scopes }
  return relay.admin('POST', '/admin/claude-accounts', { name, claudeAiOauth, ...more })
}

/** A request of a key's that runs until `end`. */
async function run(relay, upstream, key, model, read) {
  let end
  upstream.next = ({ body, response }) => (end = beginStream(response, body.model, { cache_read_input_tokens: read, output_tokens: 300 }))
  const answer = relay.send(key.apiKey, { stream: true, model, messages: [{ role: 'user', content: String(read) }] })
  await eventually('it runs', () => end)
  return () => (end(), answer.then((response) => response.text()))
}

/** Accounts that have served, one of which rests; and requests that run. Returns what ends them. */
async function furnish(relay, upstream, keys) {
  const served = [
    [await subscribe(relay, 'Max plan, studio', { priority: 10, maxConcurrency: 6 }), windows(0.46, 0.38, 2.6)],
    [await subscribe(relay, 'Max plan, home', { priority: 20 }), windows(0.82, 0.57, 1.2)],
    [await subscribe(relay, 'Pro plan', { priority: 30 }), windows(0.18, 0.24, 4.1)],
    [await relay.admin('POST', '/admin/claude-accounts', { name: 'Console', kind: 'api_key', apiKey: 'sk-ant-api03-c', priority: 90 }), {}],
  ]
  const ends = [await run(relay, upstream, keys[2], sonnet, 48_100)]
  for (const [turn, [account, told]] of served.entries()) {
    for (const at of [turn, (turn + 4) % PEOPLE.length, PEOPLE.length - 1]) {
      await relay.admin('PUT', `/admin/api-keys/${keys[at].id}`, { claudeAccountId: account.id })
      upstream.next = ({ body, reply }) => reply(200, message(body.model, { output_tokens: 400 + 90 * at }), told)
      await (await relay.send(keys[at].apiKey, { model: PEOPLE[at].model })).text()
    }
  }
  for (const [at, { limits }] of PEOPLE.entries()) await relay.admin('PUT', `/admin/api-keys/${keys[at].id}`, limits)
  for (let turn = 0; turn < 7; turn += 1) await (await relay.send(keys.at(-1).apiKey)).text()
  // The home's subscription has reached the end of its five hours.
  await relay.admin('PUT', `/admin/api-keys/${keys[1].id}`, { claudeAccountId: served[1][0].id })
  const error = { type: 'error', error: { type: 'rate_limit_error', message: '' } }
  upstream.next = ({ reply }) => reply(429, error, windows(1, 0.57, 1.2))
  await (await relay.send(keys[1].apiKey)).text()
  for (const { id } of keys) await relay.admin('PUT', `/admin/api-keys/${id}`, { claudeAccountId: null })
  ends.push(await run(relay, upstream, keys[0], opus, 26_700))
  ends.push(await run(relay, upstream, keys[5], sonnet, 91_400))
  return ends
}

async function picture(browser, relay, { name, path, look }) {
  const page = await openPage(browser, relay, { ...look, scale: look.width > 900 ? 0.75 : 1 })
  await page.visit(path)
  await page.locator('.animate-pulse').first().waitFor({ state: 'detached' })
  if (path === '/web') await page.getByRole('row', { name: /Omar/ }).filter({ hasText: 'answering' }).waitFor()
  const file = join(data, `${name}.png`)
  await page.screenshot({ path: file })
  await page.finish()
  execFileSync('convert', [file, '+dither', '-strip', '-colors', '128', `PNG8:${join(folder, `${name}.png`)}`])
}

const data = mkdtempSync(join(tmpdir(), 'claude-relay-screens-'))
const env = { ENCRYPTION_KEY, DATA_DIR: join(data, 'relay') }
const upstream = await startUpstream()
const { found, keys } = await week(upstream)
const before = await startRelay(upstream, env)
await moveIn(before, found)
await before.stop()
const relay = await startRelay(upstream, env)
const browser = await startBrowser()
try {
  const ends = await furnish(relay, upstream, keys)
  mkdirSync(folder, { recursive: true })
  for (const one of PICTURES) await picture(browser, relay, one)
  for (const end of ends) await end()
} finally {
  await browser.close()
  await relay.stop()
  upstream.close()
  rmSync(data, { recursive: true })
}

// What the tests of the pages stand on: the real binary with a folder of its own, a scripted upstream with a token endpoint,
// and a real Chromium whose every page is watched for what must never happen.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { chromium } from 'playwright-core'
import { eventually } from './eventually.mjs'
import { takeMouse } from './keyboard.mjs'

export { eventually }

const root = resolve(import.meta.dirname, '../..')
const program = process.env.RELAY_BINARY ?? join(root, 'target/release/claude-relay')
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
export const shots = join(import.meta.dirname, 'shots')
export const ADMIN = { username: 'keeper', password: 'correct-horse-battery' }

const usage = { input_tokens: 1200, output_tokens: 350, cache_creation_input_tokens: 4000, cache_read_input_tokens: 21000 }

/** A whole answer in the upstream's form. */
export function message(model, more = {}) {
  return {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model,
    content: [{ type: 'text', text: 'Hello.' }],
    stop_reason: 'end_turn',
    usage: { ...usage, ...more },
  }
}

/** The first part of an event stream; `endStream` is the rest. */
export function beginStream(response, model, more = {}) {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const event = (name, data) => response.write(`event: ${name}\ndata: ${JSON.stringify({ type: name, ...data })}\n\n`)
  event('message_start', { message: { ...message(model), content: [], usage: { ...usage, output_tokens: 1, ...more } } })
  event('content_block_start', { index: 0, content_block: { type: 'text', text: '' } })
  event('content_block_delta', { index: 0, delta: { type: 'text_delta', text: 'Hel' } })
  return function endStream() {
    event('content_block_stop', { index: 0 })
    event('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: usage.output_tokens } })
    event('message_stop', {})
    response.end()
  }
}

/** The upstream and its token endpoint. `next` answers the next message instead of the usual. */
export async function startUpstream() {
  const upstream = { next: null, token: null, received: [], url: '', close: null }
  const server = http.createServer((request, response) => {
    const parts = []
    const port = request.socket.remotePort
    request.on('data', (part) => parts.push(part))
    request.on('end', () => {
      const text = Buffer.concat(parts).toString()
      const body = text ? JSON.parse(text) : null
      upstream.received.push({ method: request.method, url: request.url, headers: request.headers, body, port })
      const reply = (status, content, headers = {}) => {
        response.writeHead(status, { 'content-type': 'application/json', ...headers })
        response.end(JSON.stringify(content))
      }
      if (request.url.startsWith('/v1/oauth/token')) {
        if (upstream.token) return upstream.token(body, reply)
        return reply(200, {
          access_token: 'sk-ant-oat01-fresh-access-token',
          refresh_token: 'sk-ant-ort01-fresh-refresh-token',
          expires_in: 28800,
          scope: 'user:inference user:profile',
        })
      }
      if (request.url.startsWith('/v1/models')) {
        return reply(200, {
          data: ['claude-haiku-4-5', 'claude-sonnet-4-5'].map((id) => ({ type: 'model', id, display_name: id })),
          has_more: false,
        })
      }
      const { next } = upstream
      if (next) {
        upstream.next = null
        return next({ body, response, reply })
      }
      if (body?.stream) return beginStream(response, body.model)()
      reply(200, message(body?.model ?? 'claude-haiku-4-5'))
    })
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  // Longer than any test: a connection that is kept must not end between two of its requests.
  server.keepAliveTimeout = 300_000
  upstream.url = `http://127.0.0.1:${server.address().port}`
  upstream.close = () => {
    server.closeAllConnections()
    server.close()
  }
  return upstream
}

/** The relay, with the admin of the tests unless `env` says otherwise. */
export async function startRelay(upstream, env = {}) {
  assert.ok(existsSync(program), `${program} is missing: build it, or name another with RELAY_BINARY`)
  const folder = mkdtempSync(join(tmpdir(), 'claude-relay-ui-'))
  const settings = {
    HOST: '127.0.0.1',
    PORT: '0',
    ADMIN_USERNAME: ADMIN.username,
    ADMIN_PASSWORD: ADMIN.password,
    PRICING_URL: '',
    RELAY_WORKERS: '32',
    SYSTEM_TIMEZONE: 'Europe/Berlin',
    CLAUDE_API_URL: `${upstream.url}/v1/messages`,
    OAUTH_TOKEN_URL: `${upstream.url}/v1/oauth/token`,
    ...env,
  }
  const child = spawn(program, [], { cwd: folder, env: settings, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let log = ''
  child.stderr.on('data', (part) => (log += part))
  const address = await new Promise((found, failed) => {
    child.stdout.on('data', (part) => {
      said += part
      const match = /\bon (\S+:\d+)/.exec(said)
      if (match && said.includes('clients')) found(match[1])
    })
    child.on('exit', (code) => failed(new Error(`the relay ended (${code}): ${said}${log}`)))
  })
  const origin = `http://${address}`
  const relay = {
    origin,
    folder,
    said: () => said,
    log: () => log,
    async stop() {
      const ended = new Promise((done) => child.on('exit', done))
      child.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
    token: '',
    /** A request of the admin's, beside the browser. */
    async admin(method, path, body) {
      const response = await fetch(origin + path, {
        method,
        headers: { authorization: `Bearer ${relay.token}`, 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
      })
      const answer = await response.json()
      assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(answer)}`)
      return answer.data
    },
    /** A message of a client's. */
    send(key, body = {}) {
      return fetch(`${origin}/api/v1/messages`, {
        method: 'POST',
        headers: { 'x-api-key': key, 'content-type': 'application/json', 'anthropic-version': '2023-06-01' },
        body: JSON.stringify({
          model: 'claude-sonnet-4-5',
          max_tokens: 100,
          messages: [{ role: 'user', content: 'Hello' }],
          ...body,
        }),
      })
    },
  }
  if (settings.ADMIN_PASSWORD) {
    const response = await fetch(`${origin}/web/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username: settings.ADMIN_USERNAME, password: settings.ADMIN_PASSWORD }),
    })
    relay.token = (await response.json()).token
  }
  return relay
}

export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Its own language shapes the fields of dates, whatever the page's is.
    env: { ...process.env, LANGUAGE: 'en_US' },
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}

/** What a text looks like that must not be in an address or in storage. */
const SECRET = /cr_[0-9a-f]{16,}|sk-ant-|correct-horse|[0-9a-f]{64}/

/**
 * A page of a browser of its own. `close` checks what must hold whatever was done: nothing left the relay's origin, nothing
 * was wrong in the console, and no secret stands in an address or in the browser's storage.
 */
export async function openPage(browser, relay, options = {}) {
  const { locale = 'en-GB', theme = 'light', width = 1280, height = 860, scale = 1, isSignedIn = true, allow = [] } = options
  const context = await browser.newContext({
    locale,
    colorScheme: theme,
    viewport: { width, height },
    deviceScaleFactor: scale,
    reducedMotion: 'reduce',
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  if (isSignedIn) {
    await context.addCookies([{ name: 'adminToken', value: relay.token, url: relay.origin, httpOnly: true, sameSite: 'Strict' }])
  }
  const page = await context.newPage()
  if (process.env.HANDS === 'keyboard') await takeMouse(page)
  page.setDefaultTimeout(10_000)
  const faults = []
  const allowed = [...allow]
  page.on('console', (line) => {
    if (line.type() !== 'error' && line.type() !== 'warning') return
    const text = `${line.text()} ${line.location().url}`
    if (!allowed.some((pattern) => pattern.test(text))) faults.push(`console: ${text}`)
  })
  page.on('pageerror', (error) => faults.push(`page: ${error.stack}`))
  page.on('request', (request) => {
    const url = request.url()
    if (url.startsWith('data:') || url.startsWith('blob:')) return
    if (!url.startsWith(`${relay.origin}/`)) faults.push(`left the origin: ${url}`)
    if (SECRET.test(url)) faults.push(`a secret in an address: ${url}`)
  })
  page.allow = (...patterns) => allowed.push(...patterns)
  page.visit = async (path) => {
    await page.goto(relay.origin + path)
    await page.locator('h1').first().waitFor()
  }
  page.finish = async () => {
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]))
    assert.doesNotMatch(stored, SECRET, 'a secret in storage')
    assert.doesNotMatch(page.url(), SECRET, 'a secret in the address')
    await context.close()
    assert.deepEqual(faults, [])
  }
  return page
}

/** No violation of WCAG 2.2 AA. */
export async function checkAccess(page, what) {
  await page.evaluate(axeSource)
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, {
      runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] },
      resultTypes: ['violations'],
    }),
  )
  const found = violations.map(
    ({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.any[0]?.message ?? ''}`)}`,
  )
  assert.deepEqual(found, [], what)
}

/** Nothing is wider than the window. */
export async function checkWidth(page, what) {
  const { content, window: width } = await page.evaluate(() => ({
    content: document.documentElement.scrollWidth,
    window: innerWidth,
  }))
  assert.ok(content <= width, `${what} is ${content} px wide in a window of ${width}`)
}

export async function shoot(page, name) {
  mkdirSync(shots, { recursive: true })
  // What sticks to the window's edge would stand in the middle of a picture of the whole page.
  await page.evaluate(() => scrollTo(0, 0))
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true })
}

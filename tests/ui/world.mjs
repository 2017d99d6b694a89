// A relay with something of everything, for the tests that look at every page.

import { beginStream, eventually } from './harness.mjs'

const RESET_S = 3 * 3600

/** Accounts in several states, keys with limits, requests of several kinds; one stream is left running. */
export async function furnish(relay, upstream) {
  const account = (body) => relay.admin('POST', '/admin/claude-accounts', body)
  const first = await account({ name: 'Console key', kind: 'api_key', apiKey: 'sk-ant-api03-first', priority: 10 })
  const second = await account({
    name: 'Family subscription',
    description: 'Max plan, renewed in March',
    claudeAiOauth: {
      accessToken: 'sk-ant-oat01-second',
      refreshToken: 'sk-ant-ort01-second',
      expiresAt: Date.now() + 7 * 3600_000,
      scopes: ['user:inference', 'user:profile'],
    },
    priority: 20,
    maxConcurrency: 4,
  })
  await account({ name: 'Only for the course', kind: 'api_key', apiKey: 'sk-ant-api03-third', accountType: 'dedicated', schedulable: false })

  const key = (body) => relay.admin('POST', '/admin/api-keys', body)
  const ann = await key({ name: 'Ann', description: 'Laptop and phone', tags: ['family'], dailyCostLimit: 5, monthlyCostLimit: 50, concurrencyLimit: 3 })
  const bob = await key({ name: 'Bob', tags: ['family', 'school'], dailyCostLimit: 0.01, rateLimitWindow: 60, rateLimitRequests: 10 })
  const robot = await key({ name: 'Nightly build robot with a rather long name that has to be cut', claudeAccountId: second.id })
  const old = await key({ name: 'Old laptop', expiresAt: '2024-01-01' })
  await relay.admin('PUT', `/admin/api-keys/${old.id}`, { description: 'Not used any more' })
  const gone = await key({ name: 'Gone' })
  await relay.admin('DELETE', `/admin/api-keys/${gone.id}`)

  for (const model of ['claude-sonnet-4-5', 'claude-haiku-4-5', 'claude-opus-4-1']) {
    await (await relay.send(ann.apiKey, { model })).text()
  }
  await (await relay.send(bob.apiKey)).text()
  await (await relay.send(bob.apiKey, { model: 'claude-of-tomorrow' })).text()
  await (await relay.send(ann.apiKey, { stream: true })).text()
  // The subscription is told to rest.
  upstream.next = ({ reply }) =>
    reply(
      429,
      { type: 'error', error: { type: 'rate_limit_error', message: 'This request would exceed your five-hour limit.' } },
      {
        'anthropic-ratelimit-unified-status': 'rejected',
        'anthropic-ratelimit-unified-5h-status': 'rejected',
        'anthropic-ratelimit-unified-5h-utilization': '1.0',
        'anthropic-ratelimit-unified-5h-reset': String(Math.floor(Date.now() / 1000) + RESET_S),
        'anthropic-ratelimit-unified-7d-status': 'allowed',
        'anthropic-ratelimit-unified-7d-utilization': '0.42',
        'anthropic-ratelimit-unified-7d-reset': String(Math.floor(Date.now() / 1000) + 4 * 86_400),
        'anthropic-ratelimit-unified-reset': String(Math.floor(Date.now() / 1000) + RESET_S),
        'retry-after': String(RESET_S),
      },
    )
  await (await relay.send(robot.apiKey)).text()

  let endStream
  upstream.next = ({ body, response }) => (endStream = beginStream(response, body.model))
  const running = relay.send(ann.apiKey, { stream: true })
  await eventually('the stream runs', () => endStream)
  return {
    accounts: { first, second },
    keys: { ann, bob, robot },
    async endStream() {
      endStream()
      await (await running).text()
    },
  }
}

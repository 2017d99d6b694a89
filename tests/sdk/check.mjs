// Drives a relay with the official TypeScript SDK, as its users do. Arguments: base URL, key.

import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'

const [baseURL, key] = process.argv.slice(2)
const request = {
  model: 'claude-sonnet-4-5',
  max_tokens: 64,
  messages: [{ role: 'user', content: 'Say 你好' }],
}

async function check(client) {
  const message = await client.messages.create(request)
  assert.equal(message.content[0].text, '你好 🙂')
  assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [11, 7])
  assert.equal(message._request_id, 'req_json')
  let text = ''
  const stream = client.messages.stream(request)
  stream.on('text', (piece) => (text += piece))
  const final = await stream.finalMessage()
  assert.equal(text, '你好 🙂')
  assert.equal(final.stop_reason, 'end_turn')
  assert.deepEqual([final.usage.input_tokens, final.usage.output_tokens], [11, 7])
}

await check(new Anthropic({ baseURL, apiKey: key, maxRetries: 0 }))
await check(new Anthropic({ baseURL, apiKey: null, authToken: key, maxRetries: 0 }))

const stranger = new Anthropic({ baseURL, apiKey: 'cr_unknown-key', maxRetries: 0 })
await assert.rejects(stranger.messages.create(request), Anthropic.AuthenticationError)

const cut = new Anthropic({ baseURL, apiKey: key, maxRetries: 0 })
const cutStream = cut.messages.stream(request, { headers: { 'x-cut': '1' } })
await assert.rejects(cutStream.finalMessage(), (error) => {
  assert.ok(error instanceof Anthropic.APIError, String(error))
  assert.match(JSON.stringify(error.error ?? error.message), /api_error/)
  return true
})
console.log('typescript sdk ok')

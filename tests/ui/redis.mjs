// A real Redis with what the original kept in its own.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.mjs'

const sha256 = (text) => createHash('sha256').update(text).digest('hex')

/** A command in the form of RESP. */
const command = (...words) => `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`

async function freePort() {
  const server = net.createServer()
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return port
}

/** `count` keys, each with a day of use; their clear texts are `clear(number)`. */
export async function startRedis({ count, encryptionKey, day }) {
  const folder = mkdtempSync(join(tmpdir(), 'claude-relay-redis-'))
  const port = await freePort()
  const process = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder], {
    stdio: 'ignore',
  })
  const connect = async () => {
    const socket = net.connect(port, '127.0.0.1')
    await Promise.race([once(socket, 'connect'), once(socket, 'error').then(([error]) => Promise.reject(error))])
    return socket
  }
  let socket
  await eventually('Redis answers', async () => (socket = await connect().catch(() => null)))
  const clear = (number) => `cr_${sha256(`key ${number}`)}`
  let sent = 0
  let answered = 0
  socket.on('data', (part) => (answered += part.toString().split('\r\n').length - 1))
  for (let number = 0; number < count; number += 1) {
    const id = `key-${number}`
    const hash = sha256(clear(number) + encryptionKey)
    const key = { id, name: `Person ${number}`, apiKey: hash, isActive: 'true', createdAt: '2026-01-01T00:00:00.000Z' }
    const use = { tokens: '100', inputTokens: '50', outputTokens: '50', allTokens: '100', requests: '5' }
    const commands = [
      command('HSET', `apikey:${id}`, ...Object.entries(key).flat()),
      command('HSET', 'apikey:hash_map', hash, id),
      command('HSET', `usage:daily:${id}:${day}`, ...Object.entries(use).flat()),
    ]
    sent += commands.length
    if (!socket.write(commands.join(''))) await once(socket, 'drain')
  }
  await eventually('Redis has it all', () => answered === sent)
  socket.end()
  return {
    url: `redis://127.0.0.1:${port}/0`,
    clear,
    async stop() {
      const ended = once(process, 'exit')
      process.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

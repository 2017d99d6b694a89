/**
 * The relay's event stream: what runs now. One stream for all who watch; it rests while nobody looks at the page, and a lost
 * session leads to the sign-in.
 */

import { onScopeDispose, reactive } from 'vue'
import { json } from '../api'
import type { Live } from '../shapes'

interface State {
  state: 'connecting' | 'live' | 'paused' | 'lost'
  now: Live | null
}

const RETRY_MS = 5000
const shown = reactive<State>({ state: 'connecting', now: null })
let watchers = 0
let source: EventSource | null = null
let retry: ReturnType<typeof setTimeout> | undefined

function close(): void {
  source?.close()
  source = null
  clearTimeout(retry)
}

function open(): void {
  close()
  shown.state = 'connecting'
  source = new EventSource('/admin/live')
  source.addEventListener('live', (event) => {
    shown.now = JSON.parse((event as MessageEvent<string>).data) as Live
    shown.state = 'live'
  })
  source.onerror = async () => {
    close()
    shown.state = 'lost'
    // A stream does not tell why it ended: this asks, and shows the sign-in if that is why.
    await json('GET', '/web/auth/user').catch(() => undefined)
    if (watchers > 0 && !document.hidden) retry = setTimeout(open, RETRY_MS)
  }
}

function look(): void {
  if (watchers === 0) return
  if (!document.hidden) return open()
  close()
  shown.state = 'paused'
}

export function useLive(): State {
  watchers += 1
  if (watchers === 1) {
    document.addEventListener('visibilitychange', look)
    look()
  }
  onScopeDispose(() => {
    watchers -= 1
    if (watchers > 0) return
    document.removeEventListener('visibilitychange', look)
    close()
    shown.now = null
  })
  return shown
}

/** Who is signed in. The token itself is in a cookie that no script can read. */

import { reactive } from 'vue'
import { json } from './api'

interface State {
  /** `unknown` until the server was asked; `expired` keeps the page and its forms while a sign-in is shown over them. */
  state: 'unknown' | 'in' | 'out' | 'expired'
  username: string
}

const current = reactive<State>({ state: 'unknown', username: '' })
let waiting: ((isBack: boolean) => void)[] = []

function settle(isBack: boolean): void {
  const all = waiting
  waiting = []
  for (const resolve of all) resolve(isBack)
}

export const session = {
  get state() {
    return current.state
  },
  get username() {
    return current.username
  },

  /** Asks the server whether the cookie is good. */
  async check(): Promise<void> {
    try {
      const { user } = await json<{ user: { username: string } }>('GET', '/web/auth/user', undefined, {
        is401Answer: true,
      })
      current.username = user.username
      current.state = 'in'
    } catch (error) {
      current.state = 'out'
      throw error
    }
  },

  async signIn(username: string, password: string): Promise<void> {
    const answer = await json<{ username: string }>(
      'POST',
      '/web/auth/login',
      { username, password },
      { is401Answer: true },
    )
    current.username = answer.username
    current.state = 'in'
    settle(true)
  },

  async signOut(): Promise<void> {
    await json('POST', '/web/auth/logout', undefined, { is401Answer: true })
    this.leave()
  },

  /** Forgets everything: pages are taken down with what they showed. */
  leave(): void {
    current.state = 'out'
    current.username = ''
    settle(false)
  },

  /** Shows the sign-in over the page. True when it succeeded, so that what was asked can be asked again. */
  signInAgain(): Promise<boolean> {
    if (current.state === 'out') return Promise.resolve(false)
    current.state = 'expired'
    return new Promise((resolve) => waiting.push(resolve))
  },
}

/** The one place that speaks with the relay. The session is a cookie that scripts cannot read; no token passes through here. */

import type { Told } from './composables/useTold'
import { session } from './session'

/** An answer that is a refusal, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** What a person can read, as the server said it; empty when no answer came. */
    message: string,
    /** Seconds after which to try again, where the server said so. */
    readonly retryAfter: number | null = null,
    /** The `error` of the relay's own refusals: a text that stays the same. */
    readonly title = '',
    /** The sentence, if it is one that has a name. */
    readonly told: Told | null = null,
  ) {
    super(message)
  }
}

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

interface Options {
  signal?: AbortSignal
  headers?: Record<string, string>
  /** Whether a 401 is the answer to the question asked, and not a lost session. */
  is401Answer?: boolean
}

/** What a body of an error says: the original's `message`, else its `error`, in either of its shapes. */
export function reason(body: unknown): string {
  if (typeof body !== 'object' || body === null) return ''
  const { message, error } = body as { message?: unknown; error?: unknown }
  if (typeof message === 'string' && message) return message
  if (typeof error === 'string') return error
  return reason(error)
}

async function readError(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null)
  const after = Number(response.headers.get('retry-after'))
  const text = reason(body)
  const { error, code, values } = (body ?? {}) as { error?: unknown; code?: unknown; values?: Told['values'] }
  const title = typeof error === 'string' ? error : ''
  const told = typeof code === 'string' ? { code, values, text } : null
  return new ApiError(response.status, text, after > 0 ? after : null, title, told)
}

/** Asks, and asks again after a sign-in when the session had ended: whatever was being done goes on. */
async function ask(method: Method, path: string, body: unknown, options: Options): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers }
  let content: BodyInit | undefined
  if (body instanceof Blob) {
    content = body
    headers['Content-Type'] = 'application/octet-stream'
  } else if (body !== undefined) {
    content = JSON.stringify(body)
    headers['Content-Type'] = 'application/json'
  }
  for (;;) {
    let response: Response
    try {
      response = await fetch(path, {
        method,
        headers,
        body: content,
        signal: options.signal,
        credentials: 'same-origin',
        cache: 'no-store',
      })
    } catch (error) {
      if (options.signal?.aborted) throw error
      throw new ApiError(0, '')
    }
    if (response.status === 401 && !options.is401Answer) {
      if (await session.signInAgain()) continue
    }
    if (!response.ok) throw await readError(response)
    return response
  }
}

/** The whole JSON of an answer. */
export async function json<T>(
  method: Method,
  path: string,
  body?: unknown,
  options: Options = {},
): Promise<T> {
  return (await ask(method, path, body, options)).json() as Promise<T>
}

/** The `data` of an answer in the original's envelope. */
export async function data<T>(
  method: Method,
  path: string,
  body?: unknown,
  options: Options = {},
): Promise<T> {
  return (await json<{ data: T }>(method, path, body, options)).data
}

export const get = <T>(path: string, options?: Options) => data<T>('GET', path, undefined, options)
export const post = <T>(path: string, body?: unknown, options?: Options) =>
  data<T>('POST', path, body, options)
export const put = (path: string, body: unknown) => json<{ message: string }>('PUT', path, body)
export const remove = (path: string) => json<{ message: string }>('DELETE', path)

/** A path with a query; members without a value are left out. */
export function withQuery(
  path: string,
  query: Record<string, string | number | boolean | null | undefined>,
): string {
  const parts = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') parts.set(name, String(value))
  }
  const text = parts.toString()
  return text ? `${path}?${text}` : path
}

/** Hands an answer over as a file. */
export async function download(
  method: Method,
  path: string,
  body?: unknown,
  options: Options = {},
): Promise<string> {
  const response = await ask(method, path, body, options)
  const named =
    /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1] ?? 'download'
  saveAs(await response.blob(), named)
  return named
}

/** Hands something over as a file. */
export function saveAs(content: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

/** A key holder's question: the key goes in a header, and a refusal of it is an answer. */
export async function askWithKey<T>(key: string, path: string, body?: unknown): Promise<T> {
  return json<T>(body === undefined ? 'GET' : 'POST', path, body, {
    headers: { 'x-api-key': key },
    is401Answer: true,
  })
}

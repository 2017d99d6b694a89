import { describe, expect, it } from 'vitest'
import { ApiError, reason, withQuery } from './api'
import { errorKey } from './composables/useErrorText'
import { blocks, likelySystem, SYSTEMS } from './setups'

describe('a refusal', () => {
  it('is told in the server’s own words, in whichever shape they come', () => {
    expect(reason({ error: 'Title', message: 'Words' })).toBe('Words')
    expect(reason({ error: 'Only a title' })).toBe('Only a title')
    expect(reason({ type: 'error', error: { type: 'x', message: 'Inner' } })).toBe('Inner')
    for (const other of [null, 'text', 5, {}, { error: null }]) expect(reason(other)).toBe('')
  })
  it('leads to advice', () => {
    const keys = [0, 400, 401, 404, 429, 500, 503].map((status) => errorKey(new ApiError(status, '')))
    expect(keys).toEqual([
      'error.unreachable',
      'error.refused',
      'error.signedOut',
      'error.refused',
      'error.tooMany',
      'error.server',
      'error.busy',
    ])
    expect(errorKey(new TypeError('x'))).toBe('error.unexpected')
  })
  it('of what is not there any more is told from an upstream’s', () => {
    expect(errorKey(new ApiError(404, 'API key not found', null, 'Failed to get usage'))).toBe('error.gone')
    expect(errorKey(new ApiError(404, 'model: claude-1'))).toBe('error.refused')
  })
})

describe('a query', () => {
  it('leaves out what has no value and encodes the rest', () => {
    expect(withQuery('/a', { b: '', c: null, d: undefined })).toBe('/a')
    expect(withQuery('/a', { q: 'x & y', n: 0, is: false })).toBe('/a?q=x+%26+y&n=0&is=false')
  })
})

describe('the set-up of a client', () => {
  it('names the address and the key for every system', () => {
    for (const system of SYSTEMS) {
      const text = blocks(system, 'http://relay:3000/api', 'cr_key')
        .map(({ code }) => code)
        .join('\n')
      expect(text, system).toContain('http://relay:3000/api')
      expect(text, system).toContain('cr_key')
    }
  })
  it('begins with the system that the browser runs on', () => {
    expect(likelySystem('Mozilla/5.0 (Windows NT 10.0)')).toBe('windows')
    expect(likelySystem('Mozilla/5.0 (Macintosh)')).toBe('macos')
    expect(likelySystem('Mozilla/5.0 (X11; Linux)')).toBe('linux')
  })
})

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

function flat(messages: object, start = ''): Map<string, string> {
  const found = new Map<string, string>()
  for (const [name, value] of Object.entries(messages)) {
    if (typeof value === 'string') found.set(start + name, value)
    else for (const [key, text] of flat(value, `${start}${name}.`)) found.set(key, text)
  }
  return found
}

const read = (name: string) =>
  flat(JSON.parse(readFileSync(join(import.meta.dirname, 'i18n', `${name}.json`), 'utf8')))
const [english, chinese] = [read('en'), read('zh-CN')]
const named = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort()

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sources(path)
    return /\.(vue|ts)$/.test(entry.name) && !entry.name.endsWith('.test.ts')
      ? [readFileSync(path, 'utf8')]
      : []
  })
}

describe('the two languages', () => {
  it('have the same keys', () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort())
  })
  it('name the same values in each message', () => {
    for (const [key, text] of english) {
      const all = (whole: string) => [...new Set(named(whole))]
      expect(all(chinese.get(key)!), key).toEqual(all(text))
    }
  })
  it('leave nothing untranslated', () => {
    const same = [...english].filter(([key, text]) => chinese.get(key) === text && /[a-z]{3}/i.test(text))
    const isName = (key: string) =>
      /^(setup\.system|keys\.tag|webhook\.(title|preset\.generic)|addAccount\.(kind\.setup_)?token$)/.test(
        key,
      )
    expect(same.filter(([key]) => !isName(key))).toEqual([])
  })
  it('have no message that no page uses', () => {
    const text = sources(import.meta.dirname).join('\n')
    // A key may be made of a fixed beginning and a name: `limits.${name}`.
    const made = [...text.matchAll(/[`'"]([a-zA-Z.]+\.)\$\{/g)].map(([, start]) => start!)
    const isUsed = (key: string) => text.includes(`'${key}'`) || made.some((start) => key.startsWith(start))
    expect([...english.keys()].filter((key) => !isUsed(key))).toEqual([])
  })
})

import { describe, expect, it } from 'vitest'
import {
  ago,
  bytes,
  clock,
  compact,
  day,
  duration,
  fromLocalInput,
  instant,
  localInput,
  money,
  percent,
} from './format'

describe('numbers', () => {
  it('keep the digits of small amounts', () => {
    expect(money(12.5, 'en')).toBe('$12.50')
    expect(money(0.0126, 'en')).toBe('$0.0126')
    expect(money(0.00063, 'en')).toBe('$0.00063')
    expect(money(0, 'en')).toBe('$0.00')
    expect(money(1234.5, 'zh-CN')).toBe('$1,234.50')
  })
  it('are shortened when they are long, as the language does it', () => {
    expect(compact(9_999, 'en')).toBe('9,999')
    expect(compact(1_234_567, 'en')).toBe('1.2M')
    expect(compact(1_234_567, 'zh-CN')).toBe('123.5万')
    expect(percent(0.034, 'en')).toBe('3.4%')
    expect(bytes(9_400_000, 'en')).toBe('9.4 MB')
  })
})

describe('times', () => {
  it('are told in two units', () => {
    expect(duration(3_905_000, 'en')).toBe('1 hr 5 min')
    expect(duration(0, 'en')).toBe('0 sec')
    expect(duration(90_000_000, 'zh-CN')).toBe('1天 1小时')
    expect(clock(581_000)).toBe('9:41')
    expect(clock(3_723_000)).toBe('1:02:03')
    expect(clock(-5)).toBe('0:00')
  })
  it('are those of the relay’s zone', () => {
    const now = new Date('2026-11-24T12:00:00Z')
    expect(instant('2026-11-24T23:30:00Z', 'en-GB', 'Asia/Shanghai', now)).toBe('25 Nov, 07:30')
    expect(instant('2025-01-01T00:00:00Z', 'en-GB', 'UTC', now)).toBe('1 Jan 2025, 00:00')
    expect(instant('nonsense', 'en', 'UTC')).toBe('')
    expect(day('2026-11-24', 'en-GB', 'America/New_York', now)).toBe('24 Nov')
    expect(day('2025-11-24T02:00:00Z', 'en-GB', 'America/New_York', now)).toBe('23 Nov 2025')
    expect(ago('2026-11-24T11:00:00Z', 'en', now.getTime())).toBe('1 hr. ago')
  })
  it('go into a field and come back unchanged, across changes of the clock', () => {
    for (const at of [
      '2026-03-29T00:30:00.000Z',
      '2026-03-29T01:30:00.000Z',
      '2026-10-25T03:00:00.000Z',
      '2026-07-01T22:15:00.000Z',
    ]) {
      expect(fromLocalInput(localInput(at, 'Europe/Berlin'), 'Europe/Berlin')).toBe(at)
    }
    expect(localInput('2026-11-24T23:30:00Z', 'Asia/Shanghai')).toBe('2026-11-25T07:30')
    expect(fromLocalInput('', 'UTC')).toBe('')
  })
})

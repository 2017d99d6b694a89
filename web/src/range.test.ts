import { describe, expect, it } from 'vitest'
import { dayIn, daysOf, isDay, spanOf } from './range'

const NOW = Date.parse('2026-11-24T23:30:00Z')

describe('a range', () => {
  it('is counted in the zone of the relay', () => {
    expect(dayIn(NOW, 'Asia/Shanghai')).toBe('2026-11-25')
    expect(spanOf('week', NOW, 'Asia/Shanghai')).toEqual({ from: '2026-11-19', to: '2026-11-25', by: 'day' })
    expect(spanOf('today', NOW, 'UTC')).toEqual({
      from: '2026-11-24T00:00',
      to: '2026-11-24T23:59',
      by: 'hour',
    })
    expect(spanOf('day', NOW, 'UTC').from).toBe('2026-11-24T00:30:00.000Z')
  })
  it('is two days where somebody chose them, by hour while it is short', () => {
    expect(spanOf('2026-01-01_2026-02-01', NOW, 'UTC')).toEqual({
      from: '2026-01-01',
      to: '2026-02-01',
      by: 'day',
    })
    expect(spanOf('2026-01-01_2026-01-03', NOW, 'UTC').by).toBe('hour')
    expect(daysOf('2024-02-28', '2024-03-01')).toBe(3)
  })
  it('is the week where the address says nothing that can be meant', () => {
    const week = spanOf('week', NOW, 'UTC')
    for (const word of [
      '',
      'nonsense',
      '2026-02-01_2026-01-01',
      '2026-13-01_2026-13-02',
      '2020-01-01_2026-01-01',
    ]) {
      expect(spanOf(word, NOW, 'UTC'), word).toEqual(week)
    }
    expect(isDay('2026-02-30x')).toBe(false)
  })
})

/** The ranges of the statistics, as one word in the address: a preset, or two days. Pure. */

export const PRESETS = ['today', 'day', 'week', 'month', 'quarter'] as const
export type Preset = (typeof PRESETS)[number]

export interface Span {
  from: string
  to: string
  by: 'hour' | 'day'
}

const DAY_MS = 86_400_000
/** Ranges of more days are drawn by day. */
const HOURLY_DAYS_MAX = 3
/** The longest range that the relay adds up. */
export const DAYS_MAX = 366
const DAYS: Record<Preset, number> = { today: 1, day: 1, week: 7, month: 30, quarter: 90 }

/** The day of an instant in the zone, as `yyyy-mm-dd`. */
export function dayIn(at: number, zone: string): string {
  return new Intl.DateTimeFormat('en-CA', {
    timeZone: zone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
  }).format(at)
}

export function isDay(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text))
}

/** How many days two days hold, both with them. */
export function daysOf(from: string, to: string): number {
  return (Date.parse(to) - Date.parse(from)) / DAY_MS + 1
}

/** What a word asks the relay for. A word that says nothing is the week. */
export function spanOf(word: string, now: number, zone: string): Span {
  const [from = '', to = ''] = word.split('_')
  if (isDay(from) && isDay(to) && from <= to && daysOf(from, to) <= DAYS_MAX) {
    return daysOf(from, to) <= HOURLY_DAYS_MAX
      ? { from: `${from}T00:00`, to: `${to}T23:59`, by: 'hour' }
      : { from, to, by: 'day' }
  }
  if (word === 'day') {
    return { from: new Date(now - 23 * 3_600_000).toISOString(), to: new Date(now).toISOString(), by: 'hour' }
  }
  const today = dayIn(now, zone)
  if (word === 'today') return { from: `${today}T00:00`, to: `${today}T23:59`, by: 'hour' }
  const days = DAYS[word as Preset] ?? DAYS.week
  return {
    from: new Date(Date.parse(today) - (days - 1) * DAY_MS).toISOString().slice(0, 10),
    to: today,
    by: 'day',
  }
}

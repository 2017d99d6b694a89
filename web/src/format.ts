/** Numbers, money and instants as a language writes them, in the relay's time zone. Pure. */

/** A count with the language's separators. */
export function count(value: number, locale: string): string {
  return new Intl.NumberFormat(locale).format(value)
}

/** A count in few characters: 1,234 is 1.2K. */
export function compact(value: number, locale: string): string {
  if (Math.abs(value) < 10_000) return count(value, locale)
  return new Intl.NumberFormat(locale, { notation: 'compact', maximumFractionDigits: 1 }).format(value)
}

/** An amount in USD. Small amounts keep the digits that matter, as the server's own text does. */
export function money(value: number, locale: string): string {
  const size = Math.abs(value)
  const digits = size === 0 || size >= 1 ? 2 : size >= 0.001 ? 4 : 6
  return new Intl.NumberFormat(locale, {
    style: 'currency',
    currency: 'USD',
    currencyDisplay: 'narrowSymbol',
    minimumFractionDigits: 2,
    maximumFractionDigits: digits,
  }).format(value)
}

export function percent(share: number, locale: string): string {
  return new Intl.NumberFormat(locale, {
    style: 'percent',
    maximumFractionDigits: share > 0 && share < 0.1 ? 1 : 0,
  }).format(share)
}

/** A size in bytes. */
export function bytes(value: number, locale: string): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']
  let rest = value
  let unit = 0
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000
    unit += 1
  }
  return new Intl.NumberFormat(locale, {
    style: 'unit',
    unit: units[unit],
    unitDisplay: unit === 0 ? 'long' : 'short',
    maximumFractionDigits: rest < 10 && unit > 0 ? 1 : 0,
  }).format(rest)
}

/** A time that passed or is left, in its two largest units: 1 h 5 min. */
export function duration(milliseconds: number, locale: string): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000))
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'day'],
    [Math.floor(seconds / 3600) % 24, 'hour'],
    [Math.floor(seconds / 60) % 60, 'minute'],
    [seconds % 60, 'second'],
  ]
  const first = parts.findIndex(([amount]) => amount > 0)
  if (first < 0) return unit(0, 'second', locale)
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, name]) => unit(amount, name, locale))
    .join(' ')
}

/** A short time of a computation. */
export function latency(milliseconds: number, locale: string): string {
  if (milliseconds < 1000) return unit(Math.round(milliseconds), 'millisecond', locale)
  return new Intl.NumberFormat(locale, {
    style: 'unit',
    unit: 'second',
    unitDisplay: 'short',
    maximumFractionDigits: milliseconds < 10_000 ? 1 : 0,
  }).format(milliseconds / 1000)
}

function unit(amount: number, name: string, locale: string): string {
  return new Intl.NumberFormat(locale, { style: 'unit', unit: name, unitDisplay: 'short' }).format(amount)
}

/** A count-down: 9:41 or 1:02:03. */
export function clock(milliseconds: number): string {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000))
  const two = (value: number) => String(value).padStart(2, '0')
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor(seconds / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`
}

/** An instant, to the minute or the second; the year only where it is another one. */
export function instant(
  at: string | number | Date,
  locale: string,
  zone: string,
  now = new Date(),
  hasSeconds = false,
): string {
  const date = new Date(at)
  if (Number.isNaN(date.getTime())) return ''
  const isThisYear = year(date, zone) === year(now, zone)
  return new Intl.DateTimeFormat(locale, {
    timeZone: zone,
    year: isThisYear ? undefined : 'numeric',
    month: 'short',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    second: hasSeconds ? '2-digit' : undefined,
    hourCycle: 'h23',
  }).format(date)
}

/** The time of day, with seconds where they matter. */
export function time(at: string | number | Date, locale: string, zone: string, hasSeconds = false): string {
  return new Intl.DateTimeFormat(locale, {
    timeZone: zone,
    hour: '2-digit',
    minute: '2-digit',
    second: hasSeconds ? '2-digit' : undefined,
    hourCycle: 'h23',
  }).format(new Date(at))
}

/** A day, the year only where it is another one; `yyyy-mm-dd` is that day, whatever the zone. */
export function day(at: string | number | Date, locale: string, zone: string, now = new Date()): string {
  const isDay = typeof at === 'string' && /^\d{4}-\d{2}-\d{2}$/.test(at)
  const date = isDay ? new Date(`${at}T12:00:00Z`) : new Date(at)
  const shown = isDay ? 'UTC' : zone
  return new Intl.DateTimeFormat(locale, {
    timeZone: shown,
    year: year(date, shown) === year(now, zone) ? undefined : 'numeric',
    month: 'short',
    day: 'numeric',
  }).format(date)
}

function year(date: Date, zone: string): string {
  return new Intl.DateTimeFormat('en', { timeZone: zone, year: 'numeric' }).format(date)
}

/** An instant as `yyyy-mm-ddThh:mm` in the zone, for a field of type datetime-local. */
export function localInput(at: string | number | Date, zone: string): string {
  const parts = Object.fromEntries(
    new Intl.DateTimeFormat('en-CA', {
      timeZone: zone,
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23',
    })
      .formatToParts(new Date(at))
      .map(({ type, value }) => [type, value]),
  )
  return `${parts.year}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`
}

/** The instant that a field of type datetime-local names in the zone. */
export function fromLocalInput(text: string, zone: string): string {
  // Off by the zone's distance at first; put right once, and once more where a change of the clock lies between.
  const wanted = Date.parse(`${text}Z`)
  if (Number.isNaN(wanted)) return ''
  let found = wanted
  for (let turn = 0; turn < 2; turn += 1) {
    found += wanted - Date.parse(`${localInput(found, zone)}Z`)
  }
  return new Date(found).toISOString()
}

/** How a past instant lies before now, in one unit. */
export function ago(at: string | number | Date, locale: string, now = Date.now()): string {
  const seconds = Math.round((new Date(at).getTime() - now) / 1000)
  const steps: [number, Intl.RelativeTimeFormatUnit][] = [
    [86_400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
  ]
  const format = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' })
  for (const [size, name] of steps) {
    if (Math.abs(seconds) >= size) return format.format(Math.trunc(seconds / size), name)
  }
  return format.format(Math.min(0, seconds), 'second')
}

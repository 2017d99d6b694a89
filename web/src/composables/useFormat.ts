/** The formats of format.ts in the language and the zone in force. */

import { useI18n } from 'vue-i18n'
import * as format from '../format'
import { relayZone } from '../relay'

export function useFormat() {
  const { locale } = useI18n()
  const at = () => locale.value as string
  return {
    count: (value: number) => format.count(value, at()),
    compact: (value: number) => format.compact(value, at()),
    money: (value: number) => format.money(value, at()),
    percent: (share: number) => format.percent(share, at()),
    bytes: (value: number) => format.bytes(value, at()),
    duration: (milliseconds: number) => format.duration(milliseconds, at()),
    latency: (milliseconds: number) => format.latency(milliseconds, at()),
    clock: format.clock,
    instant: (when: string | number | Date, hasSeconds = false) =>
      format.instant(when, at(), relayZone, new Date(), hasSeconds),
    time: (when: string | number | Date, hasSeconds = false) =>
      format.time(when, at(), relayZone, hasSeconds),
    day: (when: string | number | Date) => format.day(when, at(), relayZone),
    ago: (when: string | number | Date, now?: number) => format.ago(when, at(), now),
  }
}

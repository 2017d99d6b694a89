/** What the server wrote into the page: the title, the logo, the zone that days are counted in. */

function meta(name: string): string {
  const content = document.querySelector<HTMLMetaElement>(`meta[name="relay-${name}"]`)?.content ?? ''
  // Under Vite's own server nobody fills the page in.
  return content.startsWith('{{') ? '' : content
}

export const relayTitle = meta('title') || 'Claude Relay'
/** A path of this origin or empty. */
export const relayLogo = meta('logo')

/** The relay's time zone, as Intl takes it. */
export const relayZone = ((zone: string) => {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone })
    return zone
  } catch {
    return 'UTC'
  }
})(meta('zone') || 'UTC')

/** Where clients of this relay point to. */
export const baseUrl = `${location.origin}/api`

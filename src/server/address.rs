//! Whose request it is, as an address: the one place that decides whether a header may say so.

use crate::http::Head;
use std::net::{IpAddr, Ipv6Addr};

/// The client's address. It is the other end of the socket, unless the operator has said that a proxy of theirs is there:
/// then it is the last entry of `X-Forwarded-For`, the one that this proxy has added. All before it the client may have
/// written itself.
pub(crate) fn of(peer: IpAddr, head: &Head, trusts_proxy: bool) -> IpAddr {
    let forwarded = || {
        let (_, value) = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for")).last()?;
        last_entry(std::str::from_utf8(value).ok()?)
    };
    let address = if trusts_proxy { forwarded() } else { None };
    address.unwrap_or(peer).to_canonical()
}

/// Whether a proxy on this machine or in its network hides its clients behind one address, because the operator has not said
/// that it may be believed. Then nobody may be made to wait long for what others did.
pub(crate) fn is_hidden(peer: IpAddr, head: &Head, trusts_proxy: bool) -> bool {
    !trusts_proxy && is_near(peer.to_canonical()) && head.header("x-forwarded-for").is_some()
}

/// An address of this machine or of a network that no stranger writes from (RFC 1918, RFC 4193, RFC 3927).
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// The last entry of a list of addresses, with or without a port.
fn last_entry(list: &str) -> Option<IpAddr> {
    let entry = list.rsplit(',').next()?.trim();
    if let Some(rest) = entry.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok();
    }
    match entry.split_once(':') {
        // One colon: an IPv4 address and its port.
        Some((address, port)) if !port.contains(':') => address.parse().ok(),
        _ => entry.parse().ok(),
    }
}

/// What is counted together: an IPv4 address, or the /64 of an IPv6 address, which is what one household has.
pub(crate) fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_entry_counts_and_only_if_it_is_an_address() {
        for (list, expected) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("1.1.1.1, 203.0.113.9", Some("203.0.113.9")),
            ("1.1.1.1,203.0.113.9 ", Some("203.0.113.9")),
            ("203.0.113.9:5050", Some("203.0.113.9")),
            ("[2001:db8::1]:5050", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("203.0.113.9, unknown", None),
            ("203.0.113.9,", None),
            ("", None),
            ("localhost", None),
        ] {
            assert_eq!(last_entry(list), expected.map(|address| address.parse().unwrap()), "{list}");
        }
    }

    #[test]
    fn a_proxy_is_near_on_this_machine_and_in_private_networks() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("172.17.0.1", true),
            ("10.1.2.3", true),
            ("192.168.1.1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::1", true),
            ("203.0.113.9", false),
            ("172.32.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_near(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_household_is_one_group() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            assert_eq!(group(address(one)) == group(address(other)), is_same, "{one} {other}");
        }
    }
}

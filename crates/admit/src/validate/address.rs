//! Addresses and ranges of addresses as a stock server reads them: it knows what was meant with a leading zero or an IPv4
//! address in IPv6's clothes, and refuses it because others would read something else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stoa_kube::Cause;

use super::field::{Errors, Path};

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address that may have been written with leading zeros, and whether it was.
fn sloppy(text: &str) -> Option<(IpAddr, bool)> {
    if let Ok(ip) = text.parse() {
        return Some((ip, false));
    }
    let parts: Vec<u8> = text
        .split('.')
        .filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|p| p.parse().ok())
        .collect();
    match parts[..] {
        [a, b, c, d] if text.matches('.').count() == 3 => Some((IpAddr::V4(Ipv4Addr::new(a, b, c, d)), true)),
        _ => None,
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// An address in a field that has always taken some that are not in their shortest form. Returns it if it can be told.
pub(super) fn check(value: &str, path: Path<'_>, errors: &mut Errors) -> Option<IpAddr> {
    let Some((ip, zeros)) = sloppy(value) else {
        errors.push(Cause::invalid(path, value, NO_ADDRESS));
        return None;
    };
    if zeros {
        errors.push(Cause::invalid(path, value, "must not have leading 0s"));
    } else if is_mapped(ip) {
        errors.push(Cause::invalid(path, value, "must not be an IPv4-mapped IPv6 address"));
    }
    Some(ip)
}

/// What is wrong with an address that must be in its one form.
pub(super) fn strict_fault(value: &str) -> Option<String> {
    match sloppy(value) {
        None => Some(NO_ADDRESS.to_owned()),
        Some((_, true)) => Some("must not have leading 0s".to_owned()),
        Some((ip, _)) if is_mapped(ip) => Some("must not be an IPv4-mapped IPv6 address".to_owned()),
        Some((ip, _)) if ip.to_string() != value => Some(format!("must be in canonical form (\"{ip}\")")),
        Some(_) => None,
    }
}

/// A range: its first address and the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    first: IpAddr,
    prefix: u8,
}

impl Range {
    pub(super) fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether another range lies inside and is smaller.
    pub(super) fn exceeds(&self, other: &Range) -> bool {
        self.is_ipv4() == other.is_ipv4()
            && self.prefix < other.prefix
            && masked(other.first, self.prefix) == self.first
    }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

/// A range, and what is wrong with how it is written.
fn read_range(text: &str) -> Result<(Range, Option<&'static str>), &'static str> {
    let (ip, length) = text.split_once('/').ok_or(NO_RANGE)?;
    let (ip, zeros) = sloppy(ip).ok_or(NO_RANGE)?;
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let prefix: u8 = length.parse().ok().filter(|_| digits).ok_or(NO_RANGE)?;
    if prefix > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(NO_RANGE);
    }
    let range = Range { first: masked(ip, prefix), prefix };
    let fault = if zeros || (length.len() > 1 && length.starts_with('0')) {
        Some("must not have leading 0s in IP or prefix length")
    } else if is_mapped(ip) {
        Some("must not have an IPv4-mapped IPv6 address")
    } else if range.first != ip {
        Some("must not have bits set beyond the prefix length")
    } else {
        None
    };
    Ok((range, fault))
}

/// A range in a field that has always taken some that are not in their shortest form. Returns it if it can be told.
pub(super) fn range(value: &str, path: Path<'_>, errors: &mut Errors) -> Option<Range> {
    match read_range(value) {
        Err(why) => {
            errors.push(Cause::invalid(path, value, why));
            None
        }
        Ok((range, fault)) => {
            errors.extend(fault.map(|why| Cause::invalid(path, value, why)));
            Some(range)
        }
    }
}

/// A range, however it is written.
pub(super) fn any_range(value: &str) -> Option<Range> {
    read_range(value).ok().map(|(range, _)| range)
}

/// A range that must be in its one form.
pub(super) fn strict_range(value: &str, path: Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    let Some(range) = range(value, path, errors) else { return };
    let canonical = format!("{}/{}", range.first, range.prefix);
    if errors.len() == before && canonical != value {
        errors.push(Cause::invalid(path, value, &format!("must be in canonical form (\"{canonical}\")")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (text, want) in [
            ("10.0.0.1", None),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("10.0.0.256", Some(NO_ADDRESS)),
            ("10.0.0", Some(NO_ADDRESS)),
            ("2001:DB8::1", Some("must be in canonical form (\"2001:db8::1\")")),
        ] {
            assert_eq!(strict_fault(text).as_deref(), want, "{text}");
        }
        for (text, want) in [
            ("10.0.0.0/8", Ok(None)),
            ("10.0.0.1/8", Ok(Some("must not have bits set beyond the prefix length"))),
            ("10.0.0.0/08", Ok(Some("must not have leading 0s in IP or prefix length"))),
            ("10.0.0.0/33", Err(NO_RANGE)),
            ("10.0.0.0", Err(NO_RANGE)),
            ("::/0", Ok(None)),
        ] {
            assert_eq!(read_range(text).map(|(_, fault)| fault), want, "{text}");
        }
    }
}

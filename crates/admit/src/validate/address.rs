//! Addresses and ranges of addresses as a stock server reads them: it knows what was meant with a leading zero or an IPv4
//! address in IPv6's clothes, and refuses it because others would read something else.

use ipnet::IpNet;
use std::net::IpAddr;
use stoa_kube::Cause;

use super::field::{Errors, Path};

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const MAPPED: &str = "must not be an IPv4-mapped IPv6 address";

/// An address as it was read of old, when zeros before a number meant nothing.
pub(super) fn sloppy(value: &str) -> Option<IpAddr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    let mut parts = value.split('.').map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse::<u8>().ok()).flatten()
    });
    let mut next = || parts.next().flatten();
    let octets = [next()?, next()?, next()?, next()?];
    parts.next().is_none().then(|| IpAddr::from(octets))
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// What is wrong with an address in a field that has always taken some that are not in their shortest form.
fn fault(value: &str) -> Option<&'static str> {
    match value.parse() {
        Ok(ip) => is_mapped(ip).then_some(MAPPED),
        Err(_) if sloppy(value).is_some() => Some("must not have leading 0s"),
        Err(_) => Some(NO_ADDRESS),
    }
}

/// An address in a field that has always taken some that are not in their shortest form. Returns it if it can be told.
pub(super) fn ip(value: &str, path: Path<'_>, errors: &mut Errors) -> Option<IpAddr> {
    errors.extend(fault(value).map(|why| Cause::invalid(path, value, why)));
    sloppy(value)
}

/// What is wrong with an address that must be in its one form.
pub(super) fn strict_fault(value: &str) -> Option<String> {
    if let Some(why) = fault(value) {
        return Some(why.to_owned());
    }
    let canonical = sloppy(value)?.to_string();
    (canonical != value).then(|| format!("must be in canonical form (\"{canonical}\")"))
}

/// Whether one range lies inside another and is smaller.
pub(super) fn exceeds(outer: &IpNet, inner: &IpNet) -> bool {
    outer.prefix_len() < inner.prefix_len() && outer.contains(inner)
}

/// A range from its first address on, and what is wrong with how it is written.
fn read_range(value: &str) -> Result<(IpNet, Option<&'static str>), &'static str> {
    let (address, length) = value.split_once('/').ok_or(NO_RANGE)?;
    let ip = sloppy(address).ok_or(NO_RANGE)?;
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let prefix: u8 = length.parse().ok().filter(|_| digits).ok_or(NO_RANGE)?;
    let range = IpNet::new(ip, prefix).map_err(|_| NO_RANGE)?.trunc();
    let zeros = address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'));
    let fault = if zeros {
        Some("must not have leading 0s in IP or prefix length")
    } else if is_mapped(ip) {
        Some("must not have an IPv4-mapped IPv6 address")
    } else if range.addr() != ip {
        Some("must not have bits set beyond the prefix length")
    } else {
        None
    };
    Ok((range, fault))
}

/// A range in a field that has always taken some that are not in their shortest form. Returns it if it can be told.
pub(super) fn range(value: &str, path: Path<'_>, errors: &mut Errors) -> Option<IpNet> {
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
pub(super) fn any_range(value: &str) -> Option<IpNet> {
    read_range(value).ok().map(|(range, _)| range)
}

/// A range that must be in its one form.
pub(super) fn strict_range(value: &str, path: Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    let Some(range) = range(value, path, errors) else { return };
    let canonical = range.to_string();
    if errors.len() == before && canonical != value {
        errors.push(Cause::invalid(path, value, &format!("must be in canonical form (\"{canonical}\")")));
    }
}

/// An address that others send to: not this machine's own, not one that clouds answer on.
pub(super) fn endpoint_ip(value: &str, path: Path<'_>, errors: &mut Errors) {
    let Some(address) = sloppy(value) else {
        return errors.push(Cause::invalid(path, value, "must be a valid IP address"));
    };
    let address = address.to_canonical();
    let (local, group) = match address {
        IpAddr::V4(a) => (a.is_link_local(), a.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(a) => (a.is_unicast_link_local(), a.segments()[0] & 0xff0f == 0xff02),
    };
    let unspecified = format!("may not be unspecified ({value})");
    for (is_so, why) in [
        (address.is_unspecified(), unspecified.as_str()),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (group, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is_so {
            errors.push(Cause::invalid(path, value, why));
        }
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

//! Where traffic may be sent.

use stoa_kube::Cause;

use super::address::ip;
use super::field::{Errors, Path};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Which addresses an endpoint may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any.
    Anywhere,
    /// None that mean the machine itself or its link.
    Network,
}

/// An address that traffic may be sent to: not this machine's own, not one that clouds answer on.
pub(super) fn endpoint_address(value: &str, reach: Reach, path: Path<'_>, errors: &mut Errors) {
    let Ok(address) = value.parse::<std::net::IpAddr>() else {
        ip(value, path, errors);
        return;
    };
    let why = match address {
        _ if reach == Reach::Anywhere => return,
        _ if address.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        _ if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        std::net::IpAddr::V4(a) if a.is_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        std::net::IpAddr::V6(a) if a.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        _ if address.is_multicast() => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        }
        _ => return,
    };
    errors.push(Cause::invalid(path, value, why));
}

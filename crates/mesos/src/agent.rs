//! Machines: the agents, and the master that speaks for them.

use crate::framework::Opaque;
use crate::json::{Id, Int};
use crate::resource::{Ranges, Resource, Scalar, Set, ValueType};
use stoa_units::AgentId;

message! {
    /// A machine as the master presents it.
    pub struct AgentInfo {
        required {
            /// Where its API is reached.
            hostname: String,
        }
        always {
            /// What it has.
            resources: Vec<Resource>,
            /// What it says about itself.
            attributes: Vec<Attribute>,
        }
        optional {
            /// The port of its API.
            port: Option<u32>,
            /// Its id.
            id: Option<Id<AgentId>>,
            /// Region and zone.
            domain: Option<Opaque>,
        }
    }
}

message! {
    /// One attribute of a machine.
    pub struct Attribute {
        required {
            /// Its name.
            name: String,
            /// Which of the values is set.
            #[serde(rename = "type")]
            kind: ValueType,
        }
        optional {
            /// A number.
            scalar: Option<Scalar>,
            /// Ranges.
            ranges: Option<Ranges>,
            /// A set.
            set: Option<Set>,
            /// Text.
            text: Option<Text>,
        }
    }
}

message! {
    /// A text value.
    pub struct Text {
        required {
            /// The text.
            value: String,
        }
    }
}

impl Attribute {
    /// A text attribute.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Attribute {
        Attribute {
            name: name.into(),
            kind: ValueType::Text,
            scalar: None,
            ranges: None,
            set: None,
            text: Some(Text { value: value.into() }),
        }
    }
}

message! {
    /// An address.
    pub struct Address {
        required {
            /// The port.
            port: Int,
        }
        optional {
            /// By name.
            hostname: Option<String>,
            /// By number.
            ip: Option<String>,
        }
    }
}

message! {
    /// The master's description of itself.
    pub struct MasterInfo {
        required {
            /// A new one at each start.
            id: String,
            /// The IPv4 address: four bytes in network order, read as a little-endian number.
            ip: u32,
            /// The port.
            port: u32,
        }
        optional {
            /// `master@ip:port`.
            pid: Option<String>,
            /// Where it is reached by name.
            hostname: Option<String>,
            /// Plain dotted integers.
            version: Option<String>,
            /// The address again, as newer clients read it.
            address: Option<Address>,
            /// Region and zone.
            domain: Option<Opaque>,
            /// What the master can handle.
            capabilities: Vec<Opaque>,
        }
    }
}

impl MasterInfo {
    /// Describes a master at an address. Clients read `pid` or `address` or `ip`: all are filled in.
    pub fn new(
        id: impl Into<String>,
        ip: core::net::IpAddr,
        port: u16,
        hostname: impl Into<String>,
    ) -> MasterInfo {
        let hostname = hostname.into();
        let number = match ip {
            core::net::IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
            core::net::IpAddr::V6(_) => 0,
        };
        MasterInfo {
            id: id.into(),
            ip: number,
            port: u32::from(port),
            pid: Some(format!("master@{}", core::net::SocketAddr::new(ip, port))),
            hostname: Some(hostname.clone()),
            version: Some(crate::VERSION.into()),
            address: Some(Address {
                port: Int(i64::from(port)),
                hostname: Some(hostname),
                ip: Some(ip.to_string()),
            }),
            domain: None,
            capabilities: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_ip_is_four_bytes_in_network_order() {
        let m = MasterInfo::new("m", "127.0.0.1".parse().unwrap(), 5050, "localhost");
        // What a stock master at 127.0.0.1 announces.
        assert_eq!(m.ip, 16_777_343);
        insta::assert_json_snapshot!(m, @r#"
        {
          "id": "m",
          "ip": 16777343,
          "port": 5050,
          "pid": "master@127.0.0.1:5050",
          "hostname": "localhost",
          "version": "1.11.0",
          "address": {
            "port": 5050,
            "hostname": "localhost",
            "ip": "127.0.0.1"
          }
        }
        "#);
    }
}

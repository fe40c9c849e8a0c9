//! Session messages. One HTTP/2 stream carries them both ways; each is a [`Packet`]: a small JSON head that says what
//! happened, and, where an object belongs to it, the object's bytes exactly as the store holds them.

use crate::tunnel::TunnelRequest;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The protocol's version; a leader refuses an agent that speaks another.
pub const PROTOCOL: u32 = 1;
/// Where an agent posts its session.
pub const SESSION_PATH: &str = "/stoa/v1/session";
/// Where an agent posts a tunnel that it was asked to open; the tunnel's number follows.
pub const TUNNELS_PATH: &str = "/stoa/v1/tunnels/";
/// Where a machine that has only a join token asks for a certificate.
pub const JOIN_PATH: &str = "/stoa/v1/join";

/// Longest head of a packet.
pub const HEAD_LEN_MAX: usize = 256 * 1024;
/// Longest object in a packet: etcd's limit on a value, with room for the largest request the API takes.
pub const OBJECT_LEN_MAX: usize = 4 * 1024 * 1024;
/// Pods that an agent may run at once, whatever the node object says.
pub const PODS_MAX: usize = 4_096;

/// A head and the object it speaks of (empty where there is none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<T> {
    /// What happened.
    pub head: T,
    /// The object's bytes, shared, never copied on the way out.
    pub object: Bytes,
}

/// Why bytes are no packet.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The head is longer than allowed.
    #[error("a head of {0} bytes is too long")]
    Head(usize),
    /// The object is longer than allowed.
    #[error("an object of {0} bytes is too long")]
    Object(usize),
    /// The head is not what this protocol says.
    #[error("the head is malformed")]
    Malformed(#[source] serde_json::Error),
}

impl<T> Packet<T> {
    /// A packet with no object.
    pub fn bare(head: T) -> Packet<T> {
        Packet { head, object: Bytes::new() }
    }

    /// A packet about `object`.
    pub fn with(head: T, object: Bytes) -> Packet<T> {
        Packet { head, object }
    }
}

impl<T: Serialize> Packet<T> {
    /// The bytes to send: a prefix of lengths and head, then the object untouched.
    pub fn encode(&self) -> Result<(Bytes, Bytes), PacketError> {
        let head = serde_json::to_vec(&self.head).map_err(PacketError::Malformed)?;
        if head.len() > HEAD_LEN_MAX {
            return Err(PacketError::Head(head.len()));
        }
        if self.object.len() > OBJECT_LEN_MAX {
            return Err(PacketError::Object(self.object.len()));
        }
        let mut out = BytesMut::with_capacity(8 + head.len());
        out.put_u32(head.len() as u32);
        out.put_u32(self.object.len() as u32);
        out.put_slice(&head);
        Ok((out.freeze(), self.object.clone()))
    }
}

impl<T: for<'de> Deserialize<'de>> Packet<T> {
    /// Takes the first whole packet off `input`, if there is one.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Packet<T>>, PacketError> {
        if input.len() < 8 {
            return Ok(None);
        }
        let head_len = u32::from_be_bytes([input[0], input[1], input[2], input[3]]) as usize;
        let object_len = u32::from_be_bytes([input[4], input[5], input[6], input[7]]) as usize;
        if head_len > HEAD_LEN_MAX {
            return Err(PacketError::Head(head_len));
        }
        if object_len > OBJECT_LEN_MAX {
            return Err(PacketError::Object(object_len));
        }
        if input.len() < 8 + head_len + object_len {
            return Ok(None);
        }
        input.advance(8);
        let head = input.split_to(head_len);
        let head = serde_json::from_slice(&head).map_err(PacketError::Malformed)?;
        Ok(Some(Packet { head, object: input.split_to(object_len).freeze() }))
    }
}

/// One pod, by the uid too, so that a namesake is never meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
}

/// Kinds of object that are pushed beside pods: those that pods refer to, and those that every machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Referent {
    /// A `ConfigMap` that a pod refers to.
    ConfigMap,
    /// A `Secret` that a pod refers to.
    Secret,
    /// A `Service`, of which every agent hears.
    Service,
    /// An `EndpointSlice`, of which every agent hears.
    EndpointSlice,
    /// A `RuntimeClass`, of which every agent hears.
    RuntimeClass,
    /// A `ResourceClaim` that a pod refers to.
    ResourceClaim,
}

impl Referent {
    /// The plural that the API uses.
    pub fn plural(self) -> &'static str {
        match self {
            Referent::ConfigMap => "configmaps",
            Referent::Secret => "secrets",
            Referent::Service => "services",
            Referent::EndpointSlice => "endpointslices",
            Referent::RuntimeClass => "runtimeclasses",
            Referent::ResourceClaim => "resourceclaims",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Referent::EndpointSlice => "discovery.k8s.io",
            Referent::RuntimeClass => "node.k8s.io",
            Referent::ResourceClaim => "resource.k8s.io",
            Referent::ConfigMap | Referent::Secret | Referent::Service => "",
        }
    }

    /// Whether every agent hears of all of them, whatever its pods refer to.
    pub fn is_shared(self) -> bool {
        matches!(self, Referent::Service | Referent::EndpointSlice | Referent::RuntimeClass)
    }
}

/// A taint of a node, of an effect that is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTaint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
}

/// What a machine is: sent in the hello and whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// The machine's host name.
    pub hostname: String,
    /// The address that pods and people reach the machine by.
    pub address: String,
    /// Everything the machine has, by resource name, as quantities.
    pub capacity: std::collections::BTreeMap<String, String>,
    /// What pods may use of it.
    pub allocatable: std::collections::BTreeMap<String, String>,
    /// Labels of the node, beside the well-known ones.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations of the node.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// `nodeInfo` of the status.
    pub info: std::collections::BTreeMap<String, String>,
    /// Images present.
    pub images: Vec<NodeImage>,
    /// Conditions beside `Ready`, as `(type, status, reason, message)`.
    pub conditions: Vec<NodeCondition>,
    /// What pods may use of the machine's kernel.
    #[serde(default)]
    pub features: NodeFeatures,
}

/// What not every kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFeatures {
    /// Mounts that are read-only with all that is below them.
    pub recursive_read_only_mounts: bool,
    /// Users of a pod's own.
    pub user_namespaces: bool,
}

/// An image on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeImage {
    /// Its names.
    pub names: Vec<String>,
    /// Its size.
    pub size_bytes: u64,
}

/// A condition of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    /// For example `MemoryPressure`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What an agent saw happen, counted; becomes an `Event` object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Occurrence {
    /// The pod, or none when it is about the node.
    pub pod: Option<PodRef>,
    /// Path inside the pod: `spec.containers{web}`, or empty.
    pub field_path: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often it happened since the agent first saw it.
    pub count: u32,
    /// When first, RFC 3339.
    pub first: String,
    /// When last, RFC 3339.
    pub last: String,
    /// Name of the `Event` object, unique in its namespace, the same for every count of one occurrence.
    pub name: String,
    /// What programs are told of it beside the sentence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A pod that an agent holds, in the hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldPod {
    /// Which.
    pub pod: PodRef,
    /// Containers that run now.
    pub running: u32,
}

/// From an agent to the leader. Where an object belongs to a message, its packet carries it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Up {
    /// The first message: who, what machine, and all that it holds.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The node's name; must be the certificate's.
        node: String,
        /// Of the agent's software.
        version: String,
        /// What the machine is.
        report: Box<NodeReport>,
        /// What it holds.
        pods: Vec<HeldPod>,
    },
    /// The machine changed.
    Node {
        /// What it is now.
        report: Box<NodeReport>,
    },
    /// A pod's status changed; the packet's object is the `PodStatus`.
    Status {
        /// Which.
        pod: PodRef,
        /// Whether it shows something that is over already, such as how a container ended that is about to start again:
        /// it is written for those who watch, also where the status after it came in the meantime.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        passing: bool,
    },
    /// Every container of a pod that is to be deleted has ended and its resources are free.
    Stopped {
        /// Which.
        pod: PodRef,
    },
    /// A pod that the machine runs of its own accord shall be shown; the packet's object is the `Pod`.
    Mirror {
        /// Under which name; the uid is the machine's own.
        pod: PodRef,
    },
    /// Such a pod is gone.
    MirrorGone {
        /// Under which name.
        pod: PodRef,
    },
    /// Something to tell people.
    Event {
        /// What.
        occurrence: Box<Occurrence>,
    },
    /// A service-account token for a pod's volume is wanted.
    Token {
        /// Echoed in the answer.
        request: u64,
        /// For which pod; it must be bound here and use the account.
        pod: PodRef,
        /// The pod's service account.
        service_account: String,
        /// Audiences; none means the API server's.
        audiences: Vec<String>,
        /// Wanted lifetime.
        expiration_seconds: u64,
    },
    /// A tunnel cannot be opened.
    TunnelRefused {
        /// Which.
        id: u64,
        /// The HTTP status that a kubelet would answer.
        code: u16,
        /// Why.
        message: String,
    },
}

/// From the leader to an agent. Where an object belongs to a message, its packet carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Down {
    /// The answer to the hello; the desired state follows.
    Welcome {
        /// Identifies the cluster.
        cluster: String,
        /// The addresses that this node's pods get.
        pod_cidr: String,
        /// The whole cluster's pod addresses, never masqueraded.
        cluster_cidr: String,
        /// Virtual addresses of services.
        service_cidr: String,
        /// Address of the cluster's DNS, empty when there is none.
        dns: String,
        /// The cluster's DNS domain.
        domain: String,
        /// The API server as pods reach it (host, port), for `KUBERNETES_SERVICE_*`; empty when unknown.
        api_host: String,
        /// See `api_host`.
        api_port: u16,
    },
    /// A pod is desired here; the packet's object is the `Pod`.
    Pod {
        /// Which.
        pod: PodRef,
        /// The labels of the agent's node, if they are not those that this session said last: by them the agent judges
        /// whether a pod belongs here, so none may come before them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node_labels: Option<BTreeMap<String, String>>,
        /// Its taints that let nobody run who does not tolerate them (`NoExecute`), said together with the labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node_taints: Option<Vec<NodeTaint>>,
    },
    /// A pod is not desired any more: its object is gone.
    PodGone {
        /// Which.
        pod: PodRef,
    },
    /// An object that a pod refers to; the packet's object is it.
    Object {
        /// What kind.
        kind: Referent,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object that a pod refers to does not exist.
    ObjectGone {
        /// What kind.
        kind: Referent,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// All that is desired was said: what was not named is not desired.
    Synced,
    /// The token that was asked for.
    Token {
        /// Of the request.
        request: u64,
        /// The token.
        token: String,
        /// RFC 3339.
        expires: String,
    },
    /// No token.
    TokenRefused {
        /// Of the request.
        request: u64,
        /// Why.
        message: String,
    },
    /// Open a tunnel: post to [`TUNNELS_PATH`] and this number, or refuse.
    Open {
        /// Which.
        id: u64,
        /// For what.
        request: TunnelRequest,
    },
}

/// What a joining machine posts to [`JOIN_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// The join token.
    pub token: String,
    /// The name the machine wants.
    pub node: String,
    /// A certificate signing request in PEM; its key never leaves the machine.
    pub csr: String,
}

/// The answer to a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinResponse {
    /// The node's certificate, PEM.
    pub certificate: String,
    /// The cluster's authority, PEM.
    pub ca: String,
    /// Identifies the cluster.
    pub cluster: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pod() -> PodRef {
        PodRef { namespace: "default".into(), name: "web".into(), uid: "u1".into() }
    }

    proptest! {
        #[test]
        fn packets_survive_any_cut(object in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..500) {
            let packet = Packet::with(Down::Pod { pod: pod(), node_labels: None, node_taints: None }, Bytes::from(object));
            let (head, object) = packet.encode().unwrap();
            let mut whole = BytesMut::from(&head[..]);
            whole.extend_from_slice(&object);
            let tail = whole.split_off(cut.min(whole.len()));
            if tail.is_empty() {
                prop_assert_eq!(Packet::decode(&mut whole).unwrap(), Some(packet));
            } else {
                prop_assert_eq!(Packet::<Down>::decode(&mut whole).unwrap(), None);
                whole.extend_from_slice(&tail);
                prop_assert_eq!(Packet::decode(&mut whole).unwrap(), Some(packet));
            }
            prop_assert!(whole.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut b = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Packet::<Up>::decode(&mut b) {}
        }
    }

    #[test]
    fn lengths_are_checked_before_the_bytes_arrive() {
        let mut b = BytesMut::from(&[0xff, 0, 0, 0, 0, 0, 0, 0][..]);
        assert!(matches!(Packet::<Up>::decode(&mut b), Err(PacketError::Head(_))));
        let mut b = BytesMut::from(&[0, 0, 0, 2, 0xff, 0, 0, 0][..]);
        assert!(matches!(Packet::<Up>::decode(&mut b), Err(PacketError::Object(_))));
    }
}

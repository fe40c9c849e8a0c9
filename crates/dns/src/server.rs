//! The server: one UDP and one TCP socket, the zone, and whoever is asked for what is not in it.

use crate::forward::Forwarder;
use crate::{Answer, Data, Kind, Zone};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME, PTR, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

/// For how many seconds a resolver may keep an answer: what services mean changes quickly.
const TTL_SECONDS: u32 = 5;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Answers that may wait on one connection.
const ANSWERS_MAX: usize = 32;

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("cannot serve names on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A socket failed.
    #[error("the name server on {address} failed: {why}")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// Why.
        why: String,
    },
}

/// Answers on `address` until `shutdown`.
pub async fn serve(
    address: SocketAddr,
    zone: Arc<dyn Zone>,
    upstream: Vec<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let bind = |cause| Error::Bind { address, cause };
    let datagrams = UdpSocket::bind(address).await.map_err(bind)?;
    let connections = TcpListener::bind(address).await.map_err(bind)?;
    let mut server = Server::new(Handler { zone, forwarder: Forwarder::new(upstream) });
    server.register_socket(datagrams);
    server.register_listener(connections, SILENCE_MAX, ANSWERS_MAX);
    let failed = |e: hickory_server::net::NetError| Error::Serve { address, why: e.to_string() };
    tokio::select! {
        ended = server.block_until_done() => return ended.map_err(failed),
        () = shutdown.cancelled() => {}
    }
    server.shutdown_gracefully().await.map_err(failed)
}

struct Handler {
    zone: Arc<dyn Zone>,
    forwarder: Forwarder,
}

/// What goes back.
struct Reply {
    code: ResponseCode,
    is_ours: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

impl Reply {
    fn of(code: ResponseCode) -> Reply {
        Reply { code, is_ours: true, answers: Vec::new(), authorities: Vec::new() }
    }

    fn forwarded(message: Option<Message>) -> Reply {
        let Some(message) = message else {
            return Reply { is_ours: false, ..Reply::of(ResponseCode::ServFail) };
        };
        Reply {
            code: message.metadata.response_code,
            is_ours: false,
            answers: message.answers,
            authorities: message.authorities,
        }
    }
}

fn kind_of(of: RecordType) -> Kind {
    match of {
        RecordType::A => Kind::A,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::TXT => Kind::Txt,
        _ => Kind::Other,
    }
}

/// A record under `name`; a name that is none is left out.
fn record(name: &Name, data: Data) -> Option<Record> {
    let absolute = |text: &str| Name::from_ascii(format!("{text}.")).ok();
    let data = match data {
        Data::A(ip) => RData::A(A(ip)),
        Data::Srv { port, target } => RData::SRV(SRV::new(0, 100, port, absolute(&target)?)),
        Data::Ptr(target) => RData::PTR(PTR(absolute(&target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text])),
    };
    Some(Record::from_rdata(name.clone(), TTL_SECONDS, data))
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::of(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Reply::of(ResponseCode::FormErr) };
        let asked: Name = info.query.name().into();
        let text = asked.to_ascii().to_ascii_lowercase();
        let kind = info.query.query_type();
        match self.zone.look_up(text.trim_end_matches('.'), kind_of(kind)) {
            Answer::Elsewhere => Reply::forwarded(self.forwarder.ask(request.as_slice()).await),
            Answer::NoName => Reply::of(ResponseCode::NXDomain),
            Answer::Records(all) => {
                let answers = all.into_iter().filter_map(|d| record(&asked, d)).collect();
                Reply { answers, ..Reply::of(ResponseCode::NoError) }
            }
            Answer::Alias(target) => self.follow(&asked, &target, kind, request.metadata.id).await,
        }
    }

    /// An alias with what stands behind it, which a stub resolver would not ask for itself.
    async fn follow(&self, asked: &Name, target: &str, kind: RecordType, id: u16) -> Reply {
        let Ok(name) = Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) else {
            return Reply::of(ResponseCode::ServFail);
        };
        let alias = Record::from_rdata(asked.clone(), TTL_SECONDS, RData::CNAME(CNAME(name.clone())));
        let mut reply = Reply { answers: vec![alias], ..Reply::of(ResponseCode::NoError) };
        if kind == RecordType::CNAME {
            return reply;
        }
        let lower = target.trim_end_matches('.').to_ascii_lowercase();
        match self.zone.look_up(&lower, kind_of(kind)) {
            Answer::Records(all) => reply.answers.extend(all.into_iter().filter_map(|d| record(&name, d))),
            Answer::Elsewhere => {
                let mut question = Message::query();
                question.metadata.id = id;
                question.metadata.recursion_desired = true;
                question.add_query(Query::query(name, kind));
                if let Ok(bytes) = question.to_vec()
                    && let Some(answer) = self.forwarder.ask(&bytes).await
                {
                    reply.answers.extend(answer.answers);
                }
            }
            // One step is enough: an alias of an alias is answered as the first one only.
            Answer::Alias(_) | Answer::NoName => {}
        }
        reply
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.is_ours;
        metadata.recursion_available = true;
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &reply.answers,
            &reply.authorities,
            &[],
            &[],
        );
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

#[cfg(test)]
mod tests;

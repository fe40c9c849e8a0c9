use super::*;
use hickory_server::proto::op::MessageType;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `<word>.test` has the address 192.0.2.1, `alias.test` is another name for `far.example`.
struct Words;

impl Zone for Words {
    fn look_up(&self, name: &str, kind: Kind) -> Answer {
        match (name, kind) {
            ("alias.test", _) => Answer::Alias("far.example".into()),
            ("none.test", _) => Answer::NoName,
            (n, Kind::A) if n.ends_with(".test") => {
                Answer::Records(vec![Data::A(Ipv4Addr::new(192, 0, 2, 1))])
            }
            (n, Kind::Srv) if n.ends_with(".test") => {
                Answer::Records(vec![Data::Srv { port: 80, target: "web.test".into() }])
            }
            (n, _) if n.ends_with(".test") => Answer::Records(Vec::new()),
            _ => Answer::Elsewhere,
        }
    }
}

/// Stands in for the machine's resolver: every name has the address 198.51.100.7.
struct Everything;

impl Zone for Everything {
    fn look_up(&self, _: &str, kind: Kind) -> Answer {
        let address = Data::A(Ipv4Addr::new(198, 51, 100, 7));
        Answer::Records(if kind == Kind::A { vec![address] } else { Vec::new() })
    }
}

async fn start(zone: Arc<dyn Zone>, upstream: Vec<SocketAddr>) -> (SocketAddr, CancellationToken) {
    // Both sockets need the same port: whoever takes it in between makes this try another.
    loop {
        let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(serve(address, zone.clone(), upstream.clone(), shutdown.clone()));
        loop {
            if ask_by_stream(address, "ready.test", RecordType::A).await.is_ok() {
                return (address, shutdown);
            }
            if running.is_finished() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message.to_vec().unwrap()
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(name, kind), server).await.unwrap();
    let mut answer = vec![0; 4096];
    let len = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await.unwrap().unwrap();
    Message::from_vec(&answer[..len]).unwrap()
}

async fn ask_by_stream(server: SocketAddr, name: &str, kind: RecordType) -> std::io::Result<Message> {
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    let question = question(name, kind);
    stream.write_u16(question.len() as u16).await?;
    stream.write_all(&question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(std::io::Error::other)
}

fn shown(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect()
}

#[tokio::test]
async fn names_of_the_zone_are_answered_and_others_handed_on() {
    let (upstream, _up) = start(Arc::new(Everything), Vec::new()).await;
    let (server, shutdown) = start(Arc::new(Words), vec![upstream]).await;
    let a = ask(server, "Web.Test", RecordType::A).await;
    assert_eq!(shown(&a), ["A 192.0.2.1"]);
    let meta = &a.metadata;
    assert_eq!((meta.id, meta.message_type, meta.authoritative), (4711, MessageType::Response, true));
    assert_eq!(shown(&ask_by_stream(server, "web.test", RecordType::A).await.unwrap()), ["A 192.0.2.1"]);
    assert_eq!(shown(&ask(server, "_http._tcp.test", RecordType::SRV).await), ["SRV 0 100 80 web.test."]);
    let empty = ask(server, "web.test", RecordType::AAAA).await;
    assert_eq!((empty.metadata.response_code, empty.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(ask(server, "none.test", RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(shown(&ask(server, "elsewhere.example", RecordType::A).await), ["A 198.51.100.7"]);
    let alias = ask(server, "alias.test", RecordType::A).await;
    assert_eq!(shown(&alias), ["CNAME far.example.", "A 198.51.100.7"]);
    shutdown.cancel();
}

#[tokio::test]
async fn without_resolvers_a_foreign_name_fails_and_nonsense_is_survived() {
    let (server, _shutdown) = start(Arc::new(Words), Vec::new()).await;
    let foreign = ask(server, "elsewhere.example", RecordType::A).await;
    assert_eq!(foreign.metadata.response_code, ResponseCode::ServFail);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for nonsense in [&b""[..], b"\0", &[0xff; 512], &[0; 12]] {
        socket.send_to(nonsense, server).await.unwrap();
    }
    assert_eq!(shown(&ask(server, "web.test", RecordType::A).await), ["A 192.0.2.1"]);
}

#[test]
fn the_machines_resolvers_are_read_off_its_file() {
    let text = "# by hand\nnameserver 10.0.0.1\n nameserver fe80::1\nnameserver odd\nsearch a b\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
    let found: Vec<String> = crate::upstream_of(text).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]);
}

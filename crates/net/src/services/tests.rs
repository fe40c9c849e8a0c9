use super::*;
use crate::network::{Network, Options, PodNet};
use crate::{namespace, rules};
use ipnet::Ipv4Net;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Inside, outside where it differs, UDP, stickiness, and which of external address, node port and source are there.
type Drawn = (Vec<Backend>, Option<Vec<Backend>>, bool, Option<u32>, [bool; 3]);

fn arb_backends() -> impl Strategy<Value = Vec<Backend>> {
    prop::collection::btree_set((1u8..6, 80u16..82), 0..4)
        .prop_map(|all| all.into_iter().map(|(last, port)| (Ipv4Addr::new(10, 9, 0, last), port)).collect())
}

fn arb_services() -> impl Strategy<Value = Services> {
    let one = (
        arb_backends(),
        prop::option::of(arb_backends()),
        any::<bool>(),
        prop::option::of(Just(60u32)),
        any::<[bool; 3]>(),
    );
    prop::collection::vec(prop::option::of(one), 4).prop_map(|all| {
        let named = all.into_iter().enumerate().filter_map(|(i, s)| Some((i as u8, s?)));
        let service =
            |(i, (inside, outside, udp, sticky_seconds, [external, node, keeps_source])): (u8, Drawn)| {
                let service = Service {
                    protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                    port: 80,
                    addresses: vec![Ipv4Addr::new(10, 96, 0, i)],
                    external: external.then(|| Ipv4Addr::new(198, 51, 100, i)).into_iter().collect(),
                    node_port: node.then_some(30_000 + u16::from(i)),
                    sticky_seconds,
                    outside: outside.unwrap_or_else(|| inside.clone()),
                    inside,
                    keeps_source,
                };
                (format!("default/s{i}/web"), service)
            };
        named.map(service).collect()
    })
}

/// What the kernel holds, in an order of its own.
fn held(id: &str) -> Vec<String> {
    let listed = Command::new("nft").args(["-j", "list", "table", "ip", &table(id)]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("nft lists in JSON");
    let mut position = HashMap::<String, usize>::new();
    let mut out = Vec::new();
    for object in listed["nftables"].as_array().unwrap() {
        let mut object = object.clone();
        for kind in ["chain", "rule", "map", "set", "table"] {
            let Some(fields) = object[kind].as_object_mut() else { continue };
            fields.remove("handle");
            if let Some(all) = fields.get_mut("elem").and_then(Value::as_array_mut) {
                all.sort_by_key(Value::to_string);
            }
            if kind == "rule" {
                let n = position.entry(fields["chain"].to_string()).or_default();
                *n += 1;
                fields.insert("position".into(), json!(*n));
            }
        }
        out.push(object.to_string());
    }
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_where_a_fresh_start_does(steps in prop::collection::vec(arb_services(), 2..5)) {
        let dir = tempfile::tempdir().unwrap();
        namespace::on_thread(|| {
            namespace::prepare_dir(dir.path())?;
            namespace::create(&dir.path().join("n"))?;
            let apply = |id: &str, t: &Value| rules::run(table(id), t);
            let (mut changed, first) = Table::create("changed", "br0", &steps[0]);
            apply("changed", &first)?;
            for step in &steps[1..] {
                if let (Some(transaction), _) = changed.update("changed", step) {
                    apply("changed", &transaction)?;
                }
                assert!(changed.update("changed", step).0.is_none(), "nothing is left to change");
                let (_, fresh) = Table::create("fresh", "br0", step);
                apply("fresh", &fresh)?;
                let renamed: Vec<String> =
                    held("fresh").iter().map(|l| l.replace(&table("fresh"), &table("changed"))).collect();
                assert_eq!(held("changed"), renamed);
            }
            Ok(())
        })
        .unwrap();
        namespace::remove_dir(dir.path()).unwrap();
    }
}

fn inside<T: Send>(net: &PodNet, work: impl FnOnce() -> T + Send) -> T {
    namespace::on_thread(|| {
        let fd = namespace::open(&net.netns)?;
        namespace::enter(&fd, &net.netns)?;
        Ok(work())
    })
    .unwrap()
}

/// Tells everybody who connects who they are and who answers, until the process ends.
fn serve(net: PodNet, port: u16, name: &'static str) {
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        inside(&net, || {
            let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
            ready.send(()).unwrap();
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let from = client.peer_addr().unwrap().ip();
                let _ = write!(client, "{name} hears {from}");
            }
        });
    });
    is_ready.recv().unwrap();
}

fn ask(to: (Ipv4Addr, u16)) -> Result<String, std::io::ErrorKind> {
    let mut s = TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE).map_err(|e| e.kind())?;
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    s.read_to_string(&mut text).map_err(|e| e.kind())?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_reached_from_pods_itself_and_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        id: format!("v{:x}", std::process::id() % 0xfffff),
        dir: dir.path().join("net"),
        pod_cidr: Ipv4Net::new(Ipv4Addr::new(10, 251, 9, 0), 24).unwrap(),
        mtu: None,
    };
    let network = Network::open(options.clone()).await.unwrap();
    let (a, b, client) = tokio::join!(network.attach("a"), network.attach("b"), network.attach("client"));
    let (a, b, client) = (a.unwrap(), b.unwrap(), client.unwrap());
    serve(a.clone(), 8080, "a");
    serve(b.clone(), 8081, "b");
    let virtual_ip = Ipv4Addr::new(10, 251, 200, 1);
    let node_port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut service = Service {
        protocol: Protocol::Tcp,
        port: 80,
        addresses: vec![virtual_ip],
        external: Vec::new(),
        node_port: Some(node_port),
        sticky_seconds: None,
        inside: vec![(a.ip, 8080)],
        outside: vec![(a.ip, 8080)],
        keeps_source: false,
    };
    let set = async |s: &Service| {
        network.set_services(&Services::from([("default/s/web".to_string(), s.clone())])).await.unwrap();
    };
    let front = (virtual_ip, 80);
    set(&service).await;
    assert_eq!(
        inside(&client, || ask(front)),
        Ok(format!("a hears {}", client.ip)),
        "the client's own address"
    );
    assert_eq!(
        inside(&a, || ask(front)),
        Ok(format!("a hears {}", network.gateway())),
        "a pod reaches itself"
    );
    assert!(ask(front).unwrap().starts_with("a hears"), "the machine reaches it");
    assert!(ask((network.gateway(), node_port)).unwrap().starts_with("a hears"), "its node port leads there");
    assert!(inside(&client, || ask((network.gateway(), node_port))).unwrap().starts_with("a hears"));

    service.inside = vec![(a.ip, 8080), (b.ip, 8081)];
    set(&service).await;
    let mut heard = BTreeSet::new();
    for _ in 0..64 {
        heard.insert(inside(&client, || ask(front)).unwrap());
    }
    assert_eq!(heard.len(), 2, "both answer: {heard:?}");

    service.sticky_seconds = Some(60);
    set(&service).await;
    let heard: BTreeSet<String> = (0..16).map(|_| inside(&client, || ask(front)).unwrap()).collect();
    assert_eq!(heard.len(), 1, "one keeps answering: {heard:?}");

    // The machine itself stands behind it: what it says to itself keeps its address, also on a connection that was there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
    let mut before = TcpStream::connect(own).unwrap();
    before.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    service.inside = vec![own];
    set(&service).await;
    accepted.write_all(b"still here").unwrap();
    let mut heard = [0; 10];
    before.read_exact(&mut heard).expect("a connection is cut by somebody else's service");
    let after = TcpStream::connect(own).unwrap();
    let peer = listener.accept().unwrap().1;
    assert_eq!(peer, after.local_addr().unwrap());

    service.inside = Vec::new();
    set(&service).await;
    assert_eq!(inside(&client, || ask(front)), Err(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(ask(front), Err(std::io::ErrorKind::ConnectionRefused));
    network.destroy().await.unwrap();
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&tables.stdout).contains(&options.id), "no table is left");
}

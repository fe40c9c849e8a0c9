use super::*;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

fn options(dir: &Path, third: u8) -> Options {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Options {
        id: format!("t{:x}", (std::process::id() + n * 7919) % 0xffffff),
        dir: dir.join("net"),
        pod_cidr: Ipv4Net::new(Ipv4Addr::new(10, 251, third, 0), 24).unwrap(),
        mtu: None,
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

/// Answers one connection with `text`, inside the pod.
fn serve_once(
    net: PodNet,
    port: u16,
    text: &'static str,
) -> (std::sync::mpsc::Receiver<()>, std::thread::JoinHandle<()>) {
    let (tx, rx) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        inside(&net, || {
            let listener = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
            tx.send(()).unwrap();
            let (mut s, _) = listener.accept().unwrap();
            s.write_all(text.as_bytes()).unwrap();
        });
    });
    (rx, thread)
}

fn read_all(mut s: std::net::TcpStream) -> String {
    let mut text = String::new();
    s.read_to_string(&mut text).unwrap();
    text
}

fn residue(id: &str, dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with(&format!("st{id}")))
        .collect();
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    found.extend(
        String::from_utf8_lossy(&tables.stdout)
            .lines()
            .filter(|l| l.contains(&rules::table(id)))
            .map(String::from),
    );
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains(&*dir.to_string_lossy())).map(String::from));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_reach_each_other_and_nothing_is_left_afterwards() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the network tests need root: they make namespaces and links"
    );
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), 1);
    let network = Network::open(options.clone()).await.unwrap();
    let (a, b) = tokio::join!(network.attach("pod-a"), network.attach("pod-b"));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.ip, b.ip);
    assert_eq!(network.attach("pod-a").await.unwrap(), a, "attaching again changes nothing");

    let (ready, server) = serve_once(a.clone(), 8080, "from pod to pod");
    ready.recv().unwrap();
    let address = (a.ip, 8080);
    let heard = inside(&b, || read_all(std::net::TcpStream::connect(address).unwrap()));
    assert_eq!(heard, "from pod to pod");
    server.join().unwrap();

    let (ready, server) = serve_once(a.clone(), 8081, "from pod to host");
    ready.recv().unwrap();
    assert_eq!(read_all(std::net::TcpStream::connect((a.ip, 8081)).unwrap()), "from pod to host");
    server.join().unwrap();

    let (ready, server) = serve_once(a.clone(), 8082, "through a dial");
    ready.recv().unwrap();
    let dialled = crate::dial(Some(&a.netns), 8082).await.unwrap().into_std().unwrap();
    dialled.set_nonblocking(false).unwrap();
    assert_eq!(read_all(dialled), "through a dial");
    server.join().unwrap();
    assert!(crate::dial(Some(&a.netns), 8083).await.is_err(), "nobody listens there");

    network.detach("pod-b").await.unwrap();
    network.detach("pod-b").await.unwrap();
    assert!(!b.netns.exists());
    network.destroy().await.unwrap();
    assert_eq!(residue(&options.id, dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_survive_a_crash_and_strays_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), 2);
    let first = Network::open(options.clone()).await.unwrap();
    let a = first.attach("keep").await.unwrap();
    first.attach("stray").await.unwrap();
    drop(first);
    let again = Network::open(options.clone()).await.unwrap();
    assert_eq!(again.get("keep"), Some(a.clone()));
    let fresh = again.attach("new").await.unwrap();
    assert_ne!(fresh.ip, a.ip);
    let keep = HashSet::from(["keep".to_string(), "new".to_string()]);
    assert_eq!(again.sweep(&keep).await.unwrap(), ["stray"]);
    assert!(again.get("stray").is_none());
    again.destroy().await.unwrap();
    assert_eq!(residue(&options.id, dir.path()), Vec::<String>::new());
    destroy(&options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_port_leads_to_its_pod_and_loopback_is_guarded() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), 3);
    let network = Network::open(options.clone()).await.unwrap();
    let a = network.attach("a").await.unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let guarded = taken.local_addr().unwrap().port();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = HostPort {
        pod_uid: "a".into(),
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port: free,
        pod_ip: a.ip,
        pod_port: 9000,
    };
    network.set_host_ports(vec![port]).await.unwrap();
    for target in [Ipv4Addr::LOCALHOST, network.gateway()] {
        let (ready, server) = serve_once(a.clone(), 9000, "through a host port");
        ready.recv().unwrap();
        assert_eq!(read_all(std::net::TcpStream::connect((target, free)).unwrap()), "through a host port");
        server.join().unwrap();
    }
    // A pod sends to 127.0.0.1 by way of the gateway: the guard drops it, so the host's loopback service stays out of reach.
    inside(&a, || {
        Command::new("ip").args(["route", "replace", "local", "127.0.0.0/8", "dev", "lo"]).status().unwrap();
    });
    let reached = inside(&a, || {
        std::net::TcpStream::connect_timeout(
            &std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, guarded)),
            std::time::Duration::from_millis(200),
        )
        .is_ok()
    });
    assert!(!reached);
    network.set_host_ports(Vec::new()).await.unwrap();
    assert!(
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, free)).is_err(),
        "a removed host port leads nowhere"
    );
    network.destroy().await.unwrap();
    assert_eq!(residue(&options.id, dir.path()), Vec::<String>::new());
}

#[test]
fn names_that_could_walk_are_refused() {
    for bad in ["", "..", "../x", "a/b", ".hidden", "a b"] {
        assert!(check_pod(bad).is_err(), "{bad}");
    }
    assert!(check_pod("0f3c1c6e-1111-2222-3333-444444444444").is_ok());
    assert!(veth_name("abcdef", "0f3c1c6e-1111-2222-3333-444444444444").len() <= 15);
}

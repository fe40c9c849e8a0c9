use super::*;
use crate::services::{Held, Service};
use std::cell::RefCell;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn service(behind: &[u8]) -> Service {
    let behind: Vec<Backend> = behind.iter().map(|b| (ip(*b), 53)).collect();
    Service {
        protocol: Protocol::Udp,
        port: 53,
        addresses: vec![ip(100)],
        external: vec![ip(101)],
        node_port: Some(30_053),
        sticky_seconds: None,
        inside: behind.clone(),
        outside: behind,
        keeps_source: false,
    }
}

fn flow(to: Backend, answered_by: Backend) -> Flow {
    Flow { from: ip(70), to, answered_by, handle: Vec::new() }
}

fn near() -> Near {
    Near { own: HashSet::from([ip(1)]), pods: Ipv4Net::new(ip(64), 28).unwrap() }
}

#[test]
fn a_flow_is_stale_when_who_answers_no_longer_stands_behind_its_front() {
    let of = |s: Service| Services::from([("d/s/53-udp".to_string(), s)]);
    let own = near();
    let fronts = Fronts::of_services(&of(service(&[2, 3])), &of(service(&[3, 4])));
    for front in [(ip(100), 53), (ip(101), 53), (ip(1), 30_053)] {
        assert!(fronts.is_stale(&flow(front, (ip(2), 53)), &own), "{front:?}: it left");
        assert!(fronts.is_stale(&flow(front, front), &own), "{front:?}: it was never led anywhere");
        assert!(!fronts.is_stale(&flow(front, (ip(3), 53)), &own), "{front:?}: it is still there");
    }
    assert!(!fronts.is_stale(&flow((ip(9), 30_053), (ip(9), 30_053)), &own), "somebody else's port");
    assert!(!fronts.is_stale(&flow((ip(100), 54), (ip(2), 54)), &own), "another port");
    let foreign = Flow { from: ip(90), ..flow((ip(100), 53), (ip(2), 53)) };
    assert!(!fronts.is_stale(&foreign, &own), "a pod of another cluster, whose service has the same address");
    // A service that goes leaves nobody; one that did not change is not looked at, nor is TCP.
    let gone = Fronts::of_services(&of(service(&[2])), &Services::new());
    assert!(gone.is_stale(&flow((ip(100), 53), (ip(2), 53)), &own));
    assert!(Fronts::of_services(&of(service(&[2])), &of(service(&[2]))).is_empty());
    let tcp = Service { protocol: Protocol::Tcp, ..service(&[2]) };
    assert!(Fronts::of_services(&Services::new(), &of(tcp)).is_empty());
    // An address that one service leaves and another takes is the other's.
    let mut moved = Services::from([("d/a".to_string(), service(&[2]))]);
    moved = Services::from([("d/b".to_string(), moved.remove("d/a").unwrap())]);
    let fronts = Fronts::of_services(&Services::from([("d/z".to_string(), service(&[5]))]), &moved);
    assert!(!fronts.is_stale(&flow((ip(100), 53), (ip(2), 53)), &own));
}

#[test]
fn a_host_port_leads_to_its_pod_of_now() {
    let port = |host_ip, pod: u8| HostPort {
        pod_uid: format!("u{pod}"),
        protocol: Protocol::Udp,
        host_ip,
        host_port: 53,
        pod_ip: ip(pod),
        pod_port: 5_353,
    };
    let own = near();
    for host_ip in [None, Some(ip(1))] {
        let fronts = Fronts::of_host_ports(&[port(host_ip, 2)], &[port(host_ip, 3)]);
        assert!(fronts.is_stale(&flow((ip(1), 53), (ip(2), 5_353)), &own));
        assert!(!fronts.is_stale(&flow((ip(1), 53), (ip(3), 5_353)), &own));
    }
    assert!(Fronts::of_host_ports(&[port(None, 2)], &[port(None, 2)]).is_empty());
}

#[test]
fn a_flow_is_read_and_named_as_the_kernel_writes_it() {
    let attribute = |kind: u16, value: &[u8]| {
        let mut out = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    let tuple = |kind: u16, from: Backend, to: Backend, protocol: u8| {
        let addresses = [attribute(1, &from.0.octets()), attribute(2, &to.0.octets())].concat();
        let ports = [
            attribute(1, &[protocol]),
            attribute(2, &from.1.to_be_bytes()),
            attribute(3, &to.1.to_be_bytes()),
        ];
        // The bit says that attributes are in it.
        attribute(
            kind | 0x8000,
            &[attribute(0x8001, &addresses), attribute(0x8002, &ports.concat())].concat(),
        )
    };
    let (client, front, backend) = ((ip(9), 4_000), (ip(100), 53), (ip(2), 5_353));
    let written = |protocol| {
        [
            tuple(1, client, front, protocol),
            tuple(2, backend, client, protocol),
            attribute(3, &[0, 0, 0, 8]),
            attribute(12, &[1, 2, 3, 4]),
        ]
    };
    let parts = written(UDP);
    let read = read_flow(&parts.concat()).unwrap();
    assert_eq!((read.from, read.to, read.answered_by), (client.0, front, backend));
    assert_eq!(read.handle, [parts[0].clone(), parts[3].clone()].concat());
    assert_eq!(read_flow(&written(6).concat()), None, "TCP ends by itself");
    let whole = parts.concat();
    for cut in 0..whole.len() {
        let _ = read_flow(&whole[..cut]);
    }
}

#[test]
fn however_many_flows_are_stale_all_are_forgotten() {
    for (flows, looks) in [(0, 1), (1, 1), (2, 2), (5, 3), (6, 4)] {
        let table = RefCell::new((0..flows).collect::<BTreeSet<u8>>());
        let looked = RefCell::new(0);
        let find = |len_max| {
            *looked.borrow_mut() += 1;
            Ok(table.borrow().iter().take(len_max).map(|flow| vec![*flow]).collect())
        };
        let delete = |handle: &[u8]| {
            assert!(table.borrow_mut().remove(&handle[0]));
            Ok(())
        };
        assert_eq!(forget_all(2, find, delete).unwrap(), usize::from(flows));
        assert_eq!((table.borrow().len(), *looked.borrow()), (0, looks), "{flows}");
    }
    // Flows that come as fast as they go do not keep it for ever.
    assert_eq!(forget_all(1, |_| Ok(vec![vec![0]]), |_| Ok(())).unwrap(), LOOKS_MAX);
}

#[test]
fn a_transaction_that_failed_takes_nothing_from_what_is_known() {
    let of = |all: &[(&str, u8)]| -> Services {
        all.iter()
            .map(|(name, last)| {
                (
                    (*name).to_owned(),
                    Service { addresses: vec![ip(*last)], external: vec![], ..service(&[2]) },
                )
            })
            .collect()
    };
    let (own, mut held) = (near(), Held::default());
    let stale = |fronts: &Fronts, last| fronts.is_stale(&flow((ip(last), 53), (ip(9), 53)), &own);
    let anew = |t: &Option<serde_json::Value>| t.as_ref().unwrap()["nftables"][0]["add"]["table"].is_object();
    let (first, fronts) = held.plan("x", "br", &of(&[("a", 100), ("b", 101)]));
    assert!(anew(&first) && stale(&fronts, 100) && stale(&fronts, 101));
    held.confirm();
    // One goes, and nobody confirms it, twice; what is planned then looks after its flows all the same.
    for _ in 0..2 {
        let (change, fronts) = held.plan("x", "br", &of(&[("b", 101)]));
        assert!(change.is_some() && stale(&fronts, 100));
    }
    let (next, fronts) = held.plan("x", "br", &of(&[("b", 101), ("c", 102)]));
    assert!(anew(&next), "whatever the kernel made of it");
    assert!(stale(&fronts, 100) && stale(&fronts, 101) && stale(&fronts, 102));
    held.confirm();
    let (change, fronts) = held.plan("x", "br", &of(&[("b", 101)]));
    assert!(!anew(&change) && stale(&fronts, 102) && !stale(&fronts, 100) && !stale(&fronts, 101));
    held.confirm();
    assert!(held.plan("x", "br", &of(&[("b", 101)])).0.is_none());
}

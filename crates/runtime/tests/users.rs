//! Root of a pod's own users is nobody on the machine: real containers on this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use common::{Bench, bind, pod, read_all};
use std::os::unix::fs::MetadataExt;
use stoa_runtime::{ExecSpec, PodSpec, Runtime, State, User, Users};

async fn ask(runtime: &Runtime, id: &str, script: &str) -> String {
    let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let mut session = runtime.exec(id, ExecSpec { args, ..ExecSpec::default() }).await.unwrap();
    let text = read_all(&mut session.stdout).await;
    session.exit.await.unwrap();
    text
}

#[tokio::test]
async fn root_inside_is_nobody_outside_and_owns_what_is_its_own() {
    let bench = Bench::new("users").await;
    for uid in ["p2", "p3"] {
        bench.runtime.create_pod(PodSpec { users: Users::Own, ..pod(uid) }).await.unwrap();
    }
    let mut firsts: Vec<u32> = bench.runtime.pods().iter().filter_map(PodSpec::first_id).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, [65_536, 131_072]);
    let first = bench.runtime.pods().iter().find(|p| p.uid == "p2").unwrap().first_id().unwrap();

    std::fs::create_dir(bench.path("volume")).unwrap();
    std::fs::write(bench.path("volume/given"), "x").unwrap();
    let script = "id -u; cat /proc/self/uid_map; ls -ln /etc/passwd /v/given; touch /new /v/made && ls -ln /new; \
        echo to stdout > /dev/stdout; mount -t tmpfs none /mnt 2>/dev/null && echo MOUNTED; \
        hostname other 2>/dev/null && echo RENAMED; sleep 1000";
    let mut spec = bench.spec("c1", script);
    spec.pod_uid = "p2".into();
    spec.mounts = vec![bind(bench.path("volume"), "/v", false)];
    let started = bench.runtime.start(spec.clone()).await.unwrap();
    bench.until(|| bench.log("c1").len() >= 6).await;
    let log = bench.log("c1").join("\n").replace("stdout F ", "");
    assert!(log.starts_with("0\n"), "{log}");
    assert_eq!(
        log.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["0", &first.to_string(), "65536"]
    );
    let owners: Vec<_> =
        log.lines().filter(|l| l.starts_with('-')).map(|l| l.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(owners, ["0", "0", "0"], "{log}");
    assert!(log.contains("to stdout") && !log.contains("MOUNTED") && !log.contains("RENAMED"), "{log}");

    // Outside: another user's process, and on disk what the volume's owner would have written.
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{first}\t{first}")), "{status}");
    assert_eq!(std::fs::metadata(bench.path("volume/made")).unwrap().uid(), 0);
    assert_eq!(std::fs::metadata(bench.runtime.upper_dir("c1").join("new")).unwrap().uid(), first);

    let seen = ask(
        &bench.runtime,
        "c1",
        "id -u; cat /proc/self/uid_map; touch /v/later && chown 7 /v/later && echo owned",
    )
    .await;
    assert!(
        seen.starts_with("0\n") && seen.contains(&first.to_string()) && seen.ends_with("owned\n"),
        "{seen}"
    );
    assert_eq!(std::fs::metadata(bench.path("volume/later")).unwrap().uid(), 7);

    let mut other = bench.spec("c2", "id -u; touch /v/x 2>/dev/null || echo refused; sleep 1000");
    other.pod_uid = "p2".into();
    other.user = User { uid: 1000, gid: 1000, additional_gids: vec![] };
    other.mounts = spec.mounts.clone();
    let started = bench.runtime.start(other).await.unwrap();
    bench.until(|| bench.log("c2").len() == 2).await;
    assert_eq!(bench.log("c2"), ["stdout F 1000", "stdout F refused"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{}", first + 1000)), "{status}");

    // The next agent knows the range, and gives it to nobody else.
    let again = Runtime::open(bench.options.clone()).await.unwrap();
    assert!(matches!(again.get("c1").unwrap().state, State::Running { .. }));
    again.create_pod(PodSpec { users: Users::Own, ..pod("p4") }).await.unwrap();
    assert_eq!(again.pods().iter().find(|p| p.uid == "p4").unwrap().first_id(), Some(196_608));
    bench.close().await;
}

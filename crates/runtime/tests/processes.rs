//! Who sees whose processes, and which signals reach them: real containers on this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use common::{Bench, pod, read_all};
use std::collections::BTreeMap;
use std::time::Duration;
use stoa_runtime::{ContainerSpec, Error, ExecSpec, Limits, PodSpec, Rootfs, Runtime, Sharing, State};

/// What a command in a running container prints.
async fn ask(runtime: &Runtime, id: &str, script: &str) -> String {
    let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let mut session = runtime.exec(id, ExecSpec { args, ..ExecSpec::default() }).await.unwrap();
    let text = read_all(&mut session.stdout).await;
    session.exit.await.unwrap();
    text
}

fn task(bench: &Bench, id: &str, script: &str) -> ContainerSpec {
    let mut spec = bench.spec(id, script);
    spec.rootfs = Rootfs::Host { sandbox: bench.path("sandbox") };
    spec.init = true;
    spec
}

#[tokio::test]
async fn a_polite_signal_ends_a_command_below_an_init_at_once() {
    let bench = Bench::new("init").await;
    // Neither handles the signal; as first processes both would live on.
    for (id, args) in [("c1", vec!["sleep", "1000"]), ("c2", vec!["/bin/sh", "-c", "sleep 1000; echo never"])]
    {
        let mut spec = task(&bench, id, "");
        spec.args = args.into_iter().map(str::to_owned).collect();
        bench.runtime.start(spec).await.unwrap();
        bench.runtime.kill(id, 15).await.unwrap();
        let exit = bench.end(id).await;
        assert_eq!(exit.code, 143, "{exit:?}");
        assert!(bench.log(id).is_empty());
    }
    // One that does something with it is let finish, and its code is its own.
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 1000 & wait $!; done";
    bench.runtime.start(task(&bench, "c3", script)).await.unwrap();
    bench.until(|| bench.log("c3") == ["stdout F up"]).await;
    bench.runtime.kill("c3", 15).await.unwrap();
    assert_eq!(bench.end("c3").await.code, 7);
    assert!(bench.log("c3").contains(&"stdout F bye".to_owned()));
    bench.close().await;
}

#[tokio::test]
async fn an_init_gives_the_commands_own_code_and_reaps_orphans() {
    let bench = Bench::new("initcode").await;
    let script = "(sleep 0.1 &) ; sleep 0.3; grep -c zombie /proc/[0-9]*/status | grep -vc ':0'; exit 5";
    let (exit, log) = bench.run(task(&bench, "c1", script)).await;
    assert_eq!((exit.code, log), (5, vec!["stdout F 0".to_owned()]));
    let mut missing = task(&bench, "c2", "");
    missing.args = vec!["no-such-thing".into()];
    assert!(matches!(bench.runtime.start(missing).await, Err(Error::Start { code: 127, .. })));
    bench.close().await;
}

#[tokio::test]
async fn containers_of_a_pod_share_processes_where_it_says_so_and_the_first_is_powerless() {
    let bench = Bench::new("share").await;
    let spec = PodSpec { pid: Sharing::Pod, ..pod("p2") };
    bench.runtime.create_pod(spec).await.unwrap();
    for id in ["c1", "c2"] {
        let mut spec = bench.spec(id, "sleep 1000 & sleep 1001");
        spec.pod_uid = "p2".into();
        bench.runtime.start(spec).await.unwrap();
    }
    let seen = ask(&bench.runtime, "c1", "ps -o pid,comm,args").await;
    assert_eq!(seen.matches("sleep 1000").count(), 2, "{seen}");
    assert!(seen.contains("    1 pause"), "{seen}");
    // Its root would be a way to the machine's files.
    let told =
        ask(&bench.runtime, "c1", "ls /proc/1/root/ 2>&1; grep -E '^(Uid|CapPrm|NoNewPrivs)' /proc/1/status")
            .await;
    assert!(told.contains("ermission denied"), "{told}");
    assert!(
        told.contains("65535")
            && told.contains("CapPrm:\t0000000000000000")
            && told.contains("NoNewPrivs:\t1"),
        "{told}"
    );
    // No first process of its namespace, so an ordinary command hears an ordinary signal; its children go with it.
    bench.runtime.kill("c2", 15).await.unwrap();
    assert_eq!(bench.end("c2").await.code, 143);
    let left = ask(&bench.runtime, "c1", "ps -o args").await;
    assert_eq!(left.matches("sleep 1000").count(), 1, "{left}");
    // The next agent finds it, and a pause that was killed takes all with it and is made anew.
    let again = Runtime::open(bench.options.clone()).await.unwrap();
    let pause = std::fs::read_to_string(bench.path("state/run/pods/p2/pause.json")).unwrap();
    let pid: i32 = serde_json::from_str::<serde_json::Value>(&pause).unwrap()["pid"].as_i64().unwrap() as i32;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(bench.end("c1").await.code, 137);
    let mut spec = bench.spec("c3", "sleep 1000");
    spec.pod_uid = "p2".into();
    again.start(spec).await.unwrap();
    assert!(ask(&again, "c3", "ps -o comm").await.contains("pause"));
    again.remove_pod("p2").await.unwrap();
    bench.close().await;
}

#[tokio::test]
async fn a_debugger_sees_the_processes_of_its_target_and_goes_with_it() {
    let bench = Bench::new("joins").await;
    bench.runtime.start(bench.spec("c1", "sleep 1000; true")).await.unwrap();
    let mut spec = bench.spec("c2", "sleep 1001; true");
    spec.joins = Some("c1".into());
    bench.runtime.start(spec.clone()).await.unwrap();
    let seen = ask(&bench.runtime, "c2", "ps -o args").await;
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 1001"), "{seen}");
    bench.runtime.kill_all("c2").await.unwrap();
    assert_eq!(bench.end("c2").await.code, 137);
    assert!(!ask(&bench.runtime, "c1", "ps -o args").await.contains("sleep 1001"));
    spec.id = "c3".into();
    bench.runtime.start(spec.clone()).await.unwrap();
    bench.runtime.kill_all("c1").await.unwrap();
    bench.end("c1").await;
    assert_eq!(bench.end("c3").await.code, 137);
    spec.id = "c4".into();
    assert!(bench.runtime.start(spec).await.is_err());
    assert!(bench.runtime.get("c4").is_none());
    bench.close().await;
}

#[tokio::test]
async fn limits_change_while_it_runs_and_are_remembered() {
    let bench = Bench::new("resize").await;
    let limits = |memory: Option<i64>, quota: Option<i64>| Limits {
        memory_bytes: memory,
        cpu_shares: Some(512),
        cpu_quota_us: quota,
        cpu_period_us: quota.map(|_| 100_000),
        ..Limits::default()
    };
    let mut spec = bench.spec("c1", "sleep 1000; true");
    spec.limits = limits(Some(64 << 20), Some(50_000));
    bench.runtime.start(spec).await.unwrap();
    let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max";
    assert!(ask(&bench.runtime, "c1", read).await.starts_with("67108864\n50000"));
    let notes: BTreeMap<_, _> = [("k".to_owned(), "v".to_owned())].into();
    bench.runtime.update("c1", limits(Some(128 << 20), None), notes).await.unwrap();
    let now = ask(&bench.runtime, "c1", read).await;
    assert!(now.starts_with("134217728\n-1") || now.starts_with("134217728\nmax"), "{now}");
    bench.runtime.update_pod("p1", limits(Some(256 << 20), None)).await.unwrap();
    // Less than it uses is refused, and what held goes on to hold.
    let error = bench.runtime.update("c1", limits(Some(4096), None), BTreeMap::new()).await.unwrap_err();
    assert!(
        std::error::Error::source(&error).unwrap().to_string().contains("below current usage"),
        "{error:?}"
    );
    let again = Runtime::open(bench.options.clone()).await.unwrap();
    let kept = again.get("c1").unwrap();
    assert!(matches!(kept.state, State::Running { .. }));
    assert_eq!((kept.spec.limits.memory_bytes, kept.spec.annotations["k"].as_str()), (Some(128 << 20), "v"));
    assert_eq!(again.pods()[0].limits.memory_bytes, Some(256 << 20));
    tokio::time::timeout(Duration::from_secs(30), again.remove_pod("p1")).await.unwrap().unwrap();
    bench.close().await;
}

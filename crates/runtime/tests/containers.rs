//! Real containers on this machine: they need root, busybox and cgroups, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use stoa_runtime::{
    Capabilities, Error, ExecSpec, ExitReason, Limits, Mount, Propagation, Rootfs, Runtime, Seccomp, Source,
    State, User,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use common::{Bench, bind, helper, pod, read_all};

#[tokio::test]
async fn output_and_exit_code_are_kept() {
    let bench = Bench::new("run").await;
    let (exit, log) = bench.run(bench.spec("c1", "echo out; echo err >&2; exit 7")).await;
    assert_eq!((exit.code, exit.signal, exit.reason), (7, None, ExitReason::Error));
    let mut log = log;
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out"]);
    let (exit, log) = bench.run(bench.spec("c2", "seq 1 20000; echo -n end")).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Completed));
    assert_eq!((log.len(), log.last().unwrap().as_str()), (20_001, "stdout P end"));
    bench.close().await;
}

#[tokio::test]
async fn a_command_that_is_missing_is_a_start_error() {
    let bench = Bench::new("missing").await;
    let mut spec = bench.spec("c1", "");
    spec.args = vec!["no-such-thing".into()];
    match bench.runtime.start(spec).await {
        Err(Error::Start { code: 127, message, .. }) => {
            assert_eq!(message, "exec: \"no-such-thing\": executable file not found in $PATH");
        }
        other => panic!("{other:?}"),
    }
    let State::Exited(exit) = bench.runtime.get("c1").unwrap().state else { panic!("not ended") };
    assert_eq!((exit.code, exit.reason), (128, ExitReason::StartError));
    for (at, (command, cwd, code, said)) in [
        ("/etc/passwd", "", 126, "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "", 126, "exec: \"/etc\": is a directory"),
        ("/no/such", "", 127, "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd/x", "", 127, "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory"),
        ("sh", "/etc/passwd/x", 126, "mkdir /etc/passwd: not a directory"),
        ("sh", "/etc/passwd", 126, "mkdir /etc/passwd: not a directory"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut spec = bench.spec(&format!("s{at}"), "");
        (spec.args, spec.cwd) = (vec![command.into()], cwd.into());
        match bench.runtime.start(spec).await {
            Err(Error::Start { code: got, message, .. }) => assert_eq!((got, &*message), (code, said)),
            other => panic!("{command} {cwd}: {other:?}"),
        }
    }
    let mut spec = bench.spec("c3", "");
    spec.mounts = vec![bind("/no/such/source", "/mnt", false)];
    assert!(matches!(bench.runtime.start(spec).await, Err(Error::Create { .. })));
    assert!(bench.runtime.get("c3").is_none());
    bench.close().await;
}

#[tokio::test]
async fn a_signal_ends_it_and_everything_in_it() {
    let bench = Bench::new("kill").await;
    bench
        .runtime
        .start(bench.spec("c1", "trap 'exit 3' TERM; echo ready; sleep 1000 & while :; do sleep 0.05; done"))
        .await
        .unwrap();
    bench.until(|| bench.log("c1") == ["stdout F ready"]).await;
    bench.runtime.kill("c1", 15).await.unwrap();
    assert_eq!(bench.end("c1").await.code, 3);
    let mut exits = bench.runtime.exits();
    bench.runtime.start(bench.spec("c2", "sleep 1000")).await.unwrap();
    bench.runtime.kill("c2", 9).await.unwrap();
    let exit = bench.end("c2").await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    // The first container's end may still be on its way when this listener begins.
    let heard = loop {
        let heard = exits.recv().await.unwrap();
        if heard.id == "c2" {
            break heard;
        }
    };
    assert_eq!(heard, exit);
    bench.runtime.kill("c2", 9).await.unwrap();
    bench.runtime.remove("c2").await.unwrap();
    bench.runtime.remove("c2").await.unwrap();
    assert!(matches!(bench.runtime.wait("c2").await, Err(Error::NotFound(_))));
    bench.close().await;
}

#[tokio::test]
async fn exec_runs_inside_and_gives_output_and_code() {
    let bench = Bench::new("exec").await;
    let mut spec = bench.spec("c1", "sleep 1000");
    spec.env = vec!["A=1".into(), "B=2".into()];
    spec.cwd = "/tmp".into();
    spec.oom_score_adj = 900;
    bench.runtime.start(spec).await.unwrap();
    let exec = |script: &str| ExecSpec {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["B=3".into()],
        ..ExecSpec::default()
    };
    let mut session =
        bench.runtime.exec("c1", exec("echo $A$B $(pwd) $$; echo bad >&2; exit 4")).await.unwrap();
    let out = read_all(&mut session.stdout).await;
    assert!(out.starts_with("13 /tmp "), "{out}");
    assert_eq!(read_all(session.stderr.as_mut().unwrap()).await, "bad\n");
    assert_eq!(session.exit.await.unwrap(), 4);

    let mut session = bench
        .runtime
        .exec("c1", ExecSpec { stdin: true, ..exec("cat; grep -c . /proc/self/cgroup") })
        .await
        .unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    drop(stdin);
    assert!(read_all(&mut session.stdout).await.starts_with("hello\n"));
    assert_eq!(session.exit.await.unwrap(), 0);

    let mut session = bench.runtime.exec("c1", exec("cat /proc/self/oom_score_adj")).await.unwrap();
    assert_eq!(read_all(&mut session.stdout).await, "900\n");

    let missing = ExecSpec { args: vec!["nope".into()], ..ExecSpec::default() };
    assert!(matches!(bench.runtime.exec("c1", missing).await, Err(Error::Exec { code: 127, .. })));
    let session = bench.runtime.exec("c1", exec("sleep 1000")).await.unwrap();
    session.kill();
    assert_eq!(session.exit.await.unwrap(), 137);
    bench.close().await;
}

#[tokio::test]
async fn exec_with_a_terminal_has_a_size_and_one_stream() {
    let bench = Bench::new("tty").await;
    bench.runtime.start(bench.spec("c1", "sleep 1000")).await.unwrap();
    let spec = ExecSpec {
        args: ["sh", "-c", "read line; echo got $line; stty size; tty; exit 5"].map(str::to_owned).to_vec(),
        tty: true,
        stdin: true,
        ..ExecSpec::default()
    };
    let mut session = bench.runtime.exec("c1", spec).await.unwrap();
    session.resize.as_ref().unwrap().set(101, 33);
    session.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    let out = read_all(&mut session.stdout).await;
    assert!(out.contains("got word") && out.contains("33 101") && out.contains("/dev/pts/"), "{out}");
    assert!(session.stderr.is_none());
    assert_eq!(session.exit.await.unwrap(), 5);
    bench.close().await;
}

#[tokio::test]
async fn attach_joins_the_first_process() {
    let bench = Bench::new("attach").await;
    let mut spec = bench.spec("c1", "while read line; do echo got $line; echo err >&2; done; exit 6");
    (spec.stdin, spec.stdin_once) = (true, true);
    bench.runtime.start(spec).await.unwrap();
    let mut session = bench.runtime.attach("c1").await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    // Input must go on when nobody holds the handle for sizes.
    drop(session.resize.take());
    tokio::task::yield_now().await;
    stdin.write_all(b"one\n").await.unwrap();
    let mut first = [0; 8];
    session.stdout.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"got one\n");
    drop(stdin);
    assert_eq!(bench.end("c1").await.code, 6);
    assert_eq!(read_all(&mut session.stderr).await, "err\n");

    let mut spec = bench.spec("c2", "read line; echo $line; stty size; ls -l /dev/console; exit 2");
    (spec.tty, spec.stdin) = (true, true);
    bench.runtime.start(spec).await.unwrap();
    let mut session = bench.runtime.attach("c2").await.unwrap();
    session.resize.as_ref().unwrap().set(77, 11);
    session.stdin.as_mut().unwrap().write_all(b"x\n").await.unwrap();
    let out = read_all(&mut session.stdout).await;
    assert!(out.contains("11 77"), "{out}");
    assert_eq!(bench.end("c2").await.code, 2);
    bench.close().await;
}

#[tokio::test]
async fn too_much_memory_is_told_apart() {
    let bench = Bench::new("oom").await;
    let mut spec = bench.spec("c1", "exec tail /dev/zero");
    spec.limits.memory_bytes = Some(20 << 20);
    let (exit, _) = bench.run(spec).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));
    bench.close().await;
}

#[tokio::test]
async fn containers_outlive_the_agent_and_are_found_again() {
    let bench = Bench::new("restart").await;
    bench.runtime.start(bench.spec("c1", "sleep 1000")).await.unwrap();
    bench.runtime.start(bench.spec("c2", "echo done; exit 9")).await.unwrap();
    bench.end("c2").await;
    // A second runtime on the same directory is what an agent is after `kill -9`: nothing was handed over.
    let again = Runtime::open(bench.options.clone()).await.unwrap();
    assert_eq!(again.pods().len(), 1);
    let State::Running { pid, .. } = again.get("c1").unwrap().state else { panic!("not running") };
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let State::Exited(exit) = again.get("c2").unwrap().state else { panic!("not ended") };
    assert_eq!(exit.code, 9);
    again.kill("c1", 9).await.unwrap();
    assert_eq!(again.wait("c1").await.unwrap().code, 137);
    bench.close().await;
}

#[tokio::test]
async fn a_pod_whose_making_was_interrupted_is_made_again() {
    let bench = Bench::new("half").await;
    // As `kill -9` leaves it right before the namespaces are kept.
    let dir = bench.options.root.join("run/pods/p1");
    let kept = dir.join("ns/ipc");
    rustix::mount::unmount(&kept, rustix::mount::UnmountFlags::DETACH).unwrap();
    std::fs::remove_file(kept).unwrap();
    std::fs::remove_file(dir.join("made")).unwrap();
    let again = Runtime::open(bench.options.clone()).await.unwrap();
    assert!(again.pods().is_empty(), "half a pod counts as one");
    again.create_pod(pod("p1")).await.unwrap();
    again.start(bench.spec("c1", "exit 3")).await.unwrap();
    assert_eq!(again.wait("c1").await.unwrap().code, 3);
    bench.close().await;
}

#[tokio::test]
async fn a_container_whose_helper_is_killed_dies_and_is_reported() {
    let bench = Bench::new("lost").await;
    for (id, reopen) in [("c1", false), ("c2", true)] {
        let started = bench.runtime.start(bench.spec(id, "sleep 1000 & sleep 1000")).await.unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.pid)).unwrap();
        let helper: i32 = stat.split(' ').nth(3).unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        let exit = if reopen {
            let again = Runtime::open(bench.options.clone()).await.unwrap();
            again.wait(id).await.unwrap()
        } else {
            bench.end(id).await
        };
        assert_eq!((exit.code, exit.reason), (137, ExitReason::Lost));
        assert!(!Path::new(&format!("/proc/{}/exe", started.pid)).exists());
    }
    bench.close().await;
}

#[tokio::test]
async fn the_helper_cannot_be_overwritten_through_its_process() {
    let bench = Bench::new("overwrite").await;
    // A copy of its own, since a file that runs anywhere is busy before it is read-only.
    let mut options = bench.options.clone();
    options.exe = bench.path("helper");
    std::fs::copy(helper(), &options.exe).unwrap();
    let runtime = Runtime::open(options).await.unwrap();
    let started = runtime.start(bench.spec("c1", "sleep 1000")).await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.pid)).unwrap();
    let executable = format!("/proc/{}/exe", stat.split(' ').nth(3).unwrap());
    // The attack holds on to the file and waits until it runs no more (CVE-2019-5736).
    let held = rustix::fs::open(executable, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    runtime.remove("c1").await.unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    bench
        .until(|| {
            let error = std::fs::File::options().write(true).open(&path).unwrap_err();
            error.kind() == std::io::ErrorKind::ReadOnlyFilesystem
        })
        .await;
    bench.close().await;
}

#[tokio::test]
async fn a_sweep_leaves_only_what_is_kept() {
    let bench = Bench::new("sweep").await;
    bench.runtime.create_pod(pod("p2")).await.unwrap();
    bench.runtime.start(bench.spec("c1", "sleep 1000")).await.unwrap();
    let mut other = bench.spec("c2", "sleep 1000");
    other.pod_uid = "p2".into();
    let kept = bench.runtime.start(other).await.unwrap();
    bench.runtime.sweep(&HashSet::from(["p2".to_owned()])).await.unwrap();
    assert_eq!(bench.runtime.list().len(), 1);
    assert!(Path::new(&format!("/proc/{}", kept.pid)).exists());
    bench.runtime.sweep(&HashSet::new()).await.unwrap();
    assert!(bench.runtime.list().is_empty() && bench.runtime.pods().is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let run = bench.path("state/run");
    let below: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4)?.strip_prefix(run.to_str()?)?.strip_prefix('/'))
        .collect();
    assert_eq!(below, ["pods"], "{mounts}");
    for kept in ["state/layers", "state/run/containers", "state/run/pods", "state/run/libcontainer"] {
        assert_eq!(std::fs::read_dir(bench.path(kept)).unwrap().count(), 0, "{kept}");
    }
    bench.close().await;
}

#[tokio::test]
async fn no_descriptor_of_the_host_is_open_inside() {
    let bench = Bench::new("fds").await;
    // Made inheritable on purpose: a host that was careless must not matter.
    let careless = std::fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let (_, log) = bench
        .run(
            bench
                .spec("c1", "for f in /proc/self/fd/*; do readlink $f; done | grep -v /proc; ls /proc/$$/fd"),
        )
        .await;
    let fds: Vec<&str> =
        log.iter().filter_map(|l| l.strip_prefix("stdout F ")).filter(|l| l.len() < 4).collect();
    assert!(fds.iter().all(|fd| fd.parse::<u32>().is_ok_and(|n| n <= 3)), "{log:?}");
    assert!(!log.iter().any(|l| l.contains("hostname") || l.contains("socket:")), "{log:?}");
    let mut spec = bench.spec("c2", "ls -l /proc/self/fd | grep -c '^l'");
    spec.args = ["ls", "/proc/self/fd"].map(str::to_owned).to_vec();
    let (_, log) = bench.run(spec).await;
    assert_eq!(log, ["stdout F 0", "stdout F 1", "stdout F 2", "stdout F 3"]);
    bench.runtime.start(bench.spec("c3", "sleep 1000")).await.unwrap();
    let listing =
        ExecSpec { args: ["ls", "/proc/self/fd"].map(str::to_owned).to_vec(), ..ExecSpec::default() };
    let mut session = bench.runtime.exec("c3", listing).await.unwrap();
    assert_eq!(read_all(&mut session.stdout).await, "0\n1\n2\n3\n");
    bench.close().await;
}

#[tokio::test]
async fn the_kernel_is_out_of_reach() {
    let bench = Bench::new("confine").await;
    let script = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; \
        unshare -m true && echo unshared; mount -t tmpfs x /tmp && echo mounted; \
        echo 1 > /proc/sys/kernel/panic && echo wrote; \
        echo 0 > /sys/fs/cgroup/memory/cgroup.procs && echo moved; \
        touch /sys/fs/cgroup/memory/x && echo touched; head -c 1 /proc/kcore | wc -c; ls /sys/firmware | wc -l";
    let (_, log) = bench.run(bench.spec("c1", script)).await;
    let out: Vec<&str> = log.iter().filter_map(|l| l.strip_prefix("stdout F ")).collect();
    assert_eq!(out.len(), 9, "{log:?}");
    assert!(
        out.contains(&"CapInh:\t0000000000000000") && out.contains(&"CapAmb:\t0000000000000000"),
        "{out:?}"
    );
    assert!(
        out.contains(&"CapEff:\t00000000a80425fb") && out.contains(&"CapBnd:\t00000000a80425fb"),
        "{out:?}"
    );
    assert!(out.contains(&"Seccomp:\t2") && out.contains(&"NoNewPrivs:\t0"), "{out:?}");

    let mut spec = bench.spec("c2", "id -u; id -G; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch /x || echo no; echo $HOME; echo hi > /dev/stdout");
    spec.user = User { uid: 1000, gid: 1000, additional_gids: vec![2000] };
    (spec.read_only_rootfs, spec.no_new_privileges) = (true, true);
    let (_, log) = bench.run(spec).await;
    let out: Vec<&str> = log.iter().filter_map(|l| l.strip_prefix("stdout F ")).collect();
    assert_eq!(
        out,
        ["1000", "1000 2000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "no", "/home/app", "hi"],
        "{log:?}"
    );

    let mut spec = bench.spec("c3", "unshare -m true && echo unshared; mount -t tmpfs x /tmp && echo mounted; grep Seccomp: /proc/self/status");
    spec.privileged = true;
    let (_, log) = bench.run(spec).await;
    assert_eq!(log, ["stdout F unshared", "stdout F mounted", "stdout F Seccomp:\t0"]);

    let mut spec = bench.spec("c4", "chroot / true && echo rooted; grep CapEff /proc/self/status");
    spec.capabilities = Capabilities { add: vec![], drop: vec!["ALL".into()] };
    spec.seccomp = Seccomp::Unconfined;
    let (_, log) = bench.run(spec).await;
    assert!(
        log.contains(&"stdout F CapEff:\t0000000000000000".to_owned())
            && !log.iter().any(|l| l.contains("rooted"))
    );
    bench.close().await;
}

#[tokio::test]
async fn mounts_limits_and_surroundings_are_as_asked() {
    let bench = Bench::new("mounts").await;
    std::fs::create_dir(bench.path("data")).unwrap();
    std::fs::write(bench.path("data/file"), "x").unwrap();
    let mut spec = bench.spec("c1",
        "cat /ro/file; touch /ro/y || echo ro; touch /rw/new && echo rw; cat /cfg; pwd; \
         cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; ls /dev/shm; touch /dev/shm/mine; \
         cat /proc/self/oom_score_adj");
    spec.mounts = vec![
        bind(bench.path("data"), "/ro", true),
        bind(bench.path("data"), "/rw", false),
        bind(bench.path("data/file"), "/cfg", true),
        Mount {
            source: Source::Tmpfs(Some(1 << 20)),
            destination: "/scratch".into(),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
            relabel: false,
        },
    ];
    spec.limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        pids: Some(100),
        ..Limits::default()
    };
    spec.cwd = "/work/deep".into();
    spec.oom_score_adj = 500;
    let (_, log) = bench.run(spec).await;
    let out: Vec<&str> = log.iter().filter_map(|l| l.strip_prefix("stdout F ")).collect();
    assert_eq!(out, ["xro", "rw", "x/work/deep", "67108864", "500"], "{log:?}");
    assert!(bench.path("data/new").exists());
    // /dev/shm belongs to the pod, so the next container finds the file.
    let mut spec = bench.spec("c2", "ls /dev/shm; exec sleep 1000");
    spec.oom_score_adj = -999;
    bench.runtime.start(spec).await.unwrap();
    let stats = bench.runtime.stats("c2").unwrap();
    assert!(stats.pids >= 1 && bench.runtime.pod_stats("p1").unwrap().memory_usage_bytes > 0, "{stats:?}");
    bench.until(|| bench.log("c2") == ["stdout F mine"]).await;
    bench.close().await;
}

#[tokio::test]
async fn a_task_on_the_machines_own_root_sees_its_sandbox_and_not_our_state() {
    let bench = Bench::new("host").await;
    let sandbox = bench.path("sandbox/t1");
    let script = format!(
        "pwd; echo hi > out; ls -A {} ; ls /proc | grep -c '^[0-9]'; test -e /usr/bin && echo usr; \
        touch /sys/fs/cgroup/memory/x || echo ro",
        bench.directory.path().display()
    );
    let mut spec = bench.spec("c1", &script);
    spec.rootfs = Rootfs::Host { sandbox: sandbox.clone() };
    let (exit, log) = bench.run(spec).await;
    assert_eq!(exit.code, 0, "{log:?}");
    let out: Vec<&str> = log.iter().filter_map(|l| l.strip_prefix("stdout F ")).collect();
    assert_eq!(out[0], sandbox.to_str().unwrap());
    assert_eq!(out[1], "sandbox", "{log:?}");
    assert!(out[2].parse::<u32>().unwrap() < 6, "{log:?}");
    assert_eq!(&out[3..], ["usr", "ro"]);
    assert_eq!(std::fs::read_to_string(sandbox.join("out")).unwrap(), "hi\n");
    bench.close().await;
}

#[tokio::test]
async fn a_working_directory_behind_a_descriptor_is_refused() {
    let bench = Bench::new("cwd").await;
    for fd in 0..40 {
        let mut spec = bench.spec(&format!("c{fd}"), "pwd");
        spec.cwd = format!("/proc/self/fd/{fd}").into();
        match bench.runtime.start(spec).await {
            Err(Error::Start { .. }) => {}
            Ok(_) => {
                bench.end(&format!("c{fd}")).await;
                let log = bench.log(&format!("c{fd}"));
                assert_eq!(log, ["stdout F /"], "descriptor {fd} led out");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    bench.close().await;
}

#[tokio::test]
async fn a_containers_own_mounts_are_there_and_others_where_asked_for() {
    use rustix::mount::{MountFlags, mount};
    let bench = Bench::new("bypod").await;
    let by_pod = bench.path("by-pod");
    for uid in ["p1", "p2"] {
        let volume = by_pod.join(uid).join("volume");
        std::fs::create_dir_all(&volume).unwrap();
        mount("x", &volume, "tmpfs", MountFlags::empty(), c"").unwrap();
        std::fs::write(volume.join(format!("of-{uid}")), "").unwrap();
    }
    std::os::unix::fs::symlink(by_pod.join("p2"), bench.path("link")).unwrap();
    for (id, source, look, want) in [
        ("own", by_pod.join("p1/volume"), "/m", "of-p1"),
        ("other", by_pod.join("p2/volume"), "/m", "of-p2"),
        ("linked", bench.path("link/volume"), "/m", "of-p2"),
        ("all", by_pod.clone(), "/m/p1/volume /m/p2/volume | grep of", "of-p1 of-p2"),
        ("above", bench.path(""), "/m/by-pod/p1/volume /m/by-pod/p2/volume | grep of", "of-p1 of-p2"),
    ] {
        let mut spec = bench
            .spec(id, &format!("ls {look}; grep -c . /dev/shm/x 2>/dev/null; df /dev/shm | grep -c shm"));
        spec.mounts = vec![bind(&source, "/m", false)];
        let (exit, log) = bench.run(spec).await;
        let out: Vec<&str> = log.iter().filter_map(|l| l.strip_prefix("stdout F ")).collect();
        let (shm, seen) = out.split_last().unwrap();
        assert_eq!((seen.join(" ").as_str(), *shm, exit.code), (want, "1", 0), "{id}: {log:?}");
    }
    bench.close().await;
}

#[tokio::test]
async fn mounts_travel_only_as_far_as_asked() {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    let bench = Bench::new("propagate").await;
    let shared = bench.path("shared");
    for name in ["in", "out"] {
        std::fs::create_dir_all(shared.join(name)).unwrap();
    }
    mount("x", &shared, "tmpfs", MountFlags::empty(), c"").unwrap();
    mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
    for name in ["in", "out"] {
        std::fs::create_dir_all(shared.join(name)).unwrap();
    }
    let script = "mount -t tmpfs y /m/out && touch /m/out/from-inside; echo ready; while ! test -e /m/in/late; do sleep 0.01; done; test -e /n/in/late && echo leaked; true";
    for (id, propagation, arrives, leaves) in [
        ("c1", Propagation::Bidirectional, true, true),
        ("c2", Propagation::HostToContainer, true, false),
        ("c3", Propagation::Private, false, false),
    ] {
        let mut spec = bench.spec(id, script);
        spec.privileged = true;
        // The one beside it asks for nothing, and gets nothing.
        spec.mounts = vec![Mount { propagation, ..bind(&shared, "/m", false) }, bind(&shared, "/n", false)];
        bench.runtime.start(spec).await.unwrap();
        bench.until(|| bench.log(id) == ["stdout F ready"]).await;
        assert_eq!(shared.join("out/from-inside").exists(), leaves, "{propagation:?}");
        mount("z", shared.join("in"), "tmpfs", MountFlags::empty(), c"").unwrap();
        std::fs::write(shared.join("in/late"), "").unwrap();
        if arrives {
            assert_eq!(bench.end(id).await.code, 0);
            assert_eq!(bench.log(id), ["stdout F ready"]);
        } else {
            let look = ExecSpec {
                args: ["test", "-e", "/m/in/late"].map(str::to_owned).to_vec(),
                ..ExecSpec::default()
            };
            assert_eq!(bench.runtime.exec(id, look).await.unwrap().exit.await.unwrap(), 1);
        }
        bench.runtime.remove(id).await.unwrap();
        unmount(shared.join("in"), UnmountFlags::DETACH).unwrap();
        let _ = unmount(shared.join("out"), UnmountFlags::DETACH);
    }
    unmount(&shared, UnmountFlags::DETACH).unwrap();
    bench.close().await;
}

#[tokio::test]
async fn many_short_lives_leave_nothing() {
    let bench = Bench::new("soak").await;
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let children =
        || std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    let mut before = 0;
    for round in 0..6 {
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let (runtime, spec) =
                    (bench.runtime.clone(), bench.spec(&format!("c{round}-{n}"), "echo hi; exec sleep 1000"));
                tokio::spawn(async move {
                    let id = spec.id.clone();
                    runtime.start(spec).await.unwrap();
                    let exec = ExecSpec { args: vec!["true".into()], ..ExecSpec::default() };
                    drop(runtime.exec(&id, exec).await.unwrap());
                    runtime.remove(&id).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // The first round opens what stays open (thread pools and the like).
        if round == 0 {
            bench.until(|| children().is_empty()).await;
            before = open();
        }
    }
    bench.until(|| children().is_empty() && open() <= before + 2).await;
    assert!(bench.runtime.list().is_empty());
    bench.close().await;
}

/// Not a gate: prints what the budget asks for.
#[tokio::test]
async fn starting_is_quick() {
    let bench = Bench::new("speed").await;
    let mut times = Vec::new();
    for n in 0..20 {
        let spec = bench.spec(&format!("c{n}"), "exec sleep 1000");
        let before = tokio::time::Instant::now();
        bench.runtime.start(spec).await.unwrap();
        times.push(before.elapsed());
    }
    times.sort();
    println!("start p50 {:?} p90 {:?}", times[10], times[18]);
    assert!(times[10] < Duration::from_secs(2));
    bench.close().await;
}

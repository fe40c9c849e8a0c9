//! Measures starting containers on this machine: `start [count] [at once]` prints the median and the tail of
//! create → exec'd and of exec, and the helpers' memory. Needs root and busybox; leaves nothing behind.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use stoa_runtime::{
    ContainerSpec, ExecSpec, Limits, Network, Options, PodSpec, Qos, Rootfs, Runtime, Sharing, State, Users,
};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|a| a.to_str()) {
        Some("shim") => stoa_runtime::shim::main(&args[1..]),
        Some("exec-helper") => stoa_runtime::exec::helper_main(&args[1..]),
        Some("pause") => stoa_runtime::pause::main(&args[1..]),
        Some("users") => stoa_runtime::users::main(&args[1..]),
        _ => {
            let number =
                |at: usize, default| args.get(at).and_then(|a| a.to_str()?.parse().ok()).unwrap_or(default);
            measure(number(0, 50), number(1, 1));
            ExitCode::SUCCESS
        }
    }
}

#[tokio::main]
async fn measure(count: usize, at_once: usize) {
    let directory = std::env::temp_dir().join(format!("stoa-start-{}", std::process::id()));
    let layer = directory.join("layer");
    for name in ["bin", "proc", "sys", "dev"] {
        std::fs::create_dir_all(layer.join(name)).expect("make a layer");
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox");
    let options = Options::new(directory.join("state"), format!("stoa-start-{}", std::process::id()));
    let runtime = Runtime::open(options.clone()).await.expect("open");
    let pod = PodSpec {
        uid: "pod".into(),
        hostname: String::new(),
        network: Network::Host,
        ipc: Sharing::Pod,
        pid: Sharing::Container,
        users: Users::Host,
        sysctls: BTreeMap::new(),
        qos: Qos::BestEffort,
        limits: Limits::default(),
        shm_bytes: None,
        selinux: None,
        level: None,
    };
    runtime.create_pod(pod).await.expect("pod");

    let begun = tokio::time::Instant::now();
    let mut starts = Vec::new();
    for batch in 0..count / at_once {
        let tasks: Vec<_> = (0..at_once)
            .map(|n| {
                let (runtime, id) = (runtime.clone(), format!("c{batch}-{n}"));
                let args = ["/bin/busybox", "sleep", "1000"].map(str::to_owned).to_vec();
                let rootfs = Rootfs::Layers { lower: vec![layer.clone()] };
                let spec =
                    ContainerSpec::new(id.clone(), "pod", rootfs, args, directory.join(format!("{id}.log")));
                tokio::spawn(async move {
                    let before = tokio::time::Instant::now();
                    runtime.start(spec).await.expect("start");
                    before.elapsed()
                })
            })
            .collect();
        for task in tasks {
            starts.push(task.await.expect("task"));
        }
    }
    println!("{count} containers, {at_once} at once, {:?} in all", begun.elapsed());
    print("create to exec'd", starts);

    let mut execs = Vec::new();
    for _ in 0..count.min(50) {
        let before = tokio::time::Instant::now();
        let args = ["/bin/busybox", "true"].map(str::to_owned).to_vec();
        let session = runtime.exec("c0-0", ExecSpec { args, ..ExecSpec::default() }).await.expect("exec");
        session.exit.await.expect("exit");
        execs.push(before.elapsed());
    }
    print("exec to exit code", execs);
    print_helper_memory(&runtime);

    let mut ends = Vec::new();
    for container in runtime.list() {
        let before = tokio::time::Instant::now();
        runtime.kill(&container.spec.id, 9).await.expect("kill");
        runtime.wait(&container.spec.id).await.expect("wait");
        ends.push(before.elapsed());
    }
    print("kill to known end", ends);
    let mut removals = Vec::new();
    for container in runtime.list() {
        let before = tokio::time::Instant::now();
        runtime.remove(&container.spec.id).await.expect("remove");
        removals.push(before.elapsed());
    }
    print("removal", removals);
    stoa_runtime::destroy_all(&options).await.expect("take down");
    std::fs::remove_dir_all(&directory).expect("remove");
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!("{what}: p50 {:?}  p90 {:?}  p99 {:?}", at(50), at(90), at(99));
}

/// The helper is the parent of a container's first process.
fn print_helper_memory(runtime: &Runtime) {
    let (mut helpers, mut kilobytes) = (0, 0);
    for container in runtime.list() {
        let State::Running { pid, .. } = container.state else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some(parent) = stat.split(' ').nth(3) else { continue };
        let rollup = std::fs::read_to_string(format!("/proc/{parent}/smaps_rollup")).unwrap_or_default();
        let pss = rollup
            .lines()
            .find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        helpers += 1;
        kilobytes += pss.unwrap_or(0);
    }
    println!("helpers: {helpers}, {} KiB each (PSS)", kilobytes / helpers.max(1));
}

//! Probes. Each runs in a task of its own and speaks up only when its verdict turns: so many successes or failures in a
//! row, as its thresholds say. What follows from a verdict is the worker's business.

use crate::events::Kind;
use crate::grpc::Unhealthy;
use crate::machine::chain;
use crate::observed::Sandbox;
use crate::plan::Turn;
use crate::pod::{self, Part};
use crate::shared::Shared;
use crate::worker::{Nudge, Worker, place};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use stoa_runtime::ExecSpec;
use stoa_units::{dial_words, quote};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What is kept of a probe command's output.
const OUTPUT_LEN_MAX: u64 = 10 * 1024;

/// What is told of an answer that leads away.
const ANSWER_LEN_MAX: usize = 10 * 1024;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Startup,
    Liveness,
    Readiness,
}

impl Which {
    fn word(self) -> &'static str {
        match self {
            Which::Startup => "Startup",
            Which::Liveness => "Liveness",
            Which::Readiness => "Readiness",
        }
    }
}

/// Why a probe did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What was asked said no, or nothing.
    No(String),
    /// Nothing could be asked, which says nothing of the container.
    Unasked(String),
}

impl Fault {
    pub(crate) fn into_words(self) -> String {
        match self {
            Fault::No(words) | Fault::Unasked(words) => words,
        }
    }
}

/// A probe's verdict turned.
#[derive(Clone, Debug)]
pub(crate) struct Probed {
    pub(crate) container: String,
    pub(crate) id: String,
    pub(crate) which: Which,
    pub(crate) success: bool,
}

/// The probes of one running container. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Probing {
    id: String,
    startup: bool,
    tasks: Vec<(Which, AbortHandle)>,
}

impl Probing {
    fn keep_readiness(&mut self) {
        self.tasks.retain(|(which, task)| {
            let kept = *which == Which::Readiness;
            if !kept {
                task.abort();
            }
            kept
        });
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|(_, task)| task.abort());
    }
}

/// Counts in a row. Pure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Streak {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
    verdict: Option<bool>,
}

impl Streak {
    pub(crate) fn new(probe: &Probe) -> Streak {
        let at_least_one = |n: Option<i32>, default: u32| {
            n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
        };
        Streak {
            success_threshold: at_least_one(probe.success_threshold, 1),
            failure_threshold: at_least_one(probe.failure_threshold, 3),
            last: None,
            run: 0,
            verdict: None,
        }
    }

    /// Counts one result; the verdict, where it turned.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run + 1 } else { 1 };
        self.last = Some(success);
        let needed = if success { self.success_threshold } else { self.failure_threshold };
        if self.run < needed || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        Some(success)
    }
}

impl Worker {
    /// The pod's addresses, once it has them.
    pub(crate) fn ips(&self) -> Vec<String> {
        match &self.observed.sandbox {
            Sandbox::Ready { ips } => ips.clone(),
            _ => Vec::new(),
        }
    }

    /// Starts the probes that running containers should have by now, and ends those of a pod that winds down.
    pub(crate) fn update_probes(&mut self) {
        if self.observed.doom.is_some() {
            // A pod on its way out is still asked whether it is ready, but nothing is restarted for it.
            self.probing.values_mut().for_each(Probing::keep_readiness);
            return;
        }
        if !matches!(self.observed.sandbox, Sandbox::Ready { .. }) {
            return;
        }
        let pod = Arc::clone(&self.pod);
        for (part, container) in
            pod::containers(&pod).filter(|(part, _)| matches!(part, Part::Main | Part::Sidecar))
        {
            let Some(seen) = self.observed.seen(&container.name) else { continue };
            // Nobody is asked before its postStart hook has ended.
            let Some(id) = seen.running_id().filter(|_| !seen.hooking) else { continue };
            let startup = !seen.started;
            let known = self.probing.get(&container.name);
            if known.is_some_and(|p| p.id == id && p.startup == startup) {
                continue;
            }
            let probing = self.begin_probes(part, container, id.to_owned(), startup);
            self.probing.insert(container.name.clone(), probing);
        }
    }

    fn begin_probes(&self, part: Part, container: &Container, id: String, startup: bool) -> Probing {
        let wanted = if startup {
            vec![(Which::Startup, &container.startup_probe)]
        } else {
            vec![(Which::Liveness, &container.liveness_probe), (Which::Readiness, &container.readiness_probe)]
        };
        let tasks = wanted
            .into_iter()
            .filter_map(|(which, probe)| Some((which, probe.clone()?)))
            .map(|(which, probe)| {
                let runner = Runner {
                    shared: Arc::clone(&self.shared),
                    pod: Arc::clone(&self.pod),
                    part,
                    container: container.clone(),
                    id: id.clone(),
                    ips: self.ips(),
                    which,
                    probe,
                    nudge: self.nudge.clone(),
                };
                (which, tokio::spawn(runner.run()).abort_handle())
            })
            .collect();
        Probing { id, startup, tasks }
    }

    /// What follows from a verdict.
    pub(crate) fn probed(&mut self, probed: Probed) {
        let Some(seen) = self.observed.containers.get_mut(&probed.container) else { return };
        if seen.running_id() != Some(probed.id.as_str()) {
            return;
        }
        match (probed.which, probed.success) {
            (Which::Startup, true) => seen.started = true,
            (Which::Readiness, ready) => {
                seen.ready = ready;
                // Also of a pod that is being ended it is told whether it can still be asked.
                self.end_said = false;
            }
            (Which::Liveness, true) => {}
            (which @ (Which::Liveness | Which::Startup), false) => {
                let (name, pod) = (probed.container.clone(), Arc::clone(&self.pod));
                let found = pod::find(&pod, &name);
                let container = found.map(|(_, c)| c);
                let probe = container.and_then(|c| match which {
                    Which::Startup => c.startup_probe.as_ref(),
                    _ => c.liveness_probe.as_ref(),
                });
                let own = probe.and_then(|p| p.termination_grace_period_seconds);
                let grace = own.map_or_else(|| pod::grace(&pod), |s| Duration::from_secs(s.max(1) as u64));
                let word = which.word().to_lowercase();
                let message = match found {
                    Some((Part::Sidecar, _)) => format!("Init container {name} failed {word} probe"),
                    _ => format!("Container {name} failed {word} probe, will be restarted"),
                };
                self.observed.seen_mut(&name).recycled = true;
                self.kill(&name, grace, Turn::Now, &message);
            }
        }
    }
}

struct Runner {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    part: Part,
    container: Container,
    id: String,
    ips: Vec<String>,
    which: Which,
    probe: Probe,
    nudge: mpsc::Sender<Nudge>,
}

impl Runner {
    async fn run(self) {
        let seconds = |n: Option<i32>, default: u64| {
            Duration::from_secs(n.and_then(|n| u64::try_from(n).ok()).unwrap_or(default))
        };
        let period = seconds(self.probe.period_seconds.filter(|n| *n > 0), 10);
        let timeout = seconds(self.probe.timeout_seconds.filter(|n| *n > 0), 1);
        tokio::time::sleep(seconds(self.probe.initial_delay_seconds, 0)).await;
        let mut streak = Streak::new(&self.probe);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let begun = self.shared.now();
            let outcome = match tokio::time::timeout(timeout, self.once()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Fault::No(self.timed_out(timeout))),
            };
            let word = self.which.word();
            let told = match &outcome {
                Ok(None) => None,
                Ok(Some(warning)) => Some(("ProbeWarning", format!("{word} probe warning: {warning}"))),
                Err(Fault::No(why)) => Some(("Unhealthy", format!("{word} probe failed: {why}"))),
                Err(Fault::Unasked(why)) => {
                    Some(("Unhealthy", format!("{word} probe errored and resulted in unknown state: {why}")))
                }
            };
            let reference = pod::reference(&self.pod);
            if let Some((reason, message)) = told {
                let at = Some(place(self.part, &self.container.name));
                self.shared.recorder.record(&reference, at, Kind::Warning, reason, message);
            }
            // As nobody was asked, nothing is known that was not before.
            if matches!(outcome, Err(Fault::Unasked(_))) {
                continue;
            }
            let took = outcome.is_ok().then(|| self.shared.now().since(begun));
            self.shared.probes.count(&reference, &self.container.name, word, took);
            if let Some(success) = streak.count(outcome.is_ok()) {
                let probed = Probed {
                    container: self.container.name.clone(),
                    id: self.id.clone(),
                    which: self.which,
                    success,
                };
                // What ends for this is not asked again; its next life is, by another.
                let ends = !success && self.which != Which::Readiness;
                if self.nudge.send(Nudge::Probed(probed)).await.is_err() || ends {
                    return;
                }
            }
        }
    }

    fn timed_out(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs();
        let at = |host: Option<&str>, port: &IntOrString| {
            let port = port_number(Some(&self.container), port).unwrap_or(0);
            format!("{}:{port}", target(host, &self.ips))
        };
        if let Some(exec) = &self.probe.exec {
            let words = quote(&exec.command.as_deref().unwrap_or_default().join(" "));
            return format!("command timed out: {words} timed out after {seconds}s");
        }
        if let Some(http) = &self.probe.http_get {
            let scheme = http.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
            let (at, path) = (at(http.host.as_deref(), &http.port), path_of(http));
            return format!(
                "Get \"{scheme}://{at}{path}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            );
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            return format!("dial tcp {}: i/o timeout", at(tcp.host.as_deref(), &tcp.port));
        }
        format!("timeout: health rpc did not complete within {seconds}s")
    }

    /// Asks once; what comes with a success is a warning.
    async fn once(&self) -> Result<Option<String>, Fault> {
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let output = exec_output(&self.shared, &self.id, command).await.map_err(Fault::Unasked)?;
            return if output.code == 0 { Ok(None) } else { Err(Fault::No(output.stdout + &output.stderr)) };
        }
        if let Some(http) = &self.probe.http_get {
            return http_get(Some(&self.container), &self.ips, http).await;
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let port = port_number(Some(&self.container), &tcp.port)?;
            return dial(target(tcp.host.as_deref(), &self.ips), port).await.map(|_| None).map_err(Fault::No);
        }
        if let Some(grpc) = &self.probe.grpc {
            let port = u16::try_from(grpc.port);
            let port = port.map_err(|_| Fault::Unasked(format!("invalid port number: {}", grpc.port)))?;
            let host = target(None, &self.ips);
            let connected = dial(host, port).await;
            let within = self.probe.timeout_seconds.filter(|n| *n > 0).unwrap_or(1);
            let unconnected = |why: String| {
                tracing::debug!(container = %self.container.name, %why, "a gRPC probe does not connect");
                Fault::No(format!(
                    "timeout: failed to connect service \"{host}:{port}\" within {within}s: context deadline exceeded"
                ))
            };
            let stream = connected.map_err(unconnected)?;
            let service = grpc.service.as_deref().unwrap_or_default();
            let checked = crate::grpc::check(stream, &format!("{host}:{port}"), service).await;
            return checked.map(|()| None).map_err(|unhealthy| match unhealthy {
                Unhealthy::NoConnection(why) => unconnected(why),
                Unhealthy::Said(words) => Fault::No(words),
            });
        }
        let pod = pod::long_name(&pod::reference(&self.pod));
        Err(Fault::Unasked(format!("missing probe handler for {pod}:{}", self.container.name)))
    }
}

/// Kills a command when dropped, unless it was let off.
struct Leash(Option<Box<dyn Fn() + Send + Sync>>);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(kill) = &self.0 {
            kill();
        }
    }
}

/// How a command ended, and the beginning of what it said.
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command in a container.
pub(crate) async fn exec_output(shared: &Shared, id: &str, args: Vec<String>) -> Result<Output, String> {
    let spec = ExecSpec { args, ..ExecSpec::default() };
    let session = shared.machine.exec(id, spec).await.map_err(|e| chain(&e))?;
    // A caller that gives up (a probe's timeout) must not leave its command behind.
    let mut leash = Leash(Some(Box::new(session.killer())));
    let (mut out, mut err) = (session.stdout, session.stderr);
    let read_err = async {
        let mut text = Vec::new();
        if let Some(err) = err.as_mut() {
            let _ = err.take(OUTPUT_LEN_MAX).read_to_end(&mut text).await;
            let _ = tokio::io::copy(err, &mut tokio::io::sink()).await;
        }
        text
    };
    let read_out = async {
        let mut text = Vec::new();
        let _ = (&mut out).take(OUTPUT_LEN_MAX).read_to_end(&mut text).await;
        let _ = tokio::io::copy(&mut out, &mut tokio::io::sink()).await;
        text
    };
    let (stdout, stderr, code) = tokio::join!(read_out, read_err, session.exit);
    leash.0 = None;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { code: code.map_err(|e| chain(&e))?, stdout: text(stdout), stderr: text(stderr) })
}

fn target<'a>(host: Option<&'a str>, ips: &'a [String]) -> &'a str {
    host.filter(|h| !h.is_empty()).or(ips.first().map(String::as_str)).unwrap_or("127.0.0.1")
}

fn port_number(container: Option<&Container>, port: &IntOrString) -> Result<u16, Fault> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => {
            let named = container
                .and_then(|c| c.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name)))
                .map(|p| p.container_port);
            // A number may be written as a text; what is none is told of in a kubelet's words.
            let unknown = || format!("strconv.Atoi: parsing {}: invalid syntax", quote(name));
            named.or_else(|| name.parse().ok()).ok_or_else(|| Fault::Unasked(unknown()))?
        }
    };
    let valid = u16::try_from(number).ok().filter(|n| *n > 0);
    valid.ok_or_else(|| Fault::Unasked(format!("invalid port number: {number}")))
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let failed = |e: std::io::Error| format!("dial tcp {host}:{port}: {}", dial_words(&e));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_err() {
        // Whoever has no such name says so in words of its own; a kubelet's also name the server that was asked.
        let found = tokio::net::lookup_host((host, port)).await;
        if found.is_err() {
            let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let mut servers = conf.lines().filter_map(|l| l.trim().strip_prefix("nameserver "));
            let server = servers.next().unwrap_or("127.0.0.1").trim();
            return Err(format!("dial tcp: lookup {host} on {server}:53: no such host"));
        }
    }
    TcpStream::connect((host, port)).await.map_err(failed)
}

/// A GET whose answer must be 2xx, or lead away from the host, which is worth a warning; what leads elsewhere on the host is
/// followed.
pub(crate) async fn http_get(
    container: Option<&Container>,
    ips: &[String],
    action: &HTTPGetAction,
) -> Result<Option<String>, Fault> {
    let port = port_number(container, &action.port)?;
    let host = target(action.host.as_deref(), ips);
    let path = path_of(action);
    let secure = action.scheme.as_deref() == Some("HTTPS");
    let scheme = if secure { "https" } else { "http" };
    let first = format!("{scheme}://{host}:{port}{path}");
    let mut at = first.parse::<http::Uri>().map_err(|e| Fault::Unasked(format!("Get \"{first}\": {e}")))?;
    for _ in 0..=REDIRECTS_MAX {
        let (status, location, body) = get_once(&at, action).await.map_err(Fault::No)?;
        match status.as_u16() {
            300..400 => match location.as_deref().and_then(|to| local_redirect(&at, to)) {
                Some(next) => at = next,
                // What another machine says is no matter of this container's.
                None => return Ok(Some(format!("Probe terminated redirects, Response body: {body}"))),
            },
            200..300 => return Ok(None),
            code => return Err(Fault::No(format!("HTTP probe failed with statuscode: {code}"))),
        }
    }
    Err(Fault::No(format!("Get \"{at}\": stopped after {REDIRECTS_MAX} redirects")))
}

/// Where a redirect leads, if that is the same host.
fn local_redirect(from: &http::Uri, to: &str) -> Option<http::Uri> {
    // A word alone would be read as a host.
    if !to.contains("//") {
        let mut parts = from.clone().into_parts();
        // A path without a slash is beside the last one.
        let beside = from.path().rsplit_once('/').map_or("", |(dir, _)| dir);
        let path = if to.starts_with('/') { to.to_owned() } else { format!("{beside}/{to}") };
        parts.path_and_query = Some(path.parse().ok()?);
        return http::Uri::from_parts(parts).ok();
    }
    let next: http::Uri = to.parse().ok()?;
    (next.host() == from.host() && matches!(next.scheme_str(), Some("http" | "https"))).then_some(next)
}

fn path_of(action: &HTTPGetAction) -> String {
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A status, where the answer leads, and if it does what it says.
type Got = (http::StatusCode, Option<String>, String);

/// One request.
async fn get_once(uri: &http::Uri, action: &HTTPGetAction) -> Result<Got, String> {
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = http::Request::get(path).header(http::header::ACCEPT, "*/*");
    let given = |name: &str| action.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    if !given("host") {
        request = request.header(http::header::HOST, format!("{host}:{port}"));
    }
    if !given("user-agent") {
        request = request.header(http::header::USER_AGENT, "kube-probe/1.36");
    }
    for header in action.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let wrap = |e: String| format!("Get \"{uri}\": {e}");
    let stream = dial(host, port).await.map_err(wrap)?;
    let answer = if secure {
        let stream = crate::tls::connect_unverified(stream, host).await.map_err(wrap)?;
        send(TokioIo::new(stream), request).await
    } else {
        send(TokioIo::new(stream), request).await
    };
    answer.map_err(wrap)
}

async fn send<S>(io: S, request: http::Request<Empty<Bytes>>) -> Result<Got, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let read = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let location = answer.headers().get(http::header::LOCATION).and_then(|v| v.to_str().ok());
        let location = location.map(str::to_owned);
        let mut text = Vec::new();
        let mut body = answer.into_body();
        while status.is_redirection()
            && text.len() < ANSWER_LEN_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
        text.truncate(ANSWER_LEN_MAX);
        Ok((status, location, String::from_utf8_lossy(&text).into_owned()))
    };
    let got = read.await;
    driver.abort();
    got
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_turns_only_after_its_threshold_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut streak = Streak::new(&probe);
        let verdicts: Vec<Option<bool>> =
            [true, false, true, true, true, false, false, true, false, false, false, false]
                .into_iter()
                .map(|ok| streak.count(ok))
                .collect();
        let mut want = [None; 12];
        want[3] = Some(true);
        want[10] = Some(false);
        assert_eq!(verdicts, want);
    }

    #[test]
    fn only_redirects_of_the_host_itself_are_followed() {
        let from: http::Uri = "http://10.0.0.2:80/a/b".parse().unwrap();
        for (to, want) in [
            ("/healthz?x=1", Some("http://10.0.0.2:80/healthz?x=1")),
            ("c", Some("http://10.0.0.2:80/a/c")),
            ("http://10.0.0.2:81/d", Some("http://10.0.0.2:81/d")),
            ("http://0.0.0.0/", None),
            ("http://10.0.0.2.example/", None),
        ] {
            assert_eq!(local_redirect(&from, to).map(|u| u.to_string()).as_deref(), want, "{to}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_leads_away_is_a_success_with_a_warning() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://0.0.0.0/\r\ncontent-length: 4\r\n\r\ngone";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        });
        let action: HTTPGetAction =
            serde_json::from_value(serde_json::json!({"host": "127.0.0.1", "port": port})).unwrap();
        let warning = "Probe terminated redirects, Response body: gone".to_owned();
        assert_eq!(http_get(None, &[], &action).await, Ok(Some(warning)));
    }

    #[test]
    fn ports_are_found_by_name() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}]}),
        )
        .unwrap();
        let by_name = |n: &str| port_number(Some(&container), &IntOrString::String(n.to_owned()));
        assert_eq!(by_name("web"), Ok(80));
        assert_eq!(by_name("8080"), Ok(8080));
        let unasked = |words: &str| Err(Fault::Unasked(words.to_owned()));
        assert_eq!(by_name("no"), unasked("strconv.Atoi: parsing \"no\": invalid syntax"));
        assert_eq!(port_number(None, &IntOrString::Int(70_000)), unasked("invalid port number: 70000"));
    }
}

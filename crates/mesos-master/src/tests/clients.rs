//! Real clients over real sockets, with an agent that runs nothing and says that all went well.

use super::fixture::*;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Plays the agent for every task: it runs, ends when its command says so, and goes when it is deleted.
async fn play_agent(w: Arc<World>) {
    loop {
        for pod in w.pods() {
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            let command = pod["spec"]["containers"][0]["command"][2].as_str().unwrap_or_default();
            if pod["metadata"]["deletionTimestamp"].is_string() {
                w.finish_deletion(&pod).await;
            } else if phase != "Running" && phase != "Succeeded" {
                let state = json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}});
                w.report(&pod, status("Running", state)).await;
            } else if phase == "Running" && !command.contains("sleep") {
                let state = json!({"terminated": {"exitCode": 0, "reason": "Completed",
                    "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}});
                w.report(&pod, status("Succeeded", state)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn serve(address: &str) -> (Arc<World>, String) {
    let w = Arc::new(World::new(options()).await);
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(w.master.clone().run_server(listener));
    tokio::spawn(play_agent(w.clone()));
    (w, address)
}

#[tokio::test]
async fn the_batch_example_runs_its_tasks_to_the_end() {
    let (w, address) = serve("127.0.0.1:0").await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/batch/batch.py");
    let mut command = Command::new("python3");
    command.arg(script).args(["--master", &address, "--tasks", "5", "--command", "true", "--timeout", "60"]);
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.ends_with("5 of 5 tasks finished\n"), "{text}{errors}");
    assert_eq!(errors, "");
    let frameworks = w.get_json("/frameworks").await;
    let done: Vec<&Value> =
        frameworks["completed_frameworks"][0]["completed_tasks"].as_array().unwrap().iter().collect();
    assert_eq!(done.len(), 5);
    assert!(done.iter().all(|t| t["state"] == "TASK_FINISHED"), "{done:?}");
}

/// For trying out clients by hand: serves on the address in `STOA_SERVE` until killed.
#[tokio::test]
#[ignore = "serves until it is killed"]
async fn serve_for_clients() {
    let address = std::env::var("STOA_SERVE").unwrap_or_else(|_| "127.0.0.1:5050".into());
    let (_w, _address) = serve(&address).await;
    std::future::pending::<()>().await;
}

//! `stoa`: the command line and the wiring, nothing else. A container's helpers are this same program, started again
//! with a hidden first word; they are told apart before any thread or runtime exists.

mod admission;
mod authentication;
mod cli;
mod client;
mod cluster;
mod down;
mod idle;
mod image;
mod join;
mod logging;
mod master;
mod printer;
mod reference;
mod routes;
mod serve;
mod status;
mod token;

use anyhow::{Context, Result};
use clap::CommandFactory;
use cli::{Cli, Command, Flags};
use serde::Serialize;
use std::ffi::OsString;
use std::process::ExitCode;

/// Objects are made of many small pieces, allocated on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|a| a.to_str()) {
        Some("shim") => return stoa_runtime::shim::main(&args[2..]),
        Some("exec-helper") => return stoa_runtime::exec::helper_main(&args[2..]),
        Some("pause") => return stoa_runtime::pause::main(&args[2..]),
        Some("users") => return stoa_runtime::users::main(&args[2..]),
        _ => {}
    }
    let (cli, flags) = cli::parse(args).unwrap_or_else(|e| e.exit());
    match run(cli.command, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            report(&e);
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, each cause on its own line.
fn report(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

fn run(command: Command, flags: Flags) -> Result<()> {
    match command {
        Command::Up(options) => block_on(serve::up(options, flags)),
        Command::Master(options) => block_on(serve::master(options, flags)),
        Command::Agent(options) => block_on(serve::agent(options)),
        Command::Down(options) => block_on(down::run(options)),
        Command::Token(command) => block_on(token::run(command)),
        Command::Status(options) => block_on(status::run(options)),
        Command::Image(command) => image::run(command),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "stoa", &mut std::io::stdout());
            Ok(())
        }
        Command::Version(output) => version(output.output),
        Command::Reference { page } => {
            print!("{}", reference::render(page));
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct Version {
    stoa: &'static str,
    kubernetes: &'static str,
    mesos: &'static str,
}

fn version(format: cli::Format) -> Result<()> {
    let version = Version { stoa: env!("CARGO_PKG_VERSION"), kubernetes: "v1.36", mesos: "1.11.0" };
    printer::print(format, &version, |v| {
        format!("stoa {} (Kubernetes API {}, Mesos API {})\n", v.stoa, v.kubernetes, v.mesos)
    })
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    // One provider of cryptography for the whole process; a second call only says that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    logging::init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

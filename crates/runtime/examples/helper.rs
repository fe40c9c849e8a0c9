//! The smallest program that can play the runtime's helper; what the tests start in place of the real binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|a| a.to_str()) {
        Some("shim") => stoa_runtime::shim::main(&args[1..]),
        Some("exec-helper") => stoa_runtime::exec::helper_main(&args[1..]),
        Some("pause") => stoa_runtime::pause::main(&args[1..]),
        Some("users") => stoa_runtime::users::main(&args[1..]),
        _ => ExitCode::from(2),
    }
}

//! Profiles in the JSON form of container engines (`defaultAction`, `syscalls: [{names, action, args}]`).

use nix::libc;
use serde::Deserialize;

use super::table::number;
use super::{Rule, Test, errno};
use crate::error::Error;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

fn invalid(why: impl Into<String>) -> Error {
    Error::Invalid { what: "seccomp profile", why: why.into() }
}

fn action(name: &str, code: Option<u32>) -> Result<u32, Error> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO" => errno(code.unwrap_or(libc::EPERM as u32) as i32),
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | (code.unwrap_or(libc::EPERM as u32) & 0xffff),
        other => return Err(invalid(format!("unsupported action `{other}`"))),
    })
}

impl Argument {
    fn test(&self) -> Result<(u8, Test), Error> {
        if self.index > 5 {
            return Err(invalid(format!("argument index {} is above 5", self.index)));
        }
        let test = match self.op.as_str() {
            "SCMP_CMP_EQ" => Test::Equal(self.value),
            "SCMP_CMP_NE" => Test::NotEqual(self.value),
            "SCMP_CMP_LT" => Test::Less(self.value),
            "SCMP_CMP_LE" => Test::LessOrEqual(self.value),
            "SCMP_CMP_GT" => Test::Greater(self.value),
            "SCMP_CMP_GE" => Test::GreaterOrEqual(self.value),
            "SCMP_CMP_MASKED_EQ" => Test::Masked { mask: self.value, value: self.value_two },
            other => return Err(invalid(format!("unsupported comparison `{other}`"))),
        };
        Ok((self.index, test))
    }
}

/// The rules and what happens to every other call. Names of calls that this machine does not have are passed over,
/// as engines do: profiles list those of all architectures.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<Rule>, u32), Error> {
    let profile: Profile = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let mut rules = Vec::new();
    for entry in &profile.syscalls {
        let action = action(&entry.action, entry.errno_ret)?;
        let tests = entry.args.iter().map(Argument::test).collect::<Result<Vec<_>, _>>()?;
        for number in entry.names.iter().filter_map(|name| number(name)) {
            rules.push(Rule { number, tests: tests.clone(), action });
        }
    }
    // libseccomp's order: a rule with conditions goes before one without, whatever the file's order.
    rules.sort_by_key(|rule| rule.tests.is_empty());
    Ok((rules, action(&profile.default_action, profile.default_errno_ret)?))
}

//! System call filters: the engines' default list and their JSON profiles, compiled to a BPF program and loaded by the
//! process itself just before its exec. The OCI library can only do this through the C library libseccomp, so it is
//! done here.

mod default;
mod profile;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::capability::Set;
use crate::error::Error;
use crate::spec::Seccomp;

/// The kernel takes at most this many instructions.
const PROGRAM_LEN_MAX: usize = 4_096;

const RET_ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const RET_ERRNO: u32 = libc::SECCOMP_RET_ERRNO;

/// `ret errno`.
const fn errno(code: i32) -> u32 {
    RET_ERRNO | (code as u32 & 0xffff)
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Masked { mask: u64, value: u64 },
}

/// What happens to one system call when all its tests hold. The first rule that fits decides.
#[derive(Clone, Debug)]
struct Rule {
    number: i64,
    tests: Vec<(u8, Test)>,
    action: u32,
}

/// One BPF instruction: code, jump if true, jump if false, operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instruction(u16, u8, u8, u32);

/// A compiled filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Program(Vec<Instruction>);

/// Compiles what a container asks for; `None` lets everything through.
pub(crate) fn compile(
    asked: &Seccomp,
    privileged: bool,
    capabilities: Set,
) -> Result<Option<Program>, Error> {
    if privileged {
        return Ok(None);
    }
    match asked {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => assemble(&default::rules(capabilities), errno(libc::EPERM)).map(Some),
        Seccomp::Localhost(path) => load(path).map(Some),
    }
}

fn load(path: &Path) -> Result<Program, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read seccomp profile", path))?;
    let (rules, otherwise) = profile::parse(&bytes)?;
    assemble(&rules, otherwise)
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Marks a jump that leaves the rule; resolved once the rule's length is known.
const FAIL: u8 = u8::MAX;

fn assemble(rules: &[Rule], otherwise: u32) -> Result<Program, Error> {
    let mut code = vec![
        Instruction(LOAD, 0, 0, OFFSET_ARCHITECTURE),
        Instruction(EQUAL, 1, 0, ARCHITECTURE),
        // A foreign ABI would run numbers that mean something else: to it no call exists.
        Instruction(RETURN, 0, 0, errno(libc::ENOSYS)),
        Instruction(LOAD, 0, 0, OFFSET_NUMBER),
    ];
    if cfg!(target_arch = "x86_64") {
        // x32 calls carry bit 30.
        code.push(Instruction(GREATER_OR_EQUAL, 0, 1, 0x4000_0000));
        code.push(Instruction(RETURN, 0, 0, errno(libc::ENOSYS)));
    }
    if otherwise & libc::SECCOMP_RET_ACTION_FULL == RET_ERRNO {
        // A call younger than this list: its absence is something programs know how to live with, a refusal is not.
        code.push(Instruction(GREATER, 0, 1, table::NUMBER_MAX));
        code.push(Instruction(RETURN, 0, 0, errno(libc::ENOSYS)));
    }
    for rule in rules {
        let mut block: Vec<Instruction> = Vec::new();
        for (argument, test) in &rule.tests {
            test.emit(OFFSET_ARGUMENTS + 8 * u32::from(*argument), &mut block);
        }
        block.push(Instruction(RETURN, 0, 0, rule.action));
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            let out = (length - at - 1) as u8;
            if instruction.1 == FAIL {
                instruction.1 = out;
            }
            if instruction.2 == FAIL {
                instruction.2 = out;
            }
        }
        // Tests clobber the accumulator, so the number is loaded again behind them.
        if !rule.tests.is_empty() {
            block.push(Instruction(LOAD, 0, 0, OFFSET_NUMBER));
        }
        code.push(Instruction(EQUAL, 0, length as u8, rule.number as u32));
        code.append(&mut block);
    }
    code.push(Instruction(RETURN, 0, 0, otherwise));
    if code.len() > PROGRAM_LEN_MAX {
        return Err(Error::Invalid {
            what: "seccomp profile",
            why: format!("it needs {} instructions, the kernel takes {PROGRAM_LEN_MAX}", code.len()),
        });
    }
    Ok(Program(code))
}

impl Test {
    fn emit(self, low: u32, code: &mut Vec<Instruction>) {
        // Little-endian on every machine we build for.
        let high = low + 4;
        let halves = |v: u64| ((v >> 32) as u32, v as u32);
        match self {
            Test::Equal(value) => {
                let (h, l) = halves(value);
                code.extend([
                    Instruction(LOAD, 0, 0, high),
                    Instruction(EQUAL, 0, FAIL, h),
                    Instruction(LOAD, 0, 0, low),
                    Instruction(EQUAL, 0, FAIL, l),
                ]);
            }
            Test::NotEqual(value) => {
                let (h, l) = halves(value);
                code.extend([
                    Instruction(LOAD, 0, 0, high),
                    Instruction(EQUAL, 0, 2, h),
                    Instruction(LOAD, 0, 0, low),
                    Instruction(EQUAL, FAIL, 0, l),
                ]);
            }
            Test::Masked { mask, value } => {
                let ((mh, ml), (h, l)) = (halves(mask), halves(value));
                code.extend([
                    Instruction(LOAD, 0, 0, high),
                    Instruction(AND, 0, 0, mh),
                    Instruction(EQUAL, 0, FAIL, h),
                    Instruction(LOAD, 0, 0, low),
                    Instruction(AND, 0, 0, ml),
                    Instruction(EQUAL, 0, FAIL, l),
                ]);
            }
            Test::Greater(value) | Test::GreaterOrEqual(value) => {
                let (h, l) = halves(value);
                let last = if matches!(self, Test::Greater(_)) { GREATER } else { GREATER_OR_EQUAL };
                code.extend([
                    Instruction(LOAD, 0, 0, high),
                    Instruction(GREATER, 3, 0, h),
                    Instruction(EQUAL, 0, FAIL, h),
                    Instruction(LOAD, 0, 0, low),
                    Instruction(last, 0, FAIL, l),
                ]);
            }
            Test::Less(value) | Test::LessOrEqual(value) => {
                let (h, l) = halves(value);
                let last = if matches!(self, Test::Less(_)) { GREATER_OR_EQUAL } else { GREATER };
                code.extend([
                    Instruction(LOAD, 0, 0, high),
                    Instruction(GREATER_OR_EQUAL, 0, 3, h),
                    Instruction(EQUAL, 0, FAIL, h),
                    Instruction(LOAD, 0, 0, low),
                    Instruction(last, FAIL, 0, l),
                ]);
            }
        }
    }
}

impl Program {
    /// Loads the filter into the calling thread, for good. Needs CAP_SYS_ADMIN or no-new-privileges.
    pub(crate) fn install(&self) -> io::Result<()> {
        let filters: Vec<libc::sock_filter> =
            self.0.iter().map(|i| libc::sock_filter { code: i.0, jt: i.1, jf: i.2, k: i.3 }).collect();
        let program = libc::sock_fprog { len: filters.len() as u16, filter: filters.as_ptr().cast_mut() };
        // SAFETY: `program` points to `filters`, which outlives the call; the kernel only reads it.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

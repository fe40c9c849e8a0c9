//! The compiled program is run by a small interpreter, so that what the kernel will decide is checked without it.

use super::*;

fn run(program: &Program, number: i64, args: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        OFFSET_NUMBER => number as u32,
        OFFSET_ARCHITECTURE => ARCHITECTURE,
        _ => {
            let at = (offset - OFFSET_ARGUMENTS) as usize;
            (args[at / 8] >> (8 * (at % 8))) as u32
        }
    };
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let Instruction(code, yes, no, operand) = program.0[at];
        at += 1;
        let mut jump = |condition: bool| at += usize::from(if condition { yes } else { no });
        match code {
            LOAD => accumulator = load(operand),
            AND => accumulator &= operand,
            EQUAL => jump(accumulator == operand),
            GREATER => jump(accumulator > operand),
            GREATER_OR_EQUAL => jump(accumulator >= operand),
            RETURN => return operand,
            other => panic!("unknown instruction {other}"),
        }
    }
}

fn of(rules: &[Rule]) -> Program {
    assemble(rules, errno(libc::EPERM)).unwrap()
}

const DENIED: u32 = errno(libc::EPERM);

#[test]
fn the_default_lets_programs_run_and_keeps_the_kernel_shut() {
    let program = compile(&Seccomp::RuntimeDefault, false, Set(0)).unwrap().unwrap();
    for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_capset, libc::SYS_futex, libc::SYS_openat] {
        assert_eq!(run(&program, number, [0; 6]), RET_ALLOW, "{number}");
    }
    for number in [libc::SYS_keyctl, libc::SYS_mount, libc::SYS_unshare, libc::SYS_bpf, libc::SYS_init_module]
    {
        assert_eq!(run(&program, number, [0; 6]), DENIED, "{number}");
    }
    assert_eq!(run(&program, libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), DENIED);
    assert_eq!(run(&program, libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), RET_ALLOW);
    assert_eq!(run(&program, libc::SYS_clone3, [0; 6]), errno(libc::ENOSYS));
    assert_eq!(run(&program, libc::SYS_socket, [40, 0, 0, 0, 0, 0]), DENIED);
    assert_eq!(run(&program, libc::SYS_personality, [0x8, 0, 0, 0, 0, 0]), RET_ALLOW);
    assert_eq!(run(&program, libc::SYS_personality, [0x40_0000, 0, 0, 0, 0, 0]), DENIED);
    assert_eq!(run(&program, 454, [0; 6]), RET_ALLOW);
    assert_eq!(run(&program, 600, [0; 6]), errno(libc::ENOSYS));
    assert_eq!(run(&program, 0x4000_0000, [0; 6]), errno(libc::ENOSYS));
}

#[test]
fn a_capability_opens_its_door() {
    let program = compile(&Seccomp::RuntimeDefault, false, Set(0).with(21)).unwrap().unwrap();
    assert_eq!(run(&program, libc::SYS_mount, [0; 6]), RET_ALLOW);
    assert_eq!(run(&program, libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), RET_ALLOW);
}

#[test]
fn every_comparison_holds_over_both_halves() {
    type Case = (Test, fn(u64) -> bool);
    let pivot = 0x1_0000_0005u64;
    let cases: [Case; 7] = [
        (Test::Equal(pivot), |v| v == 0x1_0000_0005),
        (Test::NotEqual(pivot), |v| v != 0x1_0000_0005),
        (Test::Less(pivot), |v| v < 0x1_0000_0005),
        (Test::LessOrEqual(pivot), |v| v <= 0x1_0000_0005),
        (Test::Greater(pivot), |v| v > 0x1_0000_0005),
        (Test::GreaterOrEqual(pivot), |v| v >= 0x1_0000_0005),
        (Test::Masked { mask: 0x1_0000_0001, value: 0x1_0000_0001 }, |v| v & 0x1_0000_0001 == 0x1_0000_0001),
    ];
    for (test, expected) in cases {
        let program = of(&[Rule { number: 7, tests: vec![(3, test)], action: RET_ALLOW }]);
        for value in [0, 4, 5, 6, pivot - 1, pivot, pivot + 1, 0x2_0000_0000, u64::MAX, 0x1_0000_0000] {
            let got = run(&program, 7, [0, 0, 0, value, 0, 0]) == RET_ALLOW;
            assert_eq!(got, expected(value), "{test:?} on {value:#x}");
        }
    }
}

#[test]
fn a_rule_that_does_not_fit_leaves_the_next_its_chance() {
    let program = of(&[
        Rule { number: 7, tests: vec![(0, Test::Equal(1))], action: errno(libc::ENOENT) },
        Rule { number: 7, tests: vec![(0, Test::Equal(2))], action: RET_ALLOW },
        Rule { number: 8, tests: vec![], action: RET_ALLOW },
    ]);
    assert_eq!(run(&program, 7, [1, 0, 0, 0, 0, 0]), errno(libc::ENOENT));
    assert_eq!(run(&program, 7, [2, 0, 0, 0, 0, 0]), RET_ALLOW);
    assert_eq!(run(&program, 7, [3, 0, 0, 0, 0, 0]), DENIED);
    assert_eq!(run(&program, 8, [0; 6]), RET_ALLOW);
}

#[test]
fn a_profile_file_is_understood() {
    let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["mkdirat","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
                    {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]}]}"#;
    let (rules, otherwise) = profile::parse(text).unwrap();
    let program = assemble(&rules, otherwise).unwrap();
    assert_eq!(run(&program, libc::SYS_mkdirat, [0; 6]), errno(13));
    assert_eq!(run(&program, libc::SYS_kill, [1, 9, 0, 0, 0, 0]), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(run(&program, libc::SYS_kill, [1, 15, 0, 0, 0, 0]), RET_ALLOW);
    assert!(profile::parse(br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).is_err());
}

#!/usr/bin/env bash
# `make bench`: every figure of the README, one after the other, so that they do not share the cores.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p stoa -p stoa-bench
mkdir -p .stoa/bench
target/release/stoa-bench target/release/stoa .stoa/bench "$@"
[ $# -gt 0 ] && exit 0
for example in sched:sched_bench offers:offers_bench mesos-master:master_bench; do
  crate=${example%%:*} name=${example##*:}
  [ -e "crates/$crate/examples/$name.rs" ] || continue
  printf '\n== %s\n' "$name"
  cargo run -q --release --locked -p "stoa-$crate" --example "$name"
done

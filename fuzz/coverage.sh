#!/usr/bin/env bash
# What the seeds, the regressions and a corpus reach of the format and of the protocol: lines, regions, branches.
#
#   fuzz/coverage.sh                 with fuzz/corpus, where `fuzz/long.sh` and `cargo fuzz run` leave what they find
#   fuzz/coverage.sh /some/corpus    with another one: a folder for each target
#
# Needs the nightly toolchain with its llvm-tools (rustup component add llvm-tools --toolchain nightly). Prints a table, and the
# lines and branches that are not reached; the whole report is fuzz/coverage/show.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

corpus=$(realpath -m "${1:-fuzz/corpus}")
tools=$(rustc +nightly --print sysroot)/lib/rustlib/$(rustc +nightly -vV | sed -n 's/^host: //p')/bin
if [ ! -x "$tools/llvm-cov" ]; then
  echo "there is no $tools/llvm-cov: rustup component add llvm-tools --toolchain nightly" >&2
  exit 2
fi
out=fuzz/coverage
mkdir -p "$out"
rm -f "$out"/*.profraw

# As the fuzzer builds it, but for the sanitizer. The targets are a library, so one test binary has them all.
export RUSTFLAGS="-Cinstrument-coverage -Zcoverage-options=branch --cfg fuzzing"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/fuzz/target}/coverage
# What is built with it and runs while it is built leaves no account.
binary=$(LLVM_PROFILE_FILE=/dev/null cargo +nightly test --manifest-path fuzz/Cargo.toml --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable .*(\(.*\))$/\1/p')
LLVM_PROFILE_FILE=$PWD/$out/%p.profraw SHMCAST_CORPUS=$corpus "$binary" every_
"$tools/llvm-profdata" merge -sparse "$out"/*.profraw -o "$out/all.profdata"

cov() { "$tools/llvm-cov" "$1" "$binary" -instr-profile="$out/all.profdata" "${@:2}" src/layout.rs src/layout src/ring; }
cov show -show-branches=count -show-line-counts >"$out/show.txt" 2>/dev/null
echo "== not reached (line: lines without a count, branch: sides never taken)"
cov export -format=lcov 2>/dev/null | awk -F'[:,]' -v here="$PWD/" '
  /^SF:/ { file = $2; sub(here, "", file) }
  /^DA:/ && $3 == 0 { print file ":" $2 " line" }
  /^BRDA:/ && ($5 == 0 || $5 == "-") { print file ":" $2 " branch" }' | sort -u -t: -k1,1 -k2,2n
echo "== reached"
cov report -show-region-summary=true -show-branch-summary=true 2>/dev/null

#!/usr/bin/env bash
# The long run: each target until 10^7 executions or 15 minutes, whichever comes first, on one core, one after the other.
#
#   fuzz/long.sh                          all targets
#   fuzz/long.sh hostile_reads typed      these, in this order
#   SHMCAST_FUZZ_SECONDS=3600 SHMCAST_FUZZ_RUNS=100000000 fuzz/long.sh ...
#
# It goes in slices, and writes an account of each (fuzz/corpus/<target>.account: executions, seconds, edges): killed and
# started again, it goes on where it was. Remove an account to begin anew. A target with a finding (a file in
# fuzz/artifacts/<target>) stops there and the others go on; it goes on too once the finding is mended and the file is gone.
# At the end one line for each target; exit status 1 if there are findings.
set -euo pipefail
cd "$(dirname "$0")"

runs=${SHMCAST_FUZZ_RUNS:-10000000}
seconds=${SHMCAST_FUZZ_SECONDS:-900}
slice=${SHMCAST_FUZZ_SLICE:-150}
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')

names() { sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"$/\1/p}' Cargo.toml; }
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(names)

# The sum of the account: executions, seconds; and the edges of its last line.
account() { awk '{ runs += $1; seconds += $2; edges = $3 } END { print runs + 0, seconds + 0, edges + 0 }' "corpus/$1.account" 2>/dev/null || echo "0 0 0"; }
findings() { find "artifacts/$1" -type f ! -name 'slow-unit-*' 2>/dev/null | wc -l; }
line() {
  read -r done_runs done_seconds edges < <(account "$1")
  echo "$1: $done_runs executions, $done_seconds s, $edges edges, $(findings "$1") findings"
}

# All are built before the first runs: what is run then does not change under it.
mkdir -p corpus
for target in "${targets[@]}"; do
  cargo +nightly fuzz build --target-dir "$target_dir" "$target"
done

for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  while
    read -r done_runs done_seconds _ < <(account "$target")
    [ "$done_runs" -lt "$runs" ] && [ "$done_seconds" -lt "$seconds" ] && [ "$(findings "$target")" = 0 ]
  do
    left=$((seconds - done_seconds))
    before=$SECONDS
    # Whoever waits two minutes hangs, also on a machine that has much else to do.
    ASAN_OPTIONS=detect_odr_violation=0 "$target_dir/$triple/release/$target" \
      "corpus/$target" "seeds/$target" -artifact_prefix="artifacts/$target/" -print_final_stats=1 \
      -runs=$((runs - done_runs)) -max_total_time=$((left < slice ? left : slice)) \
      -max_len=4096 -timeout=120 -rss_limit_mb=1024 -malloc_limit_mb=256 >"corpus/$target.log" 2>&1 || true
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "corpus/$target.log" | tail -1)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "corpus/$target.log" | tail -1)
    if [ "$(findings "$target")" = 0 ] && [ -z "$executed" ]; then
      echo "$target did not run: see fuzz/corpus/$target.log" >&2
      exit 2
    fi
    echo "${executed:-0} $((SECONDS - before)) ${edges:-0}" >>"corpus/$target.account"
  done
  line "$target"
done

echo "-- all:"
status=0
for target in "${targets[@]}"; do
  line "$target"
  [ "$(findings "$target")" = 0 ] || status=1
done
exit $status

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The daemon is killed with -9 at a random moment, under workers that log each acknowledged operation outside of the
# pool (ack_writer). After a re-mount every one of them is there, the trees of earlier rounds too, and fsck finds nothing.
# At the end the negative control: a log with an operation that never was, and a file changed behind the logs' back, must
# be found.
# UDAX_ROUNDS: how often (default 5). UDAX_WORKERS: how many workers (default 4). UDAX_SEED: of the first round.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${UDAX_PEER:-} ]] || skip "a peer has no daemon to kill"
writer=$UDAX_BIN/ack_writer
[[ -x $writer ]] || skip "$writer is not built"

rounds=${UDAX_ROUNDS:-5}
workers=${UDAX_WORKERS:-4}
kept=3  # rounds whose trees stay
seed=$(new_seed)
say "seed $seed (UDAX_SEED=$seed repeats it; the moment of the kill is not repeated exactly)"
RANDOM=$((seed % 32768))

make_pool 512M
mount_pool
for ((round = 1; round <= rounds; round++)); do
  mkdir "$mnt/r$round" "$work/logs$round"
  "$writer" run "$mnt/r$round" "$work/logs$round" "$workers" "$((seed + round))" >"$work/run.log" 2>&1 &
  run=$!
  for _ in {1..1200}; do  # all of them are at work
    [[ ! -s $work/logs$round/$((workers - 1)) ]] || break
    sleep 0.05
  done
  delay=$((RANDOM % 2500 + 100))
  sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))"
  kill -0 "$run" 2>/dev/null || fail "round $round, seed $((seed + round)): the workers ended too early: $(cat "$work/run.log")"
  kill_daemon
  wait "$run" || fail "round $round, seed $((seed + round)): $(cat "$work/run.log")"
  mount_pool
  for ((r = round > kept ? round - kept + 1 : 1; r <= round; r++)); do
    "$writer" verify "$mnt/r$r" "$work/logs$r" "$workers" "$((seed + r))" >"$work/verify.log" 2>&1 ||
      fail "round $round (killed after $delay ms), tree of round $r: $(cat "$work/verify.log")"
  done
  say "round $round, killed after $delay ms: $(cat "$work/verify.log")"
  unmount_pool
  check_pool
  mount_pool
  if ((round > kept)); then rm -rf "$mnt/r$((round - kept))" "$work/logs$((round - kept))"; fi
done

# Negative controls.
verify_fails() {  # verify_fails WHAT LOGS
  if "$writer" verify "$mnt/r$rounds" "$2" "$workers" "$((seed + rounds))" >"$work/verify.log" 2>&1; then
    fail "negative control: $1 was not found"
  fi
  say "negative control: $1 is found: $(head -n 1 "$work/verify.log")"
}
cp -r "$work/logs$rounds" "$work/fabricated"
log=$work/fabricated/0
if [[ $(tail -n 1 "$log") == I* ]]; then sed -i '$d' "$log"; fi
printf 'I 999999999 0 never-made - 420\nA 999999999\n' >>"$log"
verify_fails "an acknowledged file that was never made" "$work/fabricated"
cp -r "$work/logs$rounds" "$work/forgotten"
printf 'hidden' >"$mnt/r$rounds/w0/hidden"
verify_fails "a file that nobody made" "$work/forgotten"
rm "$mnt/r$rounds/w0/hidden"
# Not one that the operation in flight, which may or may not have happened, was about.
in_flight=$(tail -n 1 "$work/logs$rounds/0")
victim=
while IFS= read -r file; do
  [[ $in_flight != *"${file#"$mnt/r$rounds/w0/"}"* ]] || continue
  victim=$file
  break
done < <(find "$mnt/r$rounds/w0" -type f -size +0 -links 1)
if [[ -n $victim ]]; then
  size=$(stat -c %s "$victim")
  truncate -s $((size + 1)) "$victim"
  verify_fails "a file that is one byte longer" "$work/logs$rounds"
  truncate -s "$size" "$victim"
fi
rm -rf "${mnt:?}"/*
unmount_pool
check_pool

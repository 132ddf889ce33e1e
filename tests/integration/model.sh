#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Random calls on a mount and on a model in memory (vfs_model), as root on behalf of several users, and as an ordinary user,
# with each way of access. Then models that are wrong on purpose: the comparison must see each of them.
# UDAX_SEED, UDAX_OPS (20000), UDAX_ROUNDS (2): what each run takes, and how many there are.
set -euo pipefail
# shellcheck source=tests/integration/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
program=${UDAX_BIN:-}/vfs_model
[[ -x $program ]] || skip "$program is not built"
need setpriv

user=65534
as_user() { setpriv --reuid=$user --regid=$user --clear-groups --inh-caps=-all "$@"; }

run_model() {  # run_model NAME FOLDER [PREFIX...]
  local name=$1 folder=$2 seed
  shift 2
  seed=$(new_seed)
  "$@" env UDAX_SEED="$seed" "$program" "$folder" >"$work/model.log" 2>&1 ||
    { cat "$work/model.log"; fail "$name: UDAX_SEED=$seed"; }
  say "$name: seed $seed, $(tail -n 1 "$work/model.log")"
}

make_folder() {
  chmod 755 "$work" "$mnt"
  mkdir "$mnt/home"
  chown $user:$user "$mnt/home"
}

for options in dax=inode dax=always dax=never,threads=1 data=atomic; do
  make_pool 256M
  mount_pool -o "$options"
  for ((round = 0; round < ${UDAX_ROUNDS:-2}; ++round)); do
    run_model "$options, as $(id -un)" "$mnt"
    [[ $(id -u) -eq 0 ]] || continue
    make_folder
    run_model "$options, as a user" "$mnt/home" as_user
    rmdir "$mnt/home"
  done
  unmount_pool
  check_pool
  [[ -z ${UDAX_PEER:-} ]] || break
done

make_pool 256M
mount_pool
[[ $(id -u) -ne 0 ]] || make_folder
for lie in errno bytes setuid sticky; do
  [[ $lie != sticky || $(id -u) -eq 0 ]] || continue  # it takes two users
  status=0
  UDAX_MODEL_LIE=$lie UDAX_SEED=1 UDAX_OPS=20000 "$program" "$mnt" >"$work/lie.log" 2>&1 || status=$?
  [[ $status -eq 1 ]] || fail "a model with a wrong rule, $lie, gave status $status: $(tail -n 1 "$work/lie.log")"
  say "a wrong rule, $lie, is seen: $(tail -n 1 "$work/lie.log")"
done
if [[ $(id -u) -eq 0 ]]; then
  status=0
  UDAX_MODEL_LIE=errno UDAX_SEED=1 UDAX_OPS=20000 as_user "$program" "$mnt/home" >"$work/lie.log" 2>&1 || status=$?
  [[ $status -eq 1 ]] || fail "a model with a wrong rule gave status $status to a user: $(tail -n 1 "$work/lie.log")"
fi
unmount_pool
check_pool

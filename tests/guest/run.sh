#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Boots a machine with emulated persistent memory (QEMU, no KVM needed) and runs a command of this machine in it, as root,
# in the caller's folder: the guest's / is this machine's /, and what the command writes to it is dropped. Prints what the command
# prints, and exits with its status.
#
#   run.sh [options] COMMAND [ARGUMENT]...
#     -d FORM[:IMAGE]  an NVDIMM, made into FORM on its first boot: devdax-2M, devdax-4K, ext4-dax, xfs-dax, fsdax, sector,
#                      raw. IMAGE (a file, sparse) keeps it over boots; without one it goes with the machine. May be repeated.
#     -s SIZE          of each NVDIMM, in MiB (768; xfs takes 768 at least)
#     -p adr|eadr      what a power cut spares: what is flushed, or the CPU's caches as well (adr)
#     -w FOLDER        of this machine, writable in the guest
#     -c FILE:MS       a power cut: MS milliseconds after FILE has come up (in FOLDER, say), QEMU is killed; status 137
#     -m MIB           memory (1024)
#     -t SECONDS       then the machine is ended, with status 124 (600)
#
# The command finds UDAX_GUEST_POOLS: for each NVDIMM, in the order of the options, /dev/daxX.Y, /dev/pmemX, or the folder where
# its filesystem is mounted. Status 125: the guest died (its console is on standard error). Status 77, after a line
# that says why: no QEMU, or no packages to boot (see fetch.sh). The machine ends with this script, however that ends.
set -euo pipefail
guest_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=tests/guest/fetch.sh
source "$guest_here/fetch.sh"

usage() {
  sed -n '8,18s/^#   \{0,2\}//p' "$0" >&2
  exit 2
}
skip() {
  printf 'SKIPPED guest: %s\n' "$*"
  exit 77
}

forms=()
images=()
size_mib=768
machine=nvdimm-persistence=mem-ctrl
share=''
cut=''
memory_mib=1024
limit_s=600
while getopts d:s:p:w:c:m:t: option; do
  case $option in
    d)
      case ${OPTARG%%:*} in
        devdax-2M | devdax-4K | ext4-dax | xfs-dax | fsdax | sector | raw) ;;
        *) usage ;;
      esac
      forms+=("${OPTARG%%:*}")
      if [[ $OPTARG == *:* ]]; then images+=("$(realpath "${OPTARG#*:}")"); else images+=(''); fi
      ;;
    s) size_mib=$OPTARG ;;
    p)
      case $OPTARG in
        adr) ;;
        eadr) machine=nvdimm-persistence=cpu ;;
        *) usage ;;
      esac
      ;;
    w) share=$(realpath "$OPTARG") ;;
    c) cut=$OPTARG ;;
    m) memory_mib=$OPTARG ;;
    t) limit_s=$OPTARG ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
[[ $# -gt 0 ]] || usage

[[ $(uname -m) == x86_64 ]] || skip "only made for x86-64"
for program in qemu-system-x86_64 python3 xz dpkg apt-get flock ndctl; do
  command -v "$program" >/dev/null || skip "$program is not installed (tools/deps.sh guest)"
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/udax-guest.XXXXXX")
qemu=''
tidy_up() {
  trap - EXIT
  [[ -z $qemu ]] || kill -9 "$qemu" 2>/dev/null || true
  rm -rf "$work"
}
trap tidy_up EXIT
trap 'exit 143' HUP INT TERM
# Who reads what this prints may be gone first; that must not keep it from tidying up.
trap '' PIPE

fetch_guest 2>"$work/fetch.log" || skip "the kernel's package cannot be had: $(tail -n 1 "$work/fetch.log")"
modules_of=$(echo "$guest_cache"/lib/modules/*)

# The modules, each after those that it needs.
modules="crc32c_generic virtio_pci virtio_console 9pnet_virtio 9p overlay fuse nfit nd_pmem nd_btt device_dax dax_pmem ext4
  xfs"
make_initramfs() {
  local root=$work/root module
  mkdir -p "$root/bin" "$root/modules"
  cp "$guest_cache/bin/busybox" "$root/bin/"
  cp "$guest_here/init.sh" "$root/init"
  chmod 755 "$root/init"
  for module in $modules; do
    awk -F ': *' -v want="/$module.ko" '
      substr($1, length($1) - length(want) + 1) == want {
        n = split($2, needed, " ")
        for (i = n; i > 0; --i) print needed[i]
        print $1
      }' "$modules_of/modules.dep"
  done | awk '!seen[$0]++' >"$work/order"
  while read -r module; do cp "$modules_of/$module" "$root/modules/"; done <"$work/order"
  sed 's|.*/||' "$work/order" >"$root/modules/order"
  (cd "$root" && find . | "$guest_cache/bin/busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs"
}

# What the guest's init runs: pools, then the command, whose output goes over one port.
make_job() {
  local job=$work/job
  mkdir -m 777 "$job"
  printf 'GUEST_MODULES=%q\nGUEST_SHARE=%q\n' "$guest_cache/lib/modules" "$share" >"$job/settings"
  {
    # The distribution's programs first: what a version manager puts before them (a python3 that is a script) takes seconds there.
    printf 'set -u\nexport HOME=/root UDAX_IN_GUEST=1 PATH=%q\n' "/usr/sbin:/usr/bin:/sbin:/bin:$PATH"
    # The caller's settings for the scripts of this project.
    local name
    for name in ${!UDAX_*}; do printf 'export %s=%q\n' "$name" "${!name}"; done
    printf 'guest_forms=(%s)\n' "${forms[*]}"
    printf 'guest_command=('
    printf '%q ' "$@"
    printf ')\nguest_folder=%q\n' "$PWD"
    printf 'source %q\n' "$guest_here/first.sh"
  } >"$job/first"
}

# QEMU has the regions in the reverse of the order in which the devices are given.
make_devices() {
  local i
  devices=()
  for ((i = ${#forms[@]} - 1; i >= 0; i--)); do
    [[ -n ${images[i]} ]] || images[i]=$work/nvdimm$i
    [[ -e ${images[i]} ]] || truncate -s "${size_mib}M" "${images[i]}"
    devices+=(-object "memory-backend-file,id=mem$i,share=on,mem-path=${images[i]},size=$(stat -c %s "${images[i]}"),align=2M"
      -device "nvdimm,id=nvdimm$i,memdev=mem$i,unarmed=off")
  done
}

make_initramfs
make_job "$@"
make_devices
# shellcheck disable=SC2054  # the commas are QEMU's
options=(-nodefaults -no-user-config -display none -no-reboot
  -machine "q35,nvdimm=on,$machine" -accel tcg,thread=multi -smp 2
  # Without ERMS copies are faster under emulation; an Intel CPU is one whose machine checks the kernel recovers from.
  -cpu max,vendor=GenuineIntel,-erms
  -m "${memory_mib}M,slots=8,maxmem=64G" "${devices[@]}"
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap
  -virtfs "local,path=$work/job,mount_tag=job,security_model=none,multidevs=remap"
  -serial "file:$work/console" -device virtio-serial-pci
  -chardev "file,id=out,path=$work/out" -device virtserialport,chardev=out,nr=1
  -kernel "$guest_cache/vmlinux" -initrd "$work/initramfs"
  -append "console=ttyS0 quiet panic=-1 mitigations=off no5lvl norandmaps cryptomgr.notests")
[[ -z $share ]] || options+=(-virtfs "local,path=$share,mount_tag=share,security_model=none,multidevs=remap")

: >"$work/out"
: >"$work/console"
# setpriv: the machine ends even if this script is killed where no trap can help.
setpriv --pdeathsig KILL qemu-system-x86_64 "${options[@]}" </dev/null >"$work/qemu.log" 2>&1 &
qemu=$!
tail -n +1 -s 0.1 -f --pid="$qemu" "$work/out" &
show=$!

cut_done=false
deadline=$((SECONDS + limit_s))
cut_file=${cut%:*}
while kill -0 "$qemu" 2>/dev/null; do
  if [[ $SECONDS -ge $deadline ]]; then break; fi
  if [[ -n $cut && -e $cut_file ]]; then
    ms=${cut##*:}
    sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
    cut_done=true
    break
  fi
  sleep 0.1
done
if kill -9 "$qemu" 2>/dev/null && ! $cut_done; then
  wait "$qemu" 2>/dev/null || true
  qemu=''
  wait "$show" || true
  tail -n 20 "$work/console" >&2
  echo "run.sh: ended after $limit_s s" >&2
  exit 124
fi
wait "$qemu" 2>/dev/null || true
qemu=''
wait "$show" || true
if $cut_done; then exit 137; fi
if [[ ! -s $work/job/status ]]; then
  cat "$work/qemu.log" "$work/console" >&2
  exit 125
fi
exit "$(cat "$work/job/status")"

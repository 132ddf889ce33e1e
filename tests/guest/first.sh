# SPDX-License-Identifier: BSD-3-Clause
#
# In the guest, after init.sh: gives each NVDIMM its form, runs the command with its output on the first port, writes its status, and
# switches the machine off. Sourced with guest_forms, guest_command and guest_folder set.

# shellcheck shell=bash disable=SC2154
guest_port=$(echo /dev/vport*p1)
exec </dev/null >"$guest_port" 2>&1

guest_fail() {
  echo "guest: $*"
  echo 125 >/run/guest/job/status
  guest_off
}
guest_off() {
  exec >/dev/null 2>&1
  sync
  # The port's last bytes are on their way to the host still.
  sleep 0.3
  echo o >/proc/sysrq-trigger
  sleep 60
}

# guest_device REGION: what its namespace shows itself as ("dax0.0", "pmem0"); empty if it is raw or has none.
guest_device() {
  ndctl list -N -r "region$1" 2>/dev/null | sed -n 's/.*"\(chardev\|blockdev\)":"\([^"]*\)".*/\2/p' | head -n 1
}
guest_mode() { ndctl list -N -r "region$1" 2>/dev/null | sed -n 's/.*"mode":"\([^"]*\)".*/\1/p' | head -n 1; }

# guest_create REGION MODE [OPTIONS...]: unless it is so already, from an earlier boot.
guest_create() {
  [[ $(guest_mode "$1") != "$2" ]] || return 0
  ndctl create-namespace -f -e "namespace$1.0" -m "$2" "${@:3}" >/run/guest/ndctl.log 2>&1 ||
    guest_fail "ndctl create-namespace -m $2: $(cat /run/guest/ndctl.log)"
}

# guest_mount REGION TYPE OPTIONS MKFS...: makes the filesystem on the first boot, and mounts it.
guest_mount() {
  local device place=/mnt/pmem$1
  guest_create "$1" fsdax
  device=/dev/$(guest_device "$1")
  [[ $(blkid -p -o value -s TYPE "$device") == "$2" ]] || "${@:4}" "$device" >/run/guest/mkfs.log 2>&1 ||
    guest_fail "${*:4}: $(cat /run/guest/mkfs.log)"
  mkdir -p "$place"
  mount -t "$2" -o "$3" "$device" "$place" || guest_fail "$device cannot be mounted: $(dmesg | tail -n 5)"
  guest_pool=$place
}

# guest_make REGION FORM: sets guest_pool.
guest_make() {
  case $2 in
    devdax-2M) guest_create "$1" devdax -a 2M ;;
    devdax-4K) guest_create "$1" devdax -a 4K ;;
    fsdax) guest_create "$1" fsdax ;;
    sector) guest_create "$1" sector ;;
    raw) ;;
    # 4 KiB blocks, whatever the size: others cannot be DAX.
    ext4-dax) guest_mount "$1" ext4 dax=always mkfs.ext4 -q -F -b 4096 ;;
    xfs-dax) guest_mount "$1" xfs dax=always mkfs.xfs -q -f -m reflink=0 -d su=2m,sw=1 ;;
  esac
  [[ $2 == *-dax ]] || guest_pool=/dev/$(guest_device "$1")
}

UDAX_GUEST_POOLS=''
guest_at=0
for guest_form in "${guest_forms[@]}"; do
  guest_make "$guest_at" "$guest_form"
  UDAX_GUEST_POOLS+=${UDAX_GUEST_POOLS:+ }$guest_pool
  guest_at=$((guest_at + 1))
done
export UDAX_GUEST_POOLS
(cd "$guest_folder" && exec "${guest_command[@]}")
echo $? >/run/guest/job/status
guest_off

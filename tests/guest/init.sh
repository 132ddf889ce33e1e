#!/bin/busybox sh
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=dash
#
# The guest's first process, in its initramfs: loads modules, puts a tmpfs over the host's root, which comes by 9p, and does
# what udev would have; then runs the command of the share "job" as the host's bash would, hands its status back, and
# switches the machine off. run.sh puts MODULES beside it.
set -eu
b=/bin/busybox
$b mkdir -p /proc /sys /dev /lower /rw /root /job
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module" || echo "insmod $module failed"; done </modules/order
# Namespaces are probed asynchronously: this waits for it.
for bus in /sys/bus/nd/devices/ndbus*/wait_probe; do
  [ ! -e "$bus" ] || $b cat "$bus" >/dev/null
done

$b mount -t tmpfs tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t 9p -o ro,trans=virtio,msize=512000,cache=loose host /lower
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /root
cd /root
for place in proc sys dev; do $b mount --move "/$place" "$place"; done
$b mount -t tmpfs -o mode=755 tmpfs run
$b mkdir -p run/guest/job run/lock
# Written through at once: what the host finds there has happened.
$b mount -t 9p -o trans=virtio,msize=512000,cache=none job run/guest/job
. run/guest/job/settings
# The kernel asks for modules by this program; those of the host's own kernel are none of its.
$b cp $b run/guest/modprobe
echo /run/guest/modprobe >proc/sys/kernel/modprobe
$b mkdir -p lib/modules
$b mount --bind ".$GUEST_MODULES" lib/modules
if [ -n "$GUEST_SHARE" ]; then $b mount -t 9p -o trans=virtio,msize=512000,cache=none share ".$GUEST_SHARE"; fi

$b mkdir -p dev/pts dev/shm
$b mount -t devpts devpts dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs dev/shm
$b ln -s /proc/self/fd dev/fd
$b ln -s fd/0 dev/stdin
$b ln -s fd/1 dev/stdout
$b ln -s fd/2 dev/stderr
[ ! -e dev/fuse ] || $b chmod 666 dev/fuse
$b ifconfig lo 127.0.0.1 up || true
exec $b switch_root . /bin/bash /run/guest/job/first

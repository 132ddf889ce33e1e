# SPDX-License-Identifier: BSD-3-Clause
#
# In a guest; sourced. The ordinary user of its tests is nobody.
#
#   become_user PLACE [FOLDER]...    gives PLACE (a device or a folder) to the user, lets him get to the programs, the scripts and the
#                                    FOLDERs, which may lie where only their owner gets to (/root), and sets the array `as`, which
#                                    goes before his commands. False: he could not mount; why is in `user_refused`.

# shellcheck shell=bash disable=SC2034  # what is set is for who sources this
become_user() {
  # fusermount3 is what an ordinary user mounts by.
  [[ -u $(command -v fusermount3) ]] || { user_refused='fusermount3 is not setuid root'; return 1; }
  chown 65534:65534 "$1"
  shift
  [[ -z ${UDAX_IN_GUEST:-} || -e /etc/mtab ]] || ln -s /proc/self/mounts /etc/mtab  # fusermount3 reads it
  local folder
  for folder in "$(dirname "${BASH_SOURCE[0]}")" "$UDAX_BIN" "$@"; do
    [[ -n ${UDAX_IN_GUEST:-} ]] || break  # there the change is dropped with the guest
    folder=$(realpath "$folder")
    while [[ $folder != / ]]; do
      chmod o+rx "$folder"
      folder=$(dirname "$folder")
    done
  done
  as=(setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/)
}

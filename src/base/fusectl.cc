// SPDX-License-Identifier: BSD-3-Clause
#include "base/fusectl.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>

namespace udax {

int open_fusectl(int access) {
  const int there = ::open("/sys/fs/fuse/connections", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // Not mounted it is an empty folder of sysfs, and has no numbers in it.
  if (there >= 0 && (access == O_RDONLY || ::faccessat(there, ".", W_OK, 0) == 0)) {
    struct stat folder {};
    struct stat sys {};
    if (::fstat(there, &folder) == 0 && ::stat("/sys/fs/fuse", &sys) == 0 && folder.st_dev != sys.st_dev)
      return there;
  }
  if (there >= 0) ::close(there);
  const int context = ::fsopen("fusectl", FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  int folder = -1;
  if (::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0) {
    folder = ::fsmount(context, FSMOUNT_CLOEXEC, 0);
  }
  ::close(context);
  return folder;
}

int open_fuse_connection(int fusectl, uint32_t connection, const char* file, int access) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "%u/%s", connection, file);
  return ::openat(fusectl, name.data(), access | O_CLOEXEC);
}

}  // namespace udax

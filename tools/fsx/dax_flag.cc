// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/dax_flag.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>

namespace udax::fsx {

int64_t set_dax_flag(int fd, bool dax) {
  fsxattr attributes{};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return -errno;
  attributes.fsx_xflags =
      dax ? attributes.fsx_xflags | FS_XFLAG_DAX : attributes.fsx_xflags & ~static_cast<uint32_t>(FS_XFLAG_DAX);
  return ::ioctl(fd, FS_IOC_FSSETXATTR, &attributes) == 0 ? 0 : -errno;
}

int64_t get_dax_flag(int fd) {
  fsxattr attributes{};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return -errno;
  return (attributes.fsx_xflags & FS_XFLAG_DAX) != 0 ? 1 : 0;
}

std::optional<std::string> dax_state(int fd) {
  char value[64];
  const ssize_t length = ::fgetxattr(fd, "user.udax.state", value, sizeof(value));
  if (length < 0) return std::nullopt;
  return std::string(value, static_cast<size_t>(length));
}

std::string check_flip(int fd, bool dax, const DaxStates& states) {
  const int64_t now = get_dax_flag(fd);
  if (now < 0) return std::string("FS_IOC_FSGETXATTR fails: ") + std::strerror(static_cast<int>(-now));
  if (now != (dax ? 1 : 0)) return "it is not as it was set";
  const std::optional<std::string>& wanted = dax ? states.on : states.off;
  if (!wanted) return {};
  const std::optional<std::string> found = dax_state(fd);
  if (found == wanted) return {};
  return "user.udax.state is " + (found ? '"' + *found + '"' : "gone") + " instead of \"" + *wanted + '"';
}

}  // namespace udax::fsx

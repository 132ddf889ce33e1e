// SPDX-License-Identifier: BSD-3-Clause
//
// The mount itself: made and ended through libfuse, which knows the ways of root and of fusermount3. The requests
// are read elsewhere (reader_pool.h): libfuse is asked for the descriptor and nothing more.
//
// Thread safety: none; one thread mounts and unmounts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

namespace udax::fuse {

class KernelMount {
 public:
  /// Mounts on `mountpoint` (absolute). `options`: as for mount(8)'s -o, one each, unescaped. On failure `why` gets
  /// one sentence for the user. kNotFound: mount point, /dev/fuse or fusermount3 is missing; kNotDirectory; kAccess;
  /// kBusy: a dead mount is in the way; kIo: the kernel or fusermount3 refused.
  [[nodiscard]] static Result<std::unique_ptr<KernelMount>> mount(const std::string& mountpoint,
                                                                  const std::vector<std::string>& options,
                                                                  std::string* why);
  /// The checks alone, for those who want to know before they touch anything. Errors as mount()'s.
  [[nodiscard]] static Status check(const std::string& mountpoint, std::string* why);
  /// Closes the descriptor; unmounts if that has not happened.
  ~KernelMount();
  KernelMount(const KernelMount&) = delete;
  KernelMount& operator=(const KernelMount&) = delete;

  /// The descriptor of /dev/fuse. Valid until destruction.
  [[nodiscard]] int fd() const;
  /// Asks the kernel to unmount; requests must be served meanwhile. kBusy: files are open on it. With `detach` it goes
  /// from the tree at once, and for good when the last file is closed.
  [[nodiscard]] Status unmount(bool detach);
  [[nodiscard]] const std::string& mountpoint() const { return mountpoint_; }

 private:
  KernelMount(void* session, std::string mountpoint);
  void* session_;  // struct fuse_session
  const std::string mountpoint_;
  bool gone_ = false;  // unmounted or detached by unmount()
};

}  // namespace udax::fuse

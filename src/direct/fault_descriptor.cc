// SPDX-License-Identifier: BSD-3-Clause
//
// Never waiting: a userfaultfd without O_NONBLOCK blocks its reader, and its flags are the client's to change at any moment. So it is
// read with RWF_NOWAIT, which asks for the same by call; where the kernel lacks that, the flag is looked at first.
#include "direct/fault_descriptor.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/types.h"

namespace udax::direct {
namespace {

// What the kernel calls it: a file of any name elsewhere would show its path, which begins with '/'.
bool is_userfaultfd(int fd) {
  std::array<char, 64> link{};
  std::array<char, 64> name{};
  constexpr std::string_view kProc = "/proc/self/fd/";
  std::memcpy(link.data(), kProc.data(), kProc.size());
  size_t at = kProc.size();
  std::array<char, 12> digits{};
  size_t count = 0;
  for (int n = fd; n > 0 || count == 0; n /= 10) digits[count++] = static_cast<char>('0' + n % 10);
  while (count > 0) link[at++] = digits[--count];
  const ssize_t n = ::readlink(link.data(), name.data(), name.size());
  return n > 0 && std::string_view(name.data(), static_cast<size_t>(n)) == "anon_inode:[userfaultfd]";
}

}  // namespace

Result<FaultDescriptor> FaultDescriptor::take(OwnedFd fd) {
  if (!is_userfaultfd(fd.get())) return Error::kInvalid;
  FaultDescriptor out;
  out.fd_ = std::move(fd);
  return out;
}

Result<size_t> FaultDescriptor::read(Batch& into) const {
  std::array<uffd_msg, kBatch> messages;
  const iovec piece{messages.data(), sizeof(messages)};
  ssize_t n = ::preadv2(fd_.get(), &piece, 1, -1, RWF_NOWAIT);
  if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == ESPIPE)) {
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || (flags & O_NONBLOCK) == 0) return Error::kIo;
    n = ::read(fd_.get(), messages.data(), sizeof(messages));
  }
  if (n < 0) return errno == EAGAIN || errno == EINTR ? Result<size_t>(size_t{0}) : Error::kIo;
  size_t faults = 0;
  for (size_t i = 0; i < static_cast<size_t>(n) / sizeof(uffd_msg); ++i) {
    const uffd_msg& message = messages[i];
    if (message.event != UFFD_EVENT_PAGEFAULT) continue;
    constexpr uint64_t kStores = UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP;
    into[faults++] = {align_down(message.arg.pagefault.address, kBlockSize),
                      (message.arg.pagefault.flags & kStores) != 0};
  }
  return faults;
}

void FaultDescriptor::wake(uint64_t address, uint64_t length) const {
  uffdio_range range{address, length};
  (void)::ioctl(fd_.get(), UFFDIO_WAKE, &range);
}

}  // namespace udax::direct

// SPDX-License-Identifier: BSD-3-Clause
#include "base/error.h"

#include <array>
#include <cerrno>
#include <cstdio>

namespace udax {
namespace {

struct Row {
  Error error;
  int number;
  std::string_view text;
};

// In the order of the enumeration. Where two share an errno, the first is what from_errno() gives.
constexpr std::array kRows = {
    Row{Error::kPermission, EPERM, "operation not permitted"},
    Row{Error::kNotFound, ENOENT, "no such file or directory"},
    Row{Error::kInterrupted, EINTR, "interrupted"},
    Row{Error::kIo, EIO, "input/output error"},
    Row{Error::kCorrupted, EIO, "corrupted structure on the medium"},
    Row{Error::kTooBig, E2BIG, "value too large"},
    Row{Error::kBadHandle, EBADF, "bad file handle"},
    Row{Error::kAgain, EAGAIN, "try again"},
    Row{Error::kNoMemory, ENOMEM, "out of memory"},
    Row{Error::kAccess, EACCES, "permission denied"},
    Row{Error::kBusy, EBUSY, "busy"},
    Row{Error::kExists, EEXIST, "exists already"},
    Row{Error::kCrossDevice, EXDEV, "crosses a boundary"},
    Row{Error::kNotDirectory, ENOTDIR, "not a directory"},
    Row{Error::kIsDirectory, EISDIR, "is a directory"},
    Row{Error::kInvalid, EINVAL, "invalid argument"},
    Row{Error::kTextBusy, ETXTBSY, "text file busy"},
    Row{Error::kFileTooBig, EFBIG, "file too large"},
    Row{Error::kNoSpace, ENOSPC, "no space left in the pool"},
    Row{Error::kReadOnly, EROFS, "read-only filesystem"},
    Row{Error::kTooManyLinks, EMLINK, "too many links"},
    Row{Error::kOutOfRange, ERANGE, "result does not fit"},
    Row{Error::kNameTooLong, ENAMETOOLONG, "name too long"},
    Row{Error::kNotEmpty, ENOTEMPTY, "directory not empty"},
    Row{Error::kLoop, ELOOP, "too many levels of symbolic links"},
    Row{Error::kNoData, ENODATA, "no such attribute"},
    Row{Error::kOverflow, EOVERFLOW, "value does not fit its type"},
    Row{Error::kNotSupported, EOPNOTSUPP, "not supported"},
    Row{Error::kNotImplemented, ENOSYS, "not implemented"},
    Row{Error::kStale, ESTALE, "stale handle"},
    Row{Error::kNoTty, ENOTTY, "unknown ioctl"},
    Row{Error::kNoDevice, ENXIO, "no such device or address"},
    Row{Error::kTooManyFiles, ENFILE, "too many open files"},
    Row{Error::kUnsupportedFormat, EINVAL, "format version or feature not known to this build"},
    Row{Error::kNotAPool, EINVAL, "not a udaxfs pool"},
};

constexpr bool in_order() {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (static_cast<size_t>(kRows[i].error) != i) return false;
  }
  return kRows.size() == static_cast<size_t>(Error::kNotAPool) + 1;
}
static_assert(in_order());

const Row& row(Error error) { return kRows.at(static_cast<size_t>(error)); }

}  // namespace

int to_errno(Error error) { return row(error).number; }

Error from_errno(int value) {
  for (const Row& r : kRows) {
    if (r.number == value) return r.error;
  }
  return Error::kIo;
}

std::string_view to_string(Error error) { return row(error).text; }

void panic(const char* file, int line, const char* what) {
  std::fprintf(stderr, "udaxfs: broken invariant at %s:%d: %s\n", file, line, what);
  std::abort();
}

}  // namespace udax

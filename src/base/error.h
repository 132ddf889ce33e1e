// SPDX-License-Identifier: BSD-3-Clause
//
// The closed set of errors that cross layer boundaries, and Result<T>, which carries one.
//
// Each Error maps to exactly one errno; the mapping is applied at the edges only (FUSE replies, the C ABI,
// the tools). Member names of Result follow std::expected (C++23), so that it can be swapped for it later.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace udax {

enum class Error : uint8_t {
  kPermission,         // EPERM
  kNotFound,           // ENOENT
  kInterrupted,        // EINTR
  kIo,                 // EIO: the medium failed
  kCorrupted,          // EIO: a structure on the medium is not what it must be
  kTooBig,             // E2BIG
  kBadHandle,          // EBADF
  kAgain,              // EAGAIN
  kNoMemory,           // ENOMEM
  kAccess,             // EACCES
  kBusy,               // EBUSY
  kExists,             // EEXIST
  kCrossDevice,        // EXDEV
  kNotDirectory,       // ENOTDIR
  kIsDirectory,        // EISDIR
  kInvalid,            // EINVAL
  kTextBusy,           // ETXTBSY
  kFileTooBig,         // EFBIG
  kNoSpace,            // ENOSPC
  kReadOnly,           // EROFS
  kTooManyLinks,       // EMLINK
  kOutOfRange,         // ERANGE
  kNameTooLong,        // ENAMETOOLONG
  kNotEmpty,           // ENOTEMPTY
  kLoop,               // ELOOP
  kNoData,             // ENODATA (no such xattr)
  kOverflow,           // EOVERFLOW
  kNotSupported,       // EOPNOTSUPP
  kNotImplemented,     // ENOSYS
  kStale,              // ESTALE
  kNoTty,              // ENOTTY (unknown ioctl)
  kNoDevice,           // ENXIO (SEEK_DATA past the last data)
  kTooManyFiles,       // ENFILE
  kUnsupportedFormat,  // EINVAL: a format version or feature this build does not know
  kNotAPool,           // EINVAL: no superblock, nor a replica of one
};

/// The errno of `error`, positive.
[[nodiscard]] int to_errno(Error error);
/// The Error that stands for errno `value` (positive); kIo for one that has no counterpart.
[[nodiscard]] Error from_errno(int value);
/// A short lower-case phrase, for logs and tools.
[[nodiscard]] std::string_view to_string(Error error);

/// A value or an Error. Never empty of both.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, error) {}         // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  [[nodiscard]] T& value() & { return *std::get_if<0>(&state_); }
  [[nodiscard]] const T& value() const& { return *std::get_if<0>(&state_); }
  [[nodiscard]] T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
  [[nodiscard]] T* operator->() { return &value(); }
  [[nodiscard]] const T* operator->() const { return &value(); }
  [[nodiscard]] Error error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(error), failed_(true) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const { return !failed_; }
  explicit operator bool() const { return has_value(); }
  [[nodiscard]] Error error() const { return error_; }

 private:
  Error error_{};
  bool failed_ = false;
};

using Status = Result<void>;

/// Ends the process with a message: a broken invariant in memory, never bad media or bad input.
[[noreturn]] void panic(const char* file, int line, const char* what);

}  // namespace udax

/// Aborts when an in-memory invariant does not hold. Checked in every build.
#define UDAX_ASSERT(cond)                       \
  do {                                          \
    if (!(cond)) [[unlikely]]                   \
      ::udax::panic(__FILE__, __LINE__, #cond); \
  } while (0)

#define UDAX_CONCAT_(a, b) a##b
#define UDAX_CONCAT(a, b) UDAX_CONCAT_(a, b)

/// Returns the Error of `expr` (a Result of any type) from the enclosing function, if it has one.
#define UDAX_CHECK(expr)                                          \
  do {                                                            \
    if (auto udax_status_ = (expr); !udax_status_) [[unlikely]] { \
      return udax_status_.error();                                \
    }                                                             \
  } while (0)

/// `UDAX_TRY(auto x, f());`: x is f()'s value, or its Error is returned from the enclosing function.
#define UDAX_TRY(declaration, expr) UDAX_TRY_(UDAX_CONCAT(udax_result_, __LINE__), declaration, expr)
#define UDAX_TRY_(result, declaration, expr) \
  auto result = (expr);                      \
  if (!result) [[unlikely]]                  \
    return result.error();                   \
  declaration = std::move(result).value()

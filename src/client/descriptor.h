// SPDX-License-Identifier: BSD-3-Clause
//
// The library's own descriptors in somebody else's process: close-on-exec, out of the way of the small numbers that programs count
// on, and known by their numbers, so that the preload shim can keep a program from closing them by accident.
#pragma once

namespace udax::client {

/// True of a descriptor that a Descriptor holds. Lock-free.
[[nodiscard]] bool is_own_descriptor(int fd);

/// Owns one; -1: none. Not thread-safe, but for get() beside itself.
class Descriptor {
 public:
  Descriptor() = default;
  /// Takes `fd` over (-1: none), and gives it a larger number if there is one to be had.
  explicit Descriptor(int fd);
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

  int fd_ = -1;
};

}  // namespace udax::client

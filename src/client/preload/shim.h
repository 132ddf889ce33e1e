// SPDX-License-Identifier: BSD-3-Clause
//
// The preload shim: functions of the C library that are ours first, in programs that know nothing of udaxfs.
//
// Whatever is not a mapping of libudax, and whatever the daemon refuses, goes on to the next function of that name as it came.
// Nothing here allocates or takes a lock unless a mapping of libudax is concerned: allocators call these functions.
#pragma once

#include <dlfcn.h>

#include <atomic>

// Defines the function `name`; `parameters` in parentheses, and what follows them. (The shim stores to no medium: that it
// has a function of msync's name means nothing to the rule about stores.)
#define UDAX_SHIM(type, name, parameters) extern "C" __attribute__((visibility("default"))) type name parameters

namespace udax::preload {

/// The function that would have been called without the shim; looked up once.
template <typename F>
class Next {
 public:
  explicit constexpr Next(const char* name) : name_(name) {}
  F get() {
    void* found = found_.load(std::memory_order_acquire);
    if (found == nullptr) {
      found = ::dlsym(RTLD_NEXT, name_);
      found_.store(found, std::memory_order_release);
    }
    return reinterpret_cast<F>(found);
  }

 private:
  const char* name_;
  std::atomic<void*> found_{nullptr};
};

}  // namespace udax::preload

// SPDX-License-Identifier: BSD-3-Clause
//
// Mutexes with clang thread-safety annotations (libstdc++'s carry none), and their guards.
//
// Spin-then-sleep: Mutex is for sections that may call into the medium; SpinLock is for a handful of
// instructions, and yields when its holder seems to have been preempted.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

#if defined(__clang__)
#define UDAX_TSA(x) __attribute__((x))
#else
#define UDAX_TSA(x)
#endif

#define UDAX_CAPABILITY(name) UDAX_TSA(capability(name))
#define UDAX_SCOPED_CAPABILITY UDAX_TSA(scoped_lockable)
#define UDAX_GUARDED_BY(x) UDAX_TSA(guarded_by(x))
#define UDAX_PT_GUARDED_BY(x) UDAX_TSA(pt_guarded_by(x))
#define UDAX_REQUIRES(...) UDAX_TSA(requires_capability(__VA_ARGS__))
#define UDAX_REQUIRES_SHARED(...) UDAX_TSA(requires_shared_capability(__VA_ARGS__))
#define UDAX_ACQUIRE(...) UDAX_TSA(acquire_capability(__VA_ARGS__))
#define UDAX_ACQUIRE_SHARED(...) UDAX_TSA(acquire_shared_capability(__VA_ARGS__))
#define UDAX_RELEASE(...) UDAX_TSA(release_capability(__VA_ARGS__))
#define UDAX_RELEASE_SHARED(...) UDAX_TSA(release_shared_capability(__VA_ARGS__))
#define UDAX_RELEASE_GENERIC(...) UDAX_TSA(release_generic_capability(__VA_ARGS__))
#define UDAX_TRY_ACQUIRE(...) UDAX_TSA(try_acquire_capability(__VA_ARGS__))
#define UDAX_EXCLUDES(...) UDAX_TSA(locks_excluded(__VA_ARGS__))
#define UDAX_ACQUIRED_BEFORE(...) UDAX_TSA(acquired_before(__VA_ARGS__))
#define UDAX_ACQUIRED_AFTER(...) UDAX_TSA(acquired_after(__VA_ARGS__))
#define UDAX_ASSERT_CAPABILITY(x) UDAX_TSA(assert_capability(x))
/// For lock sets known only at run time (several groups, several inodes); say so where it is used.
#define UDAX_NO_THREAD_SAFETY_ANALYSIS UDAX_TSA(no_thread_safety_analysis)

namespace udax {

class UDAX_CAPABILITY("mutex") Mutex {
 public:
  void lock() UDAX_ACQUIRE() { impl_.lock(); }
  void unlock() UDAX_RELEASE() { impl_.unlock(); }
  bool try_lock() UDAX_TRY_ACQUIRE(true) { return impl_.try_lock(); }
  std::mutex& native() { return impl_; }  // for std::condition_variable

 private:
  std::mutex impl_;
};

class UDAX_CAPABILITY("shared_mutex") SharedMutex {
 public:
  void lock() UDAX_ACQUIRE() { impl_.lock(); }
  void unlock() UDAX_RELEASE() { impl_.unlock(); }
  bool try_lock() UDAX_TRY_ACQUIRE(true) { return impl_.try_lock(); }
  void lock_shared() UDAX_ACQUIRE_SHARED() { impl_.lock_shared(); }
  void unlock_shared() UDAX_RELEASE_SHARED() { impl_.unlock_shared(); }

 private:
  std::shared_mutex impl_;
};

class UDAX_CAPABILITY("spinlock") SpinLock {
 public:
  void lock() UDAX_ACQUIRE() {
    if (!flag_.exchange(true, std::memory_order_acquire)) return;
    lock_slow();
  }
  bool try_lock() UDAX_TRY_ACQUIRE(true) { return !flag_.exchange(true, std::memory_order_acquire); }
  void unlock() UDAX_RELEASE() { flag_.store(false, std::memory_order_release); }

 private:
  void lock_slow();
  std::atomic<bool> flag_{false};
};

template <typename M>
class UDAX_SCOPED_CAPABILITY LockGuard {
 public:
  explicit LockGuard(M& m) UDAX_ACQUIRE(m) : m_(m) { m_.lock(); }
  ~LockGuard() UDAX_RELEASE() { m_.unlock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  M& m_;
};

template <typename M>
class UDAX_SCOPED_CAPABILITY SharedLockGuard {
 public:
  explicit SharedLockGuard(M& m) UDAX_ACQUIRE_SHARED(m) : m_(m) { m_.lock_shared(); }
  ~SharedLockGuard() UDAX_RELEASE_GENERIC() { m_.unlock_shared(); }
  SharedLockGuard(const SharedLockGuard&) = delete;
  SharedLockGuard& operator=(const SharedLockGuard&) = delete;

 private:
  M& m_;
};

}  // namespace udax

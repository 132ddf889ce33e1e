// SPDX-License-Identifier: BSD-3-Clause
//
// A pool's descriptor, its mapping through libpmem2, and the primitives that libpmem2 picked for it; and, for page
// granularity, the pages that each thread has still to msync.
//
// Persistence: with page granularity a thread's stores are collected as page ranges until it drains. The list is
// short and of fixed size (noting a range cannot fail): when it is full, ranges are merged, and if that does not
// help, written back at once.
//
// Locks: none; a thread's list is its own.
#pragma once

#include <libpmem2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "media/fault_log.h"
#include "media/medium.h"

namespace udax::media {

/// An open descriptor, closed when it goes.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor();
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class DeepFlush;

class PoolMapping {
 public:
  /// Maps all of the file or devdax behind `fd`. `path` is for `why` only.
  [[nodiscard]] static Result<std::shared_ptr<PoolMapping>> map(FileDescriptor fd, const std::string& path,
                                                                bool is_writable, std::string* why);
  ~PoolMapping();
  PoolMapping(const PoolMapping&) = delete;
  PoolMapping& operator=(const PoolMapping&) = delete;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::byte* base() const { return base_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] Granularity granularity() const { return granularity_; }
  [[nodiscard]] const char* kind() const { return kind_; }
  /// What the user should know of how stores to this pool persist; empty: nothing.
  [[nodiscard]] const std::string& note() const { return note_; }
  [[nodiscard]] const FaultLog& fault_log() const { return *fault_log_; }

  void copy(uint64_t offset, const void* source, uint64_t size);
  void copy_nt(uint64_t offset, const void* source, uint64_t size);
  void zero_nt(uint64_t offset, uint64_t size);
  void flush(uint64_t offset, uint64_t size);
  [[nodiscard]] Status drain(const std::shared_ptr<PoolMapping>& self);
  /// This thread's last drain failed, and only by note_loss().
  [[nodiscard]] bool failed_by_loss() const;
  [[nodiscard]] Status deep_flush(const std::shared_ptr<PoolMapping>& self, uint64_t offset, uint64_t size);

  /// Page granularity: adds a range to what this thread has to msync.
  void note(const std::shared_ptr<PoolMapping>& self, uint64_t offset, uint64_t size);
  /// Something was stored where it will not last: this thread's next drain fails.
  void note_loss(const std::shared_ptr<PoolMapping>& self);
  [[nodiscard]] bool needs_msync() const { return needs_msync_; }
  /// msync of a range, widened to pages.
  [[nodiscard]] bool sync(uint64_t offset, uint64_t size);

 private:
  PoolMapping() = default;
  [[nodiscard]] Status flush_deeply(uint64_t offset, uint64_t size);
  [[nodiscard]] Status map_source(pmem2_source* source, const std::string& path, bool is_writable,
                                  std::string* why);
  void find_kind(bool is_device, const std::string& path);
  void note_bad_blocks(pmem2_source* source);

  FileDescriptor fd_;
  pmem2_map* map_ = nullptr;
  std::byte* base_ = nullptr;
  uint64_t size_ = 0;
  uint64_t id_ = 0;  // never used twice in a process
  Granularity granularity_ = Granularity::kPage;
  bool needs_msync_ = true;
  const char* kind_ = "file";
  std::string note_;
  std::unique_ptr<FaultLog> fault_log_;
  std::unique_ptr<DeepFlush> deep_flush_;  // of a devdax device
  pmem2_memcpy_fn memcpy_ = nullptr;
  pmem2_memset_fn memset_ = nullptr;
  pmem2_flush_fn flush_ = nullptr;
  pmem2_drain_fn drain_ = nullptr;
};

}  // namespace udax::media

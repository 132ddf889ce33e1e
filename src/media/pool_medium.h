// SPDX-License-Identifier: BSD-3-Clause
//
// A pool on a real file or character device, mapped through libpmem2, and the exclusive use of it.
//
// Exclusive use: an open-file-description lock (flock(2), LOCK_EX) on the pool's descriptor, held until the
// medium is destroyed or the process dies. Readers that only look (udaxctl info, dump) take none or LOCK_SH.
// Who holds it is written by the holder into the holder block, for the message that others get.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "media/medium.h"

namespace udax::media {

enum class OpenMode : uint8_t {
  kReadOnly,           // no lock: looks on while others use it
  kReadOnlyExclusive,  // shared lock: nobody writes meanwhile (fsck -n)
  kExclusive,          // exclusive lock, writable
};

struct OpenOptions {
  OpenMode mode = OpenMode::kExclusive;
  /// How long to wait for another to let go (an unmount may still be finishing).
  std::chrono::milliseconds lock_wait{0};
};

/// Who has a pool open, as its holder block tells; pid 0 if it does not tell.
struct Holder {
  uint32_t pid = 0;
  std::string program;
  std::string mountpoint;
};

class PoolMedium final : public Medium {
 public:
  /// Maps `path`: a regular file, or a devdax character device. On failure `why` gets one sentence for the user
  /// that says what to do. kNotFound, kAccess, kBusy (in use: names the holder), kInvalid (a directory, a block
  /// device such as /dev/pmem0, too small), kIo.
  [[nodiscard]] static Result<std::unique_ptr<PoolMedium>> open(const std::string& path,
                                                                const OpenOptions& options, std::string* why);
  /// Makes the regular file `path` of `size` bytes, or sets the size of the one there, before open(). It is sparse, but on
  /// a DAX filesystem, where it gets all its blocks.
  [[nodiscard]] static Status create_file(const std::string& path, uint64_t size, std::string* why);

  ~PoolMedium() override;

  void store(uint64_t offset, const void* source, uint64_t size) override;
  void store_nt(uint64_t offset, const void* source, uint64_t size) override;
  void zero_nt(uint64_t offset, uint64_t size) override;
  void flush(uint64_t offset, uint64_t size) override;
  [[nodiscard]] Status drain() override;
  [[nodiscard]] Status deep_flush(uint64_t offset, uint64_t size) override;
  [[nodiscard]] uint64_t faults() const override;
  using Medium::is_lost;
  [[nodiscard]] bool is_lost(uint64_t offset, uint64_t size) const override;
  [[nodiscard]] bool failed_by_loss() const override;
  [[nodiscard]] uint64_t lost_pages() const override;
  [[nodiscard]] std::vector<LostRange> lost_ranges() const override;
  [[nodiscard]] Counters counters() const override;
  [[nodiscard]] int fd() const override;

  /// Writes / clears the holder block. REQUIRES: opened kExclusive.
  void announce_holder(const std::string& program, const std::string& mountpoint);
  void clear_holder();
  [[nodiscard]] static Holder read_holder(const Medium& medium);

  [[nodiscard]] const std::string& path() const;
  /// For messages: "tmpfs", "devdax", "fsdax", "file".
  [[nodiscard]] const std::string& kind() const;
  /// What the user should know of how stores to it persist, in a sentence; empty: nothing.
  [[nodiscard]] const std::string& note() const;

 private:
  struct Impl;
  explicit PoolMedium(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace udax::media

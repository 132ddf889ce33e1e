// SPDX-License-Identifier: BSD-3-Clause
//
// A mapper for tests: simulated processes with page tables of their own, whose loads and stores go through the fault path
// and then reach the pool directly.
//
// What stands for what
//   ModelMapper    a machine's memory management: takes views out of all page tables when it is told to
//   Mapping        what mmap(2) gives: one process's page table for one file
//   load, store    a CPU's: pieces of at most 8 bytes. A piece looks its page up and touches it with the page table's lock
//                  held shared; invalidate and write_protect take it exclusive, as a TLB shootdown waits for every CPU.
//                  So when they have returned no thread is left that could use an old view.
//   a fault        runs without the lock, and may find on its return that the view is gone again: then it is repeated
//
// A page of a private mapping that was stored to belongs to its process, and stays whatever happens to the file.
//
// Races on bytes: stores and loads through views are atomic byte by byte. Two threads that touch the same bytes at once,
// one of them by write(2), truncation of a part of a page and the like, race as an application's would; tests that
// ThreadSanitizer watches keep threads to bytes of their own. The copy of a whole page for a private mapping, which
// reads everybody's bytes, is kept out of its sight.
//
// Where the medium is a RecordingMedium, stores through views are logged as cached stores.
//
// Sync points: "model.fault" before each fault, "model.access" in the midst of an access that has found its view.
//
// Thread safety: everything. Locks: page tables are leaves.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "fs/filesystem.h"
#include "media/recording_medium.h"

namespace udax::test {

/// What became of an access.
enum class Touch : uint8_t {
  kDone,
  kBeyondEnd,  // SIGBUS: behind the end of the file
  kFailed,     // SIGBUS: no room, bad media, ...
};

class Mapping;

class ModelMapper final : public mapping::Mapper {
 public:
  enum class Pages : uint8_t { kSmall, kHuge };

  /// `fs` must outlive this.
  explicit ModelMapper(fs::Filesystem& fs, Pages pages = Pages::kSmall);
  ~ModelMapper() override;
  ModelMapper(const ModelMapper&) = delete;
  ModelMapper& operator=(const ModelMapper&) = delete;

  void invalidate(Ino ino, mapping::ByteRange range) override;
  void write_protect(Ino ino, mapping::ByteRange range) override;

  /// How often it was told to.
  [[nodiscard]] uint64_t invalidations() const { return invalidations_.load(); }
  [[nodiscard]] uint64_t protections() const { return protections_.load(); }

 private:
  friend class Mapping;
  fs::Filesystem& fs_;
  const uint32_t order_max_;
  media::RecordingMedium* const recording_;  // null: the medium is none
  SharedMutex mutex_;
  std::vector<Mapping*> mappings_ UDAX_GUARDED_BY(mutex_);
  std::atomic<uint64_t> invalidations_{0};
  std::atomic<uint64_t> protections_{0};
};

class Mapping {
 public:
  enum class Kind : uint8_t { kShared, kPrivate };

  /// Maps all of the file, and what it may grow to. Holds it open.
  Mapping(ModelMapper& mapper, Ino ino, Kind kind = Kind::kShared);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  /// Stops at the first piece that raises SIGBUS.
  [[nodiscard]] Touch load(uint64_t offset, void* to, uint64_t size);
  [[nodiscard]] Touch store(uint64_t offset, const void* from, uint64_t size);

  // The same, expected to succeed.
  [[nodiscard]] std::string get(uint64_t offset, uint64_t size);
  void put(uint64_t offset, std::string_view bytes);

  /// Why the last access of this thread or another failed.
  [[nodiscard]] Error error() const { return error_.load(); }

  // What the page table holds now.
  struct Pte {
    bool is_there = false;
    bool is_writable = false;
    bool is_huge = false;
    bool is_own = false;  // a private copy
    DeviceBlock device;   // kNoBlock: zeroes
  };
  [[nodiscard]] Pte pte(FileBlock at);
  [[nodiscard]] uint64_t faults() const { return faults_.load(); }
  [[nodiscard]] fs::OpenFile& file() { return *file_; }

 private:
  friend class ModelMapper;
  using Page = std::array<std::byte, kBlockSize>;
  struct Slot {
    DeviceBlock device;
    bool is_writable = false;
    std::unique_ptr<Page> own;
  };
  struct Found {
    const Slot* slot = nullptr;
    uint64_t block = 0;  // within the slot's view
    bool is_huge = false;
  };
  /// Excludes all accesses of the process.
  class UDAX_SCOPED_CAPABILITY Shootdown;

  [[nodiscard]] Found find(FileBlock at) const UDAX_REQUIRES_SHARED(lock_);
  [[nodiscard]] bool try_access(uint64_t offset, std::byte* to, const std::byte* from, uint64_t size);
  [[nodiscard]] Touch access(uint64_t offset, std::byte* to, const std::byte* from, uint64_t size);
  [[nodiscard]] Touch fault(FileBlock at, bool is_store);
  void install(const dax::View& view, bool copies);
  void take(mapping::ByteRange range, bool whole);

  ModelMapper& mapper_;
  const Kind kind_;
  fs::OpenFilePtr file_;
  std::atomic<uint32_t> waiting_{0};  // for lock_, exclusive: accesses stand back, or they could starve it
  SharedMutex lock_;
  std::unordered_map<uint64_t, Slot> small_ UDAX_GUARDED_BY(lock_);  // by file block; wins over huge_
  std::unordered_map<uint64_t, Slot> huge_ UDAX_GUARDED_BY(lock_);   // by first file block
  std::atomic<uint64_t> faults_{0};
  std::atomic<Error> error_{Error::kIo};
};

}  // namespace udax::test

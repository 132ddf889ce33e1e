// SPDX-License-Identifier: BSD-3-Clause
//
// The pool as the check reads it: the medium, and over it what a replay of the journal would store.
//
// Invariants
// - Nothing is stored to the medium through here.
// - A block read twice is the same both times, and all offsets given must lie within the pool: what comes from the
//   medium is checked by the caller before it is used as an offset.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "base/error.h"
#include "format/checksum.h"
#include "format/format.h"
#include "media/medium.h"
#include "media/superblock.h"

namespace udax::check {

/// What the control block and the ring say.
struct JournalState {
  bool valid = false;            // there is a valid slot
  bool clean = false;            // and it says so
  bool bad_record = false;       // a record that no writer would have written, or that is lost, ended the replay
  bool expects_records = false;  // the pool was not closed
  uint64_t records = 0;          // that wait for replay
  uint64_t tail = 0;
  uint64_t end = 0;  // behind the last whole record
  uint64_t sequence = 0;
  uint64_t epoch = 0;
  uint64_t epoch_last = 0;  // of both slots: the next one must be behind it
};

class Image {
 public:
  Image(const media::Medium& medium, const media::Geometry& geometry) : medium_(medium), geometry_(geometry) {}

  [[nodiscard]] const media::Medium& medium() const { return medium_; }
  [[nodiscard]] const media::Geometry& geometry() const { return geometry_; }
  [[nodiscard]] uint32_t seed() const { return geometry_.checksum_seed; }

  [[nodiscard]] const std::byte* block(uint64_t b) const {
    if (!overlay_.empty()) {
      const auto found = overlay_.find(b);
      if (found != overlay_.end()) return found->second->bytes.data();
    }
    return medium_.block(DeviceBlock(b));
  }
  /// REQUIRES: what is read lies within one block.
  template <typename T>
  [[nodiscard]] const T* as(uint64_t offset) const {
    return reinterpret_cast<const T*>(block(offset >> kBlockShift) + (offset & (kBlockSize - 1)));
  }
  /// True if the medium has lost the block: what it shows is invented.
  [[nodiscard]] bool is_lost(uint64_t b) const { return medium_.is_lost(offset_of(DeviceBlock(b)), kBlockSize); }

  /// Reads the control block, and counts the records that wait.
  [[nodiscard]] JournalState read_journal() const;
  /// Lays those records over the medium. May throw std::bad_alloc.
  void replay(const JournalState& state);

 private:
  struct alignas(kCacheLine) Page {
    std::array<std::byte, kBlockSize> bytes;
  };
  struct Record;
  [[nodiscard]] bool load_record(const JournalState& state, uint64_t position, Record* out, bool* bad) const;
  void store(uint64_t offset, const std::byte* bytes, uint32_t size);

  const media::Medium& medium_;
  const media::Geometry geometry_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> overlay_;
};

}  // namespace udax::check

// SPDX-License-Identifier: BSD-3-Clause
//
// A file in memory that does everything right but for one thing.
#pragma once

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <vector>

#include "tools/fsx/op.h"
#include "tools/fsx/target.h"

namespace udax::fsx {

enum class Bug : uint8_t {
  kNone,
  kPunchKeepsTail,   // a punch leaves the bytes of its last, partial page
  kAppendLost,       // an append right after a truncate is acknowledged, and not done
  kZeroPageKept,     // a hole's page that a mapping has seen shows zeroes there for good
  kExtendShowsOld,   // what truncate cut off within the last page comes back when the file grows
  kMappedStoreLost,  // a write into a page takes the stores with it that a mapping made there since the last sync
  kDirectReadIsStale,   // O_DIRECT does not see what the mapping stored since the last sync
  kCopyIsShort,         // a copy of more than a page leaves its last byte out
  kZeroRangeKeepsSize,  // ZERO_RANGE past the end does not make the file longer
  kHoleOverData,        // SEEK_DATA leaves the file's first page out
  kFlipDropsStores,     // a flip forgets what the mapping stored since the last sync
  kFailsOnce,           // EIO, when a write begins in a page that was punched
};

class FaultyFile : public Target {
 public:
  explicit FaultyFile(Bug bug, uint64_t size = 0) : bug_(bug), bytes_(size) {}

  int64_t read(int fd, uint64_t offset, std::span<std::byte> out) override {
    if (offset >= bytes_.size()) return 0;
    const uint64_t n = std::min<uint64_t>(out.size(), bytes_.size() - offset);
    std::copy_n(at(offset), n, out.begin());
    if (bug_ == Bug::kDirectReadIsStale && fd == kDirectFd) {
      for (const auto& [place, old] : unsynced_) {
        if (place >= offset && place < offset + n) out[place - offset] = old;
      }
    }
    return static_cast<int64_t>(n);
  }

  int64_t write(int fd, uint64_t offset, std::span<const std::byte> data) override {
    if (fd == kAppendFd) offset = bytes_.size();
    if (bug_ == Bug::kAppendLost && fd == kAppendFd && truncated_) data = data.first(0);
    if (bug_ == Bug::kFailsOnce && punched_.contains(offset / kPage)) return -EIO;
    if (bug_ == Bug::kMappedStoreLost) undo(offset / kPage * kPage, offset + data.size());
    grow(offset + data.size());
    std::copy(data.begin(), data.end(), at(offset));
    for (uint64_t i = offset; i < offset + data.size(); ++i) unsynced_.erase(i);
    truncated_ = false;
    return static_cast<int64_t>(data.size());
  }

  int64_t map_load(int, uint64_t offset, std::span<std::byte> out) override { return load(offset, out); }
  int64_t map_store(int, uint64_t offset, std::span<const std::byte> data) override { return store(offset, data); }
  int64_t map_private(int, uint64_t offset, std::span<std::byte> before, std::span<const std::byte> data,
                      std::span<std::byte> after) override {
    std::copy(data.begin(), data.end(), after.begin());
    return load(offset, before);
  }
  int64_t hold(int) override {
    zero_pages_.clear();
    return 0;
  }
  int64_t hold_load(uint64_t offset, std::span<std::byte> out) override {
    const int64_t done = load(offset, out);
    if (bug_ != Bug::kZeroPageKept || done < 0) return done;
    for (uint64_t i = 0; i < out.size(); ++i) {
      const uint64_t page = (offset + i) / kPage;
      if (is_zero(page)) zero_pages_.insert(page);
      if (zero_pages_.contains(page)) out[i] = std::byte{0};
    }
    return done;
  }
  int64_t hold_store(uint64_t offset, std::span<const std::byte> data) override {
    for (uint64_t i = 0; i < data.size(); ++i) zero_pages_.erase((offset + i) / kPage);
    return store(offset, data);
  }
  int64_t hold_sync(uint64_t, uint64_t) override {
    unsynced_.clear();
    return 0;
  }

  int64_t truncate(int, uint64_t size) override { return truncate_path(size); }
  int64_t truncate_path(uint64_t size) override {
    const uint64_t old = bytes_.size();
    std::vector<std::byte> cut;
    const uint64_t page_end = std::min(old, (size + kPage - 1) / kPage * kPage);
    if (bug_ == Bug::kExtendShowsOld && size < page_end) cut.assign(at(size), at(page_end));
    grow(size);
    bytes_.resize(size);
    unsynced_.erase(unsynced_.lower_bound(size), unsynced_.end());
    if (!cut.empty()) cut_ = {size, std::move(cut)};
    truncated_ = true;
    return 0;
  }

  int64_t fallocate(int, int mode, uint64_t offset, uint64_t length) override {
    if ((mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0) return move(mode, offset, length);
    const bool keeps = (mode & FALLOC_FL_KEEP_SIZE) != 0 ||
                       (bug_ == Bug::kZeroRangeKeepsSize && (mode & FALLOC_FL_ZERO_RANGE) != 0);
    uint64_t end = offset + length;
    if (!keeps) grow(end);
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      for (uint64_t page = (offset + kPage - 1) / kPage; page < end / kPage; ++page) punched_.insert(page);
    }
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) return 0;
    if (bug_ == Bug::kPunchKeepsTail && (mode & FALLOC_FL_PUNCH_HOLE) != 0) end = end / kPage * kPage;
    end = std::min<uint64_t>(end, bytes_.size());
    if (offset < end) std::fill(at(offset), at(end), std::byte{0});
    if (offset < end) unsynced_.erase(unsynced_.lower_bound(offset), unsynced_.lower_bound(end));
    return 0;
  }

  int64_t copy(bool from_second, int, uint64_t from, bool to_second, uint64_t to, uint64_t length) override {
    std::vector<std::byte>& source = from_second ? second_ : bytes_;
    if (from >= source.size()) return 0;
    length = std::min<uint64_t>(length, source.size() - from);
    const auto begin = source.begin() + static_cast<std::ptrdiff_t>(from);
    std::vector<std::byte> data(begin, begin + static_cast<std::ptrdiff_t>(length));
    const auto whole = static_cast<int64_t>(length);
    if (bug_ == Bug::kCopyIsShort && length > kPage) data.pop_back();
    if (!to_second) return write(0, to, data), grow(to + length), whole;
    if (second_.size() < to + length) second_.resize(to + length);
    std::copy(data.begin(), data.end(), second_.begin() + static_cast<std::ptrdiff_t>(to));
    return whole;
  }
  int64_t read_second(uint64_t offset, std::span<std::byte> out) override {
    const uint64_t n = offset < second_.size() ? std::min<uint64_t>(out.size(), second_.size() - offset) : 0;
    std::copy_n(second_.begin() + static_cast<std::ptrdiff_t>(offset), n, out.begin());
    return static_cast<int64_t>(n);
  }

  int64_t sync(int, bool) override { return hold_sync(0, 0); }
  int64_t drop(int) override { return 0; }
  int64_t reopen(int) override { return 0; }
  int64_t rename() override { return 0; }
  int64_t seek(int, uint64_t offset, int whence) override {
    if (offset >= bytes_.size()) return -ENXIO;
    if (whence == SEEK_HOLE) return static_cast<int64_t>(bytes_.size());
    const bool skips = bug_ == Bug::kHoleOverData && offset < kPage;
    if (skips && bytes_.size() <= kPage) return -ENXIO;
    return static_cast<int64_t>(skips ? kPage : offset);
  }
  int64_t size(int) override { return static_cast<int64_t>(bytes_.size()); }
  FlipResult flip(int, bool) override {
    if (bug_ == Bug::kFlipDropsStores) undo(0, bytes_.size());
    unsynced_.clear();
    return {};
  }

 private:
  static constexpr uint64_t kPage = 4096;

  std::vector<std::byte>::iterator at(uint64_t offset) {
    return bytes_.begin() + static_cast<std::ptrdiff_t>(offset);
  }
  void grow(uint64_t size) {
    if (size <= bytes_.size()) return;
    const uint64_t old = bytes_.size();
    bytes_.resize(size);
    if (cut_.first == old)
      std::copy_n(cut_.second.begin(), std::min<uint64_t>(cut_.second.size(), size - old), at(old));
    cut_ = {UINT64_MAX, {}};
  }
  bool is_zero(uint64_t page) {
    const uint64_t begin = std::min<uint64_t>(page * kPage, bytes_.size());
    const uint64_t end = std::min<uint64_t>(begin + kPage, bytes_.size());
    return std::all_of(at(begin), at(end), [](std::byte byte) { return byte == std::byte{0}; });
  }
  int64_t load(uint64_t offset, std::span<std::byte> out) {
    const uint64_t end = (bytes_.size() + kPage - 1) / kPage * kPage;
    if (offset + out.size() > end) return -EFAULT;
    std::fill(out.begin(), out.end(), std::byte{0});
    return read(0, offset, out) < 0 ? -EFAULT : 0;
  }
  int64_t store(uint64_t offset, std::span<const std::byte> data) {
    if (offset + data.size() > bytes_.size()) return -EFAULT;
    for (uint64_t i = 0; i < data.size(); ++i) unsynced_.try_emplace(offset + i, bytes_[offset + i]);
    std::copy(data.begin(), data.end(), at(offset));
    return 0;
  }
  void undo(uint64_t begin, uint64_t end) {
    const auto first = unsynced_.lower_bound(begin);
    const auto last = unsynced_.lower_bound((end + kPage - 1) / kPage * kPage);
    for (auto it = first; it != last; ++it) {
      if (it->first < bytes_.size()) bytes_[it->first] = it->second;
    }
    unsynced_.erase(first, last);
  }
  int64_t move(int mode, uint64_t offset, uint64_t length) {
    unsynced_.clear();
    if ((mode & FALLOC_FL_COLLAPSE_RANGE) != 0) {
      bytes_.erase(at(offset), at(offset + length));
    } else {
      bytes_.insert(at(offset), length, std::byte{0});
    }
    return 0;
  }

  const Bug bug_;
  std::vector<std::byte> bytes_;
  std::vector<std::byte> second_;
  std::map<uint64_t, std::byte> unsynced_;  // what was there before the mapping's stores
  std::set<uint64_t> zero_pages_;
  std::set<uint64_t> punched_;
  std::pair<uint64_t, std::vector<std::byte>> cut_{UINT64_MAX, {}};
  bool truncated_ = false;
};

}  // namespace udax::fsx

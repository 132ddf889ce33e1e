// SPDX-License-Identifier: BSD-3-Clause
//
// A kernel's page cache as a holder of copies, for tests: pages that it fills, stores through a mapping to them, cached
// write(2), write-back, and dropping. As FUSE's without the write-back cache: a cached write goes through at once, stores
// through mappings come back later, whole pages up to the file's end.
//
// Thread safety: one thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "tests/support/pool.h"

namespace udax::test {

class ModelPageCache final : public mapping::CopyHolder {
 public:
  /// Of the file that `file` has open; both must outlive this.
  /// `returns_late`: as Linux before 6.16: a write-back is sent now and comes later, and no drop waits for it.
  ModelPageCache(fs::Filesystem& fs, fs::OpenFile& file, bool returns_late = false)
      : fs_(fs), file_(file), returns_late_(returns_late) {
    fs_.mappers().add(this);
  }
  ~ModelPageCache() override { fs_.mappers().remove(this); }
  ModelPageCache(const ModelPageCache&) = delete;
  ModelPageCache& operator=(const ModelPageCache&) = delete;

  /// read(2), or loads through a mapping. REQUIRES: within the file.
  std::string load(uint64_t offset, uint64_t size) {
    std::string out;
    for (uint64_t at = offset; at < offset + size; ++at) out += filled(at / kBlockSize).bytes[at % kBlockSize];
    return out;
  }
  /// Stores through a mapping.
  void store(uint64_t offset, std::string_view bytes) {
    for (uint64_t i = 0; i < bytes.size(); ++i) {
      Page& page = filled((offset + i) / kBlockSize);
      page.bytes[(offset + i) % kBlockSize] = bytes[i];
      page.is_dirty = true;
    }
  }
  /// write(2). The bytes go to pages that are here, and to those that are written whole.
  void write(uint64_t offset, std::string_view data) {
    for (uint64_t p = offset / kBlockSize; p < blocks_for(offset + data.size()); ++p) {
      const uint64_t from = std::max(offset, p * kBlockSize);
      const uint64_t to = std::min(offset + data.size(), (p + 1) * kBlockSize);
      arrive(p);
      if (to - from < kBlockSize && !pages_.contains(p)) continue;
      std::memcpy(pages_[p].bytes.data() + from % kBlockSize, data.data() + (from - offset), to - from);
    }
    if (under_way_) under_way_();
    fs::DoubtfulCopies doubtful;
    const auto done = fs_.write_through(file_, offset, test::bytes(data), false, &doubtful);
    EXPECT_TRUE(done && *done == data.size());
    if (doubtful.any() && !fs_.mend_copies(file_, doubtful)) fs_.mend_copies_at_end(file_, doubtful);
  }
  /// Called when a write has put its bytes into pages, and the filesystem does not know of it.
  void under_way(std::function<void()> what) { under_way_ = std::move(what); }
  void write_back(uint64_t page) {
    const auto at = pages_.find(page);
    if (at == pages_.end() || !at->second.is_dirty) return;
    at->second.is_dirty = false;
    const uint64_t size = fs_.getattr(file_.ino())->size;
    if (page * kBlockSize >= size) return;
    arrive(page);  // one at a time
    sent_[page] = std::string(at->second.bytes.data(), std::min<uint64_t>(kBlockSize, size - page * kBlockSize));
    if (!returns_late_) arrive(page);
  }
  /// What was sent back of the page comes.
  void arrive(uint64_t page) {
    const auto sent = sent_.extract(page);
    if (sent.empty()) return;
    EXPECT_TRUE(fs_.write_back(file_, page * kBlockSize, test::bytes(sent.mapped())));
  }
  void arrive_all() {
    while (!sent_.empty()) arrive(sent_.begin()->first);
  }
  /// As truncate_pagecache(), after the file was cut: without writing back.
  void cut(uint64_t size) {
    pages_.erase(pages_.lower_bound(blocks_for(size)), pages_.end());
    if (const auto last = pages_.find(size / kBlockSize); last != pages_.end()) {
      std::fill(last->second.bytes.begin() + static_cast<long>(size % kBlockSize), last->second.bytes.end(), '\0');
    }
  }
  void drop_copies(Ino ino, mapping::ByteRange range) override {
    if (ino != file_.ino()) return;
    if (between_) between_();
    for (uint64_t p = range.start / kBlockSize; !pages_.empty() && p <= pages_.rbegin()->first; ++p) {
      if (p * kBlockSize >= range.end) break;
      if (const auto page = pages_.find(p); page != pages_.end() && page->second.is_dirty) {
        write_back(p);
        arrive(p);
      }
      pages_.erase(p);
      if (between_) between_();
    }
  }
  void drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes) override {
    if (ino != file_.ino()) return;
    for (uint64_t p = offset / kBlockSize; p < blocks_for(offset + bytes.size()); ++p) {
      const auto page = pages_.find(p);
      if (page == pages_.end()) continue;
      const uint64_t from = std::max(offset, p * kBlockSize);
      const uint64_t to = std::min(offset + bytes.size(), (p + 1) * kBlockSize);
      const bool is_like = std::memcmp(page->second.bytes.data() + from % kBlockSize,
                                       bytes.data() + (from - offset), to - from) == 0;
      if (!is_like) drop_copies(ino, {p * kBlockSize, (p + 1) * kBlockSize});
    }
  }
  [[nodiscard]] bool returns_late() const override { return returns_late_; }
  /// Called before pages are dropped, and after each: what others do meanwhile.
  void between(std::function<void()> what) { between_ = std::move(what); }
  [[nodiscard]] bool has(uint64_t page) const { return pages_.contains(page); }

 private:
  struct Page {
    std::array<char, kBlockSize> bytes{};
    bool is_dirty = false;
  };
  Page& filled(uint64_t page) {
    const auto [at, is_new] = pages_.try_emplace(page);
    Page& p = at->second;
    if (is_new) {
      arrive(page);
      uint64_t n = 0;
      EXPECT_TRUE(
          fs_.fill(file_, page * kBlockSize, kBlockSize, [&](std::span<const iovec> pieces, uint64_t) -> Status {
            for (const iovec& piece : pieces) {
              std::memcpy(p.bytes.data() + n, piece.iov_base, piece.iov_len);
              n += piece.iov_len;
            }
            return {};
          }));
    }
    return p;
  }

  fs::Filesystem& fs_;
  fs::OpenFile& file_;
  const bool returns_late_;
  std::map<uint64_t, Page> pages_;
  std::map<uint64_t, std::string> sent_;  // back, and not come yet
  std::function<void()> between_;
  std::function<void()> under_way_;
};

}  // namespace udax::test

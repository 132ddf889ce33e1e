// SPDX-License-Identifier: BSD-3-Clause
//
// A tree in memory that does everything right but for one thing.
#pragma once

#include <linux/fs.h>
#include <time.h>

#include <cerrno>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tools/storm/model.h"

namespace udax::storm {

enum class Bug : uint8_t {
  kNone,
  kNoReplaceReplaces,
  kExchangeMovesOnly,  // the second of the two is gone
  kUnlinkKeepsCount,   // the link count of what has other names
  kRmdirTakesAll,      // a directory that is not empty
  kRenameLosesXattrs,
  kRenameKeepsName,  // over a file: the old name stays
  kOrphanIsEmpty,    // an unlinked open file loses its bytes
  kOrphanComesBack,  // and can be linked again
  kWriteKeepsTime,   // mtime
  kChmodSetsTime,    // mtime
  kUtimensCutsTime,  // to a second
  kScanSkips,        // an entry, when one before it is unlinked
  kListTwice,        // an entry of a directory that had over 12
  kExtendShowsOld,   // truncate up after down: the old bytes
  kChownKeepsSetUid,
  kFlagIsNotInherited,
  kSymlinkCut,  // a target of over 60 bytes
};

class FaultyTree : public Model {
 public:
  FaultyTree(Bug bug, Owner owner) : Model(owner, 0755, bug != Bug::kFlagIsNotInherited), bug_(bug) {}

  int rename(const std::string& from, const std::string& to, unsigned flags) override {
    if (bug_ == Bug::kNoReplaceReplaces && flags == RENAME_NOREPLACE) flags = 0;
    Node* const source = find(from);
    Node* const target = find(to);
    const bool over_file = source != nullptr && target != nullptr && source->is_file() && target->is_file() &&
                           source != target && flags == 0;
    const int result = Model::rename(from, to, flags);
    if (result != 0) return result;
    if (bug_ == Bug::kExchangeMovesOnly && flags == RENAME_EXCHANGE && !find(from)->is_dir() && source != target) {
      return unlink(from);
    }
    if (bug_ == Bug::kRenameLosesXattrs) source->xattrs.clear();
    if (bug_ == Bug::kRenameKeepsName && over_file) return link(to, from);
    return 0;
  }

  int unlink(const std::string& path) override {
    Node* const node = find(path);
    const bool more = node != nullptr && node->nlink > 1;
    const bool last = node != nullptr && node->nlink == 1;
    const auto kept = node != nullptr && last ? hold(node) : nullptr;
    const int result = Model::unlink(path);
    if (result != 0) return result;
    ++unlinked_;
    if (bug_ == Bug::kUnlinkKeepsCount && more) ++node->nlink;
    if (bug_ == Bug::kOrphanIsEmpty && kept != nullptr) kept->bytes.clear();
    if (bug_ == Bug::kOrphanComesBack && kept != nullptr) kept->linkable = true;
    return 0;
  }

  int rmdir(const std::string& path) override {
    Node* const node = find(path);
    if (bug_ == Bug::kRmdirTakesAll && node != nullptr && node->is_dir()) node->entries.clear();
    return Model::rmdir(path);
  }

  int write(const std::string& path, uint64_t offset, std::span<const std::byte> data) override {
    const int result = Model::write(path, offset, data);
    if (bug_ == Bug::kWriteKeepsTime && result == 0) times_[find(path)->ino].version = find(path)->mtime_version;
    return result;
  }
  int truncate(const std::string& path, uint64_t size) override {
    Node* const node = find(path);
    std::vector<std::byte> old;
    if (node != nullptr) old = node->bytes;
    const int result = Model::truncate(path, size);
    if (bug_ != Bug::kExtendShowsOld || result != 0) return result;
    if (size < old.size()) {
      cut_[node->ino] = std::move(old);
    } else if (cut_.contains(node->ino)) {
      const std::vector<std::byte>& before = cut_[node->ino];
      for (size_t i = old.size(); i < std::min<size_t>(size, before.size()); ++i) node->bytes[i] = before[i];
    }
    return 0;
  }
  int chmod(const std::string& path, uint32_t mode) override {
    const int result = Model::chmod(path, mode);
    if (bug_ == Bug::kChmodSetsTime && result == 0) times_[find(path)->ino].version = 0;
    return result;
  }
  int chown(const std::string& path, uint32_t uid, uint32_t gid) override {
    Node* const node = find(path);
    const uint32_t mode = node != nullptr ? node->mode : 0;
    const int result = Model::chown(path, uid, gid);
    if (bug_ == Bug::kChownKeepsSetUid && result == 0) node->mode = mode;
    return result;
  }
  int utimens(const std::string& path, int64_t mtime_ns) override {
    return Model::utimens(path, bug_ == Bug::kUtimensCutsTime ? mtime_ns / kSecond * kSecond : mtime_ns);
  }
  int symlink(const std::string& target, const std::string& path) override {
    return Model::symlink(bug_ == Bug::kSymlinkCut ? target.substr(0, 60) : target, path);
  }

  int stat(const std::string& path, Attributes& out) override {
    const int result = Model::stat(path, out);
    if (result == 0) set_times(out);
    return result;
  }
  int slot_stat(uint8_t slot, Attributes& out) override {
    const int result = Model::slot_stat(slot, out);
    if (result == 0) set_times(out);
    return result;
  }
  int list(const std::string& path, std::vector<Entry>& out) override {
    const int result = Model::list(path, out);
    if (bug_ == Bug::kListTwice && out.size() > 12) out.push_back(out.front());
    return result;
  }
  int scan_next(std::vector<Entry>& out) override {
    const int result = Model::scan_next(out);
    if (bug_ == Bug::kScanSkips && std::exchange(unlinked_, 0) > 0 && out.size() > 1) out.erase(out.begin());
    return result;
  }

 private:
  static constexpr int64_t kSecond = 1'000'000'000;
  struct Times {
    uint64_t version = UINT64_MAX;
    int64_t mtime_ns = 0;
  };

  // Only while a slot has it does it matter.
  Node* hold(Node* node) {
    for (uint8_t i = 0; i < kSlots; ++i) {
      if (slot(i) == node) return node;
    }
    return nullptr;
  }

  void set_times(Attributes& out) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    Times& times = times_[out.ino];
    if (times.version != out.mtime_version) times = {out.mtime_version, now.tv_sec * kSecond + now.tv_nsec};
    if (!out.mtime_known) out.mtime_ns = times.mtime_ns;
    if (out.mtime_known) times.mtime_ns = out.mtime_ns;
    out.ctime_ns = now.tv_sec * kSecond + now.tv_nsec;
    out.mtime_version = 0;
    out.mtime_known = false;
  }

  const Bug bug_;
  std::map<uint64_t, Times> times_;
  std::map<uint64_t, std::vector<std::byte>> cut_;
  uint64_t unlinked_ = 0;
};

}  // namespace udax::storm

// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <new>
#include <span>

#include "format/format.h"
#include "media/deep_flush.h"
#include "media/pool_file.h"
#include "media/sentence.h"

namespace udax::media {
namespace {

struct PageRange {
  uint64_t begin = 0;  // bytes, page aligned
  uint64_t end = 0;
};

/// What one thread has to write back, or has lost, of one mapping.
struct Pending {
  std::weak_ptr<PoolMapping> owner;
  uint64_t id = 0;          // of the owner; 0: unused
  bool has_failed = false;  // msync said no
  bool has_loss = false;    // something was stored to a lost page
  bool last_by_loss = false;
  uint32_t count = 0;
  std::array<PageRange, 64> ranges;

  [[nodiscard]] std::span<PageRange> used() { return {ranges.data(), count}; }
  void add(PoolMapping& mapping, PageRange range);
  void merge();
  void sync(PoolMapping& mapping);
};

void Pending::add(PoolMapping& mapping, PageRange range) {
  if (count != 0) {
    PageRange& last = ranges.at(count - 1);
    if (range.begin <= last.end && range.end >= last.begin) {
      last = {std::min(last.begin, range.begin), std::max(last.end, range.end)};
      return;
    }
  }
  if (count == ranges.size()) {
    merge();
    if (count > ranges.size() / 2) sync(mapping);
  }
  ranges.at(count++) = range;
}

void Pending::merge() {
  std::sort(used().begin(), used().end(),
            [](const PageRange& a, const PageRange& b) { return a.begin < b.begin; });
  uint32_t kept = 0;
  for (const PageRange& range : used()) {
    if (kept != 0 && range.begin <= ranges.at(kept - 1).end) {
      ranges.at(kept - 1).end = std::max(ranges.at(kept - 1).end, range.end);
    } else {
      ranges.at(kept++) = range;
    }
  }
  count = kept;
}

void Pending::sync(PoolMapping& mapping) {
  merge();
  // Each msync may cost the backing filesystem a commit of its own; one over the whole stretch costs one, and only
  // writes what is dirty.
  constexpr uint32_t kSinglesMax = 4;
  if (count > kSinglesMax) {
    ranges.front().end = ranges.at(count - 1).end;
    count = 1;
  }
  for (const PageRange& range : used()) {
    if (!mapping.sync(range.begin, range.end - range.begin)) has_failed = true;
  }
  count = 0;
}

/// A thread's lists, of the few mappings that it works on.
struct ThreadState {
  std::array<Pending, 8> entries;
  uint32_t next_victim = 0;
};
thread_local ThreadState t_state;

Pending* find_pending(uint64_t id) {
  for (Pending& p : t_state.entries) {
    if (p.id == id) return &p;
  }
  return nullptr;
}

Pending& get_pending(const std::shared_ptr<PoolMapping>& owner, uint64_t id) {
  if (Pending* p = find_pending(id); p != nullptr) return *p;
  Pending* free = nullptr;
  for (Pending& p : t_state.entries) {
    if (p.id == 0 || p.owner.expired()) free = &p;
  }
  if (free == nullptr) {
    // More pools at once than anybody has: finish one for the thread. A failure stays on record with its entry
    // only, hence the one that has failed is not taken.
    for (uint32_t tries = 0;
         free == nullptr || ((free->has_failed || free->has_loss) && tries < t_state.entries.size()); ++tries) {
      free = &t_state.entries.at(t_state.next_victim++ % t_state.entries.size());
    }
    if (const std::shared_ptr<PoolMapping> other = free->owner.lock()) free->sync(*other);
  }
  free->owner = owner;
  free->id = id;
  free->has_failed = false;
  free->has_loss = false;
  free->last_by_loss = false;
  free->count = 0;
  return *free;
}

std::atomic<uint64_t> g_next_id{1};

/// libpmem2 fails with a negated errno or a number of its own. (Debian's build does not export
/// pmem2_err_to_errno().)
Error from_pmem2(int rc) {
  if (rc > PMEM2_E_UNKNOWN) return from_errno(-rc);
  switch (rc) {
    case PMEM2_E_NOSUPP:
    case PMEM2_E_GRANULARITY_NOT_SUPPORTED: return Error::kNotSupported;
    case PMEM2_E_NO_ACCESS: return Error::kAccess;
    case PMEM2_E_IO_FAIL: return Error::kIo;
    default: return Error::kInvalid;
  }
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::shared_ptr<PoolMapping>> PoolMapping::map(FileDescriptor fd, const std::string& path, bool is_writable,
                                                      std::string* why) {
  std::shared_ptr<PoolMapping> mapping(new PoolMapping());
  mapping->fd_ = std::move(fd);
  mapping->id_ = g_next_id.fetch_add(1, std::memory_order_relaxed);
  pmem2_source* source = nullptr;
  if (const int rc = pmem2_source_from_fd(&source, mapping->fd()); rc != 0) {
    // ENOENT: the file is open, so what is not there is its place in /sys, and a devdax device has one.
    if (rc == PMEM2_E_INVALID_FILE_TYPE || rc == -ENOENT) {
      return say(why, Error::kInvalid, path, " is neither a file nor a devdax device (/dev/daxX.Y)");
    }
    return say(why, from_pmem2(rc), path, " cannot be used: ", pmem2_errormsg());
  }
  const Status status = mapping->map_source(source, path, is_writable, why);
  pmem2_source_delete(&source);
  if (!status) return status.error();
  return mapping;
}

Status PoolMapping::map_source(pmem2_source* source, const std::string& path, bool is_writable, std::string* why) {
  struct stat st {};
  if (::fstat(fd(), &st) != 0) return say(why, Error::kIo, path, " cannot be looked at");
  const bool is_device = S_ISCHR(st.st_mode);
  size_t size = 0;
  size_t alignment = kBlockSize;
  if (pmem2_source_size(source, &size) != 0 || pmem2_source_alignment(source, &alignment) != 0) {
    return say(why, Error::kIo, "the size of ", path, " cannot be found out: ", pmem2_errormsg());
  }
  // A device is mapped by whole pages of its own size.
  size_ = align_down(size, is_device ? std::max<uint64_t>(alignment, kBlockSize) : kBlockSize);
  if (size_ / kBlockSize < format::kPoolBlocksMin) {
    return say(why, Error::kInvalid, path, " has ", std::to_string(size),
               " bytes, and a pool takes at least 8 MiB; ",
               is_device ? "use a larger namespace" : "`mkfs.udaxfs -s SIZE` sets the size of a file");
  }

  pmem2_config* config = nullptr;
  int rc = pmem2_config_new(&config);
  if (rc == 0) rc = pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_PAGE);
  if (rc == 0) rc = pmem2_config_set_length(config, size_);
  if (rc == 0 && !is_writable) rc = pmem2_config_set_protection(config, PMEM2_PROT_READ);
  if (rc == 0) rc = pmem2_map_new(&map_, config, source);
  if (config != nullptr) pmem2_config_delete(&config);
  if (rc != 0) {
    return say(why, from_pmem2(rc), path, " cannot be mapped: ", pmem2_errormsg());
  }

  base_ = static_cast<std::byte*>(pmem2_map_get_address(map_));
  ::madvise(base_, size_, MADV_DONTDUMP);  // a core file the size of the pool helps nobody
  switch (pmem2_map_get_store_granularity(map_)) {
    case PMEM2_GRANULARITY_BYTE: granularity_ = Granularity::kByte; break;
    case PMEM2_GRANULARITY_CACHE_LINE: granularity_ = Granularity::kCacheLine; break;
    case PMEM2_GRANULARITY_PAGE: granularity_ = Granularity::kPage; break;
  }
  memcpy_ = pmem2_get_memcpy_fn(map_);
  memset_ = pmem2_get_memset_fn(map_);
  flush_ = pmem2_get_flush_fn(map_);
  drain_ = pmem2_get_drain_fn(map_);
  find_kind(is_device, path);
  const uint64_t unit = is_device ? std::max<uint64_t>(alignment, kBlockSize) : kBlockSize;
  auto log = FaultLog::watch(base_, size_, unit, is_writable);
  if (!log) return say(why, log.error(), path, " cannot be watched for media errors");
  fault_log_ = std::move(log).value();
  note_bad_blocks(source);
  return {};
}

/// What the device says it cannot read. A source that keeps no such list, or one that we may not see, is none the worse:
/// touching the page tells.
void PoolMapping::note_bad_blocks(pmem2_source* source) {
  pmem2_badblock_context* context = nullptr;
  if (pmem2_badblock_context_new(&context, source) != 0) return;
  pmem2_badblock bad{};
  while (pmem2_badblock_next(context, &bad) == 0) fault_log_->note(bad.offset, bad.length);
  pmem2_badblock_context_delete(&context);
}

void PoolMapping::find_kind(bool is_device, const std::string& path) {
  if (is_device) {
    kind_ = "devdax";
    needs_msync_ = granularity_ == Granularity::kPage;
    struct stat st {};
    std::string folder;
    if (::fstat(fd(), &st) == 0) {
      folder = "/sys/dev/char/" + std::to_string(::major(st.st_rdev)) + ":" + std::to_string(::minor(st.st_rdev));
    }
    deep_flush_ = std::make_unique<DeepFlush>(DeepFlush::find(folder));
    note_ = deep_flush_->note();
    return;
  }
  const FileFacts facts = look_at_file(fd());
  needs_msync_ = granularity_ == Granularity::kPage && !facts.is_memory;
  kind_ = facts.is_memory ? "tmpfs" : granularity_ == Granularity::kPage ? "file" : "fsdax";
  note_ = advice(facts, granularity_, path);
}

PoolMapping::~PoolMapping() {
  fault_log_.reset();
  if (map_ != nullptr) pmem2_map_delete(&map_);
}

// libpmem2's copies for page granularity msync every time, which is what the thread's list is there to avoid:
// there, plain copies are made.

void PoolMapping::copy(uint64_t offset, const void* source, uint64_t size) {
  std::byte* to = base_ + offset;
  if (size == sizeof(uint64_t) && offset % sizeof(uint64_t) == 0) {
    // One word at one stroke, for readers and for a crash alike.
    uint64_t word = 0;
    std::memcpy(&word, source, sizeof word);
    __atomic_store_n(reinterpret_cast<uint64_t*>(to), word, __ATOMIC_RELAXED);
  } else if (granularity_ == Granularity::kPage) {
    std::memcpy(to, source, size);
  } else {
    memcpy_(to, source, size, PMEM2_F_MEM_NOFLUSH | PMEM2_F_MEM_NODRAIN);
  }
}

void PoolMapping::copy_nt(uint64_t offset, const void* source, uint64_t size) {
  if (granularity_ == Granularity::kPage) {
    std::memcpy(base_ + offset, source, size);
  } else {
    memcpy_(base_ + offset, source, size, PMEM2_F_MEM_NODRAIN);
  }
}

void PoolMapping::zero_nt(uint64_t offset, uint64_t size) {
  if (granularity_ == Granularity::kPage) {
    std::memset(base_ + offset, 0, size);
  } else {
    memset_(base_ + offset, 0, size, PMEM2_F_MEM_NODRAIN);
  }
}

void PoolMapping::flush(uint64_t offset, uint64_t size) {
  if (granularity_ != Granularity::kPage) flush_(base_ + offset, size);
}

void PoolMapping::note(const std::shared_ptr<PoolMapping>& self, uint64_t offset, uint64_t size) {
  if (size == 0) return;
  get_pending(self, id_).add(*this, {align_down(offset, kBlockSize), align_up(offset + size, kBlockSize)});
}

void PoolMapping::note_loss(const std::shared_ptr<PoolMapping>& self) { get_pending(self, id_).has_loss = true; }

bool PoolMapping::failed_by_loss() const {
  const Pending* const pending = find_pending(id_);
  return pending != nullptr && pending->last_by_loss;
}

Status PoolMapping::drain(const std::shared_ptr<PoolMapping>& self) {
  if (granularity_ != Granularity::kPage) drain_();
  // A thread with no list has, with page granularity, stored nothing; else it has met no loss.
  if (!needs_msync_ && self->fault_log_->lost_pages() == 0) return {};
  Pending* pending = find_pending(id_);
  if (pending == nullptr) return {};
  pending->sync(*this);
  const bool has_failed = pending->has_failed;
  const bool has_loss = pending->has_loss;
  pending->has_failed = false;
  pending->has_loss = false;
  pending->last_by_loss = has_loss && !has_failed;
  if (has_failed || has_loss) return Error::kIo;
  return {};
}

bool PoolMapping::sync(uint64_t offset, uint64_t size) {
  if (!needs_msync_ || size == 0) return true;
  const uint64_t begin = align_down(offset, kBlockSize);
  return ::msync(base_ + begin, align_up(offset + size, kBlockSize) - begin, MS_SYNC) == 0;
}

/// With pages lost in the range the rest is flushed all the same.
Status PoolMapping::deep_flush(const std::shared_ptr<PoolMapping>& self, uint64_t offset, uint64_t size) {
  const Status flushed = flush_deeply(offset, size);
  if (!fault_log_->is_lost(offset, size)) return flushed;
  get_pending(self, id_).last_by_loss = flushed.has_value();
  return Error::kIo;
}

Status PoolMapping::flush_deeply(uint64_t offset, uint64_t size) {
  if (size == 0) return {};
  if (granularity_ == Granularity::kPage) {
    if (!sync(offset, size)) return Error::kIo;
    return {};
  }
  if (std::strcmp(kind_, "tmpfs") == 0) return {};
  if (deep_flush_ != nullptr) return deep_flush_->flush();
  const int rc = pmem2_deep_flush(map_, base_ + offset, size);
  if (rc != 0 && rc != PMEM2_E_NOSUPP) return Error::kIo;
  return {};
}

}  // namespace udax::media

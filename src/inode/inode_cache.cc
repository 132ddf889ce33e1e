// SPDX-License-Identifier: BSD-3-Clause
#include "inode/inode_cache.h"

#include <malloc.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <new>

#include "base/log.h"
#include "inode/flat_table.h"

namespace udax::inode {
namespace {

constexpr uint32_t kShardBits = 6;
constexpr uint32_t kShards = 1U << kShardBits;
/// Places of the table that one release looks at for something to evict: more than the inode it adds.
constexpr uint32_t kEvictionSteps = 64;
/// Numbers forgotten after which to look whether memory can be given back.
constexpr uint64_t kTrimStep = 4096;

uint32_t shard_index(Ino ino) {
  return static_cast<uint32_t>((ino.value * 0x9E3779B97F4A7C15ULL) >> (64 - kShardBits));
}

}  // namespace

struct InodeCache::Impl {
  struct alignas(kCacheLine) Shard {
    mutable Mutex mutex;
    std::condition_variable_any loaded;  // an inode that was being loaded is there, or is not
    /// nullptr: being loaded by a thread.
    FlatTable<Inode*> inodes UDAX_GUARDED_BY(mutex);
    FlatTable<uint64_t> lookups UDAX_GUARDED_BY(mutex);
    uint64_t idle UDAX_GUARDED_BY(mutex) = 0;  // inodes without references
    uint64_t idle_max = 0;
    size_t hand UDAX_GUARDED_BY(mutex) = 0;
    uint64_t hits UDAX_GUARDED_BY(mutex) = 0;
    uint64_t misses UDAX_GUARDED_BY(mutex) = 0;

    ~Shard() UDAX_NO_THREAD_SAFETY_ANALYSIS {  // nobody else is left
      for (const auto& entry : inodes.entries()) delete entry.value;
    }
    /// The entry of `ino` once nobody loads it any more; nullptr: none.
    Inode** settled(Ino ino) UDAX_REQUIRES(mutex) {
      for (;;) {
        Inode** entry = inodes.find(ino.value);
        if (entry == nullptr || *entry != nullptr) return entry;
        loaded.wait(mutex);
      }
    }
    void take(Inode* inode) UDAX_REQUIRES(mutex);
    void evict() UDAX_REQUIRES(mutex);
    /// True if nobody references `inode` and the medium holds all there is to know of it.
    [[nodiscard]] static bool may_go(const Inode& inode);
    void drop(Inode* inode) UDAX_REQUIRES(mutex);
    /// True if `inode` is a ghost that nobody needs any more; it is gone then.
    [[nodiscard]] bool bury(Inode* inode) UDAX_REQUIRES(mutex);
  };

  [[nodiscard]] Shard& shard(Ino ino) { return shards.at(shard_index(ino)); }
  void trim_heap();
  std::array<Shard, kShards> shards;
  std::atomic<uint64_t> forgotten{0};  // numbers, since the heap was trimmed
};

void InodeCache::Impl::Shard::take(Inode* inode) {
  if (inode->references_++ == 0) --idle;
  inode->recently_used_ = true;
}

bool InodeCache::Impl::Shard::may_go(const Inode& inode) {
  return inode.references_ == 0 && !inode.dead.load(std::memory_order_relaxed) && !inode.has_dirty_data() &&
         inode.open_count.load(std::memory_order_relaxed) == 0 && !inode.orphan;
}

void InodeCache::Impl::Shard::drop(Inode* inode) {
  inodes.erase(inode->ino_.value);
  --idle;
  delete inode;
}

/// What must be kept is passed over: it goes when it may, later, or stays until unmount.
void InodeCache::Impl::Shard::evict() {
  for (uint32_t step = 0; step < kEvictionSteps && idle > idle_max; ++step) {
    const auto& entries = inodes.entries();
    if (hand >= entries.size()) hand = 0;
    Inode* const inode = entries[hand].value;
    const bool is_idle = inode != nullptr && inode->references_ == 0;
    if (is_idle && !inode->recently_used_ && may_go(*inode)) {
      drop(inode);  // another may move to its place: the hand stays
      continue;
    }
    if (is_idle) inode->recently_used_ = false;
    ++hand;
  }
}

bool InodeCache::Impl::Shard::bury(Inode* inode) {
  if (inode->references_ > 0 || !inode->dead.load(std::memory_order_relaxed)) return false;
  if (lookups.find(inode->ino_.value) != nullptr) return false;
  drop(inode);
  return true;
}

/// One more number was forgotten. glibc keeps what small objects leave behind unless told not to; telling it takes a walk
/// over the heap, hence only when as many numbers have gone as are left.
void InodeCache::Impl::trim_heap() {
  const uint64_t gone = forgotten.fetch_add(1, std::memory_order_relaxed) + 1;
  if (gone % kTrimStep != 0) return;
  uint64_t left = 0;
  for (const Shard& s : shards) {
    const LockGuard guard(s.mutex);
    left += s.lookups.size();
  }
  if (gone < left) return;
  forgotten.store(0, std::memory_order_relaxed);
  ::malloc_trim(0);
}

InodeCache::InodeCache(InodeTable& table, uint64_t capacity) : table_(table), impl_(std::make_unique<Impl>()) {
  for (Impl::Shard& s : impl_->shards) s.idle_max = (capacity + kShards - 1) / kShards;
}

InodeCache::~InodeCache() = default;

Result<std::vector<InodeRef>> InodeCache::dirty() try {
  std::vector<InodeRef> found;
  for (Impl::Shard& s : impl_->shards) {
    const LockGuard guard(s.mutex);
    for (const auto& entry : s.inodes.entries()) {
      if (entry.value == nullptr || !entry.value->has_dirty_data()) continue;
      found.emplace_back();  // may throw: nothing is taken yet
      s.take(entry.value);
      found.back() = InodeRef(this, entry.value);
    }
  }
  return found;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

// --- Inodes ----------------------------------------------------------------------------------------------------------

Result<InodeRef> InodeCache::get(Ino ino) {
  if (ino == kNoIno) return Error::kStale;
  Impl::Shard& s = impl_->shard(ino);
  {
    const LockGuard guard(s.mutex);
    if (Inode** const entry = s.settled(ino); entry != nullptr) {
      ++s.hits;
      s.take(*entry);
      return InodeRef(this, *entry);
    }
    try {
      s.inodes.insert(ino.value, nullptr);  // from here on others wait for this thread
    } catch (const std::bad_alloc&) {
      return Error::kNoMemory;
    }
    ++s.misses;
  }

  uint64_t slot_offset = 0;
  const Result<format::Inode> image = table_.read(ino, &slot_offset);
  Inode* const inode = image ? new (std::nothrow) Inode(ino, slot_offset, *image) : nullptr;
  if (inode != nullptr) inode->orphan = table_.is_orphan(ino);

  const LockGuard guard(s.mutex);
  s.loaded.notify_all();
  if (inode == nullptr) {
    s.inodes.erase(ino.value);
    if (image) return Error::kNoMemory;
    return image.error() == Error::kNotFound ? Error::kStale : image.error();
  }
  *s.inodes.find(ino.value) = inode;
  ++s.idle;
  s.take(inode);
  return InodeRef(this, inode);
}

Result<FreshInode> InodeCache::prepare(Ino ino, uint64_t slot_offset, const format::Inode& image) {
  std::unique_ptr<Inode> inode(new (std::nothrow) Inode(ino, slot_offset, image));
  if (inode == nullptr) return Error::kNoMemory;
  Impl::Shard& s = impl_->shard(ino);
  const LockGuard guard(s.mutex);
  try {
    s.inodes.reserve_one();
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
  return FreshInode(this, std::move(inode));
}

void InodeCache::unprepare(Ino ino) {
  Impl::Shard& s = impl_->shard(ino);
  const LockGuard guard(s.mutex);
  s.inodes.unreserve_one();
}

InodeRef InodeCache::insert(FreshInode fresh) {
  UDAX_ASSERT(fresh.cache_ == this);
  const Ino ino = fresh.inode_->ino();
  Impl::Shard& s = impl_->shard(ino);
  const LockGuard guard(s.mutex);
  fresh.cache_ = nullptr;
  if (Inode** const entry = s.settled(ino); entry != nullptr) {
    // Somebody asked for it between its commit and now, and has loaded what was committed.
    UDAX_ASSERT(!(*entry)->dead.load(std::memory_order_relaxed));
    s.inodes.unreserve_one();
    s.take(*entry);
    return {this, *entry};
  }
  Inode* const inode = fresh.inode_.release();
  s.inodes.insert_reserved(ino.value, inode);
  ++s.idle;
  s.take(inode);
  return {this, inode};
}

void InodeCache::retain(Inode* inode) {
  Impl::Shard& s = impl_->shard(inode->ino_);
  const LockGuard guard(s.mutex);
  s.take(inode);
}

void InodeCache::release(Inode* inode) {
  const Ino ino = inode->ino_;
  Impl::Shard& s = impl_->shard(ino);
  bool buried = false;
  {
    const LockGuard guard(s.mutex);
    UDAX_ASSERT(inode->references_ > 0);
    if (--inode->references_ > 0) return;
    ++s.idle;
    buried = s.bury(inode);
    if (!buried) s.evict();
  }
  if (buried) table_.release_number(ino);
}

// --- Lookup counts ---------------------------------------------------------------------------------------------------

Status InodeCache::add_lookup(Ino ino) {
  Impl::Shard& s = impl_->shard(ino);
  const LockGuard guard(s.mutex);
  if (uint64_t* const count = s.lookups.find(ino.value); count != nullptr) {
    ++*count;
    return {};
  }
  try {
    s.lookups.insert(ino.value, 1);
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
  return {};
}

void InodeCache::forget(Ino ino, uint64_t count) {
  if (count == 0) return;
  Impl::Shard& s = impl_->shard(ino);
  bool buried = false;
  bool cut = true;
  bool gone = false;
  {
    const LockGuard guard(s.mutex);
    if (uint64_t* const known = s.lookups.find(ino.value); known != nullptr) {
      cut = count > *known;
      *known = cut ? 0 : *known - count;
      gone = *known == 0;
      if (gone) {
        s.lookups.erase(ino.value);
        // Who forgets it will hardly ask for it next, and wants memory back: an inode that can be read again goes now,
        // not when others need its room.
        if (Inode** const entry = s.inodes.find(ino.value); entry != nullptr && *entry != nullptr) {
          buried = s.bury(*entry);
          if (!buried && Impl::Shard::may_go(**entry)) s.drop(*entry);
        }
      }
    }
  }
  if (buried) table_.release_number(ino);
  if (gone) impl_->trim_heap();
  if (cut) log::warning("inode {} was forgotten more often than it was looked up", ino.value);
}

uint64_t InodeCache::lookup_count(Ino ino) const {
  const Impl::Shard& s = impl_->shard(ino);
  const LockGuard guard(s.mutex);
  const uint64_t* const count = s.lookups.find(ino.value);
  return count == nullptr ? 0 : *count;
}

void InodeCache::forget_all() {
  for (Impl::Shard& s : impl_->shards) {
    const LockGuard guard(s.mutex);
    s.lookups.clear();
    for (size_t i = 0; i < s.inodes.entries().size();) {
      const size_t size = s.inodes.entries().size();
      Inode* const inode = s.inodes.entries()[i].value;
      const Ino ino = inode != nullptr ? inode->ino_ : kNoIno;
      if (inode == nullptr || !s.bury(inode)) {
        ++i;
        continue;
      }
      table_.release_number(ino);
      // Erasing brings another entry to this place, or all to new places if the table shrank.
      if (s.inodes.entries().size() != size) i = 0;
    }
  }
}

CacheStats InodeCache::stats() const {
  CacheStats stats;
  for (const Impl::Shard& s : impl_->shards) {
    const LockGuard guard(s.mutex);
    stats.inodes += s.inodes.size();
    stats.lookups += s.lookups.size();
    stats.hits += s.hits;
    stats.misses += s.misses;
  }
  return stats;
}

}  // namespace udax::inode

// SPDX-License-Identifier: BSD-3-Clause
//
// Mounting: superblock, journal replay, group descriptors, root; then the orphans. Nothing here reads in proportion
// to files or used space. Unmounting: the reverse.
#include "base/log.h"
#include "base/sync_point.h"
#include "fs/ops.h"
#include "media/superblock.h"

namespace udax::fs {
namespace {

Status finish_orphans(const Ops& ops, uint64_t* evicted) {
  UDAX_TRY(const std::vector<Ino> orphans, ops.table().orphans());
  for (const Ino ino : orphans) {
    auto ref = ops.get(ino);
    if (!ref) {
      log::error("orphan inode {} cannot be read: {}; run fsck.udaxfs", ino.value, to_string(ref.error()));
      continue;
    }
    inode::Inode& inode = **ref;
    const LockGuard guard(inode.rwsem);
    inode.orphan = true;
    const Status done = inode.image().nlink == 0 ? ops.evict(inode) : ops.finish_truncate(inode);
    if (!done) {
      log::error("orphan inode {} cannot be removed: {}; run fsck.udaxfs", ino.value, to_string(done.error()));
      continue;
    }
    ++*evicted;
  }
  return {};
}

std::string sentence(Error error, const char* what) {
  return std::string(what) + ": " + std::string(to_string(error)) + "; check the pool with fsck.udaxfs";
}

}  // namespace

Filesystem::Filesystem(std::shared_ptr<media::Medium> medium, const MountOptions& options)
    : medium_(std::move(medium)), options_(options) {}

Filesystem::~Filesystem() = default;

Result<std::unique_ptr<Filesystem>> Filesystem::mount(std::shared_ptr<media::Medium> medium,
                                                      const MountOptions& options, std::string* why) try {
  std::string ignored;
  std::string& reason = why != nullptr ? *why : ignored;
  UDAX_TRY(const media::LoadedSuperblock super, media::load_superblock(*medium, &reason));
  MountOptions effective = options;
  if (super.geometry.ro_compat_unknown && !effective.read_only) {
    log::warning("the pool has features that this build can only read past; mounting read-only");
    effective.read_only = true;
  }
  if (super.source == media::SuperblockSource::kReplica) {
    log::warning("the superblock is broken; using its replica (fsck.udaxfs -y mends it)");
  }
  std::unique_ptr<Filesystem> fs(new Filesystem(std::move(medium), effective));
  fs->meta_ = std::make_unique<journal::MetaStore>(*fs->medium_, super.geometry);
  fs->journal_ = std::make_unique<journal::Journal>(*fs->meta_);
  auto replay = fs->journal_->recover(fs->read_only());
  const auto degrade = [&fs](const char* what) {
    log::error("{}: mounted read-only; copy the files, and see fsck.udaxfs(8)", what);
    fs->options_.read_only = true;
  };
  const DeviceBlock ring = super.geometry.journal_start;
  if (!replay && replay.error() == Error::kIo && fs->medium_->lost_pages() > 0) {
    degrade("the journal, or metadata that its records change, is lost to a media error");
    replay = journal::ReplayResult{};
  } else if (replay && !fs->read_only() &&
             fs->medium_->is_lost(offset_of(ring), super.geometry.journal_blocks * kBlockSize)) {
    degrade("a part of the journal is lost to a media error");
  }
  if (!replay) {
    reason = replay.error() == Error::kReadOnly
                 ? "the pool was not unmounted cleanly and is read-only here: mount it once read-write"
                 : sentence(replay.error(), "the journal cannot be replayed");
    return replay.error();
  }
  fs->replay_ = *replay;
  fs->allocator_ = std::make_unique<alloc::BlockAllocator>(*fs->journal_);
  if (const Status loaded = fs->allocator_->load(); !loaded) {
    reason = sentence(loaded.error(), "the free-space descriptors cannot be read");
    return loaded.error();
  }
  fs->table_ = std::make_unique<inode::InodeTable>(*fs->allocator_);
  Status loaded = fs->table_->load();
  if (!loaded && !fs->read_only() && (loaded.error() == Error::kCorrupted || loaded.error() == Error::kIo) &&
      fs->table_->load(true)) {
    degrade("a list of orphans cannot be read");
    loaded = {};
  }
  if (!loaded) {
    reason = sentence(loaded.error(), "the inode table cannot be read");
    return loaded.error();
  }
  fs->cache_ = std::make_unique<inode::InodeCache>(*fs->table_, options.inode_cache);
  fs->dax_ = std::make_unique<dax::Dax>(*fs->table_, *fs->meta_, *fs->medium_, fs->read_only());
  const Ops ops{*fs};
  auto root = ops.get_dir(kRootIno);
  if (!root) {
    reason = sentence(root.error(), "the root directory cannot be read");
    return root.error();
  }
  root->reset();
  if (!fs->read_only() && !UDAX_KNOB("fs.mount_skips_orphans")) {
    uint64_t evicted = 0;
    if (const Status done = finish_orphans(ops, &evicted); !done) {
      reason = sentence(done.error(), "the orphan list cannot be read");
      return done.error();
    }
    fs->evicted_orphans_ = evicted;
  }
  fs->mounted_ = true;
  return fs;
} catch (const std::bad_alloc&) {
  if (why != nullptr) *why = "out of memory";
  return Error::kNoMemory;
}

Status Filesystem::unmount() {
  UDAX_ASSERT(mounted_);
  mounted_ = false;
  const Status synced = read_only() ? Status() : flush_all();
  cache_->forget_all();
  if (read_only()) return {};
  const Status empty = table_->release_empty_chunks();
  const Status closed = journal_->close();
  UDAX_CHECK(empty);
  UDAX_CHECK(synced);
  UDAX_CHECK(closed);
  const Status flushed = medium_->deep_flush(0, medium_->size());
  return flushed || medium_->failed_by_loss() ? Status() : flushed;  // of losses those know who stored there
}

Status Filesystem::remember(Ino ino) {
  if (!options_.count_lookups) return {};
  return cache_->add_lookup(ino);
}

void Filesystem::forget(Ino ino, uint64_t count) { cache_->forget(ino, count); }

StatFs Filesystem::statfs() {
  const alloc::SpaceStats space = allocator_->stats();
  const inode::InodeStats inodes = table_->stats();
  StatFs s;
  s.blocks = space.blocks_total;
  s.blocks_free = space.blocks_free + inodes.chunks_empty;
  s.blocks_available = space.blocks_available + inodes.chunks_empty;
  // Inodes are made from blocks as needed: what is free is what the free blocks could hold.
  s.inodes_free = s.blocks_available * (format::kInodesPerChunk - 1);
  s.inodes = inodes.used + s.inodes_free;
  return s;
}

Stats Filesystem::stats() {
  Stats s;
  s.space = allocator_->stats();
  s.inodes = table_->stats();
  s.cache = cache_->stats();
  s.journal = journal_->stats();
  s.media = medium_->counters();
  s.lost_pages = medium_->lost_pages();
  s.lost = medium_->lost_ranges();
  s.dax = dax_->counters().values();
  s.corruptions = meta_->corruptions();
  s.evicted_orphans = evicted_orphans_.load(std::memory_order_relaxed);
  s.replay = replay_;
  return s;
}

}  // namespace udax::fs

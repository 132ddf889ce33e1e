// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_medium.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <span>

#include "base/clock.h"
#include "format/checksum.h"
#include "media/discovery.h"
#include "media/pool_file.h"
#include "media/pool_lock.h"
#include "media/pool_mapping.h"
#include "media/sentence.h"
#include "media/superblock.h"
#include "media/thread_counters.h"

namespace udax::media {
namespace {

std::string error_text(int number) { return std::string(::strerrordesc_np(number)); }

Error say_errno(std::string* why, const std::string& path, const char* what, int number) {
  return say(why, from_errno(number), path, what, error_text(number));
}

/// What cannot be a pool by its kind, or not: devdax and regular files are let through.
Status check_kind(const struct stat& st, const std::string& path, std::string* why) {
  if (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)) return {};
  if (S_ISDIR(st.st_mode)) {
    return say(why, Error::kInvalid, path, " is a directory; a pool is a file or a devdax device (/dev/daxX.Y)");
  }
  if (S_ISBLK(st.st_mode)) {
    const auto platform = discover_platform();
    const Namespace* const ns = platform ? find_namespace(*platform, path) : nullptr;
    if (ns != nullptr) {
      return say(why, Error::kInvalid, path, " is a block device, which cannot be mapped; ", advice(*ns));
    }
    return say(
        why, Error::kInvalid, path,
        " is a block device, which cannot be mapped; make the namespace devdax (ndctl create-namespace -f -e "
        "NAMESPACE -m devdax) and use its /dev/daxX.Y, or put ext4 or xfs on it, mount that with -o dax, and "
        "use a file there");
  }
  return say(why, Error::kInvalid, path, " is neither a file nor a devdax device (/dev/daxX.Y)");
}

Result<FileDescriptor> open_pool(const std::string& path, bool is_writable, std::string* why) {
  struct stat st {};
  // Before it is opened, so that the kind is told even to those who may not open it.
  if (::stat(path.c_str(), &st) == 0) UDAX_CHECK(check_kind(st, path, why));
  // Non-blocking: a fifo must not hold us up. It has no meaning for what is let through below.
  FileDescriptor fd(::open(path.c_str(), (is_writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.is_open()) {
    const int number = errno;
    if (number == ENOENT) {
      return say(why, Error::kNotFound, path, " does not exist; `mkfs.udaxfs -s SIZE ", path,
                 "` makes a pool there");
    }
    if (number == EACCES || number == EPERM || number == EROFS) {
      return say(why, from_errno(number), path,
                 is_writable ? " may not be written: " : " may not be read: ", error_text(number));
    }
    return say_errno(why, path, " cannot be opened: ", number);
  }
  if (::fstat(fd.get(), &st) != 0) return say_errno(why, path, " cannot be looked at: ", errno);
  UDAX_CHECK(check_kind(st, path, why));
  return fd;
}

/// Makes the name of a new file durable.
bool sync_parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const FileDescriptor fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some filesystems have nothing to sync in a directory, and say so.
  return fd.is_open() && (::fsync(fd.get()) == 0 || errno == EINVAL);
}

Error say_busy(const std::string& path, int fd, std::string* why) {
  Holder holder;
  // Looking takes no lock, hence this does not come back here.
  if (auto peek = PoolMedium::open(path, {OpenMode::kReadOnly, {}}, nullptr)) {
    holder = PoolMedium::read_holder(*peek.value());
  }
  return say(why, Error::kBusy, describe_holder(path, fd, holder));
}

/// A text field from media, fit to be shown: what could play with a terminal is replaced.
std::string to_text(std::span<const uint8_t> field) {
  std::string text;
  for (const uint8_t c : field) {
    if (c == 0) break;
    text.push_back(c < 0x20 || c == 0x7F ? '?' : static_cast<char>(c));
  }
  return text;
}

void put_text(std::span<uint8_t> field, const std::string& text) {
  std::memcpy(field.data(), text.data(), std::min(text.size(), field.size() - 1));
}

uint64_t lines_of(uint64_t offset, uint64_t size) {
  return size == 0 ? 0 : (align_up(offset + size, kCacheLine) - align_down(offset, kCacheLine)) / kCacheLine;
}

}  // namespace

struct PoolMedium::Impl {
  std::string path;
  std::string kind;
  bool is_exclusive = false;
  std::shared_ptr<PoolMapping> mapping;
  ThreadCounters counters;

  /// None where the CPU's caches survive a power cut.
  [[nodiscard]] uint64_t lines_to_flush(uint64_t offset, uint64_t size) const {
    return mapping->granularity() == Granularity::kByte ? 0 : lines_of(offset, size);
  }
  /// Ends every store.
  void stored(uint64_t offset, uint64_t size, uint64_t lines) {
    counters.add_store(size, lines);
    if (mapping->fault_log().is_lost(offset, size)) [[unlikely]]
      mapping->note_loss(mapping);
  }
};

PoolMedium::PoolMedium(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PoolMedium::~PoolMedium() = default;

Result<std::unique_ptr<PoolMedium>> PoolMedium::open(const std::string& path, const OpenOptions& options,
                                                     std::string* why) try {
  const bool is_writable = options.mode == OpenMode::kExclusive;
  UDAX_TRY(FileDescriptor fd, open_pool(path, is_writable, why));
  if (options.mode != OpenMode::kReadOnly) {
    const LockKind kind = is_writable ? LockKind::kExclusive : LockKind::kShared;
    if (const Status locked = lock_pool(fd.get(), kind, options.lock_wait); !locked) {
      if (locked.error() == Error::kBusy) return say_busy(path, fd.get(), why);
      return say(why, locked.error(), path, " cannot be locked: ", to_string(locked.error()));
    }
  }
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->is_exclusive = is_writable;
  UDAX_TRY(impl->mapping, PoolMapping::map(std::move(fd), path, is_writable, why));
  impl->kind = impl->mapping->kind();
  const PoolMapping& mapping = *impl->mapping;
  std::unique_ptr<PoolMedium> medium(new PoolMedium(std::move(impl)));
  medium->set(mapping.base(), mapping.size(), mapping.granularity(), !is_writable);
  return medium;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status PoolMedium::create_file(const std::string& path, uint64_t size, std::string* why) try {
  size = align_down(size, kBlockSize);
  if (size / kBlockSize < format::kPoolBlocksMin) {
    return say(why, Error::kInvalid, std::to_string(size), " bytes are too few: a pool takes at least 8 MiB");
  }
  if (size / kBlockSize > format::kPoolBlocksMax) {
    return say(why, Error::kInvalid, std::to_string(size), " bytes are too many: a pool takes at most 128 TiB");
  }
  // Readable for its owner only: who can read a pool can read every file in it.
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const bool is_new = fd.is_open();
  if (!is_new) {
    if (errno != EEXIST) return say_errno(why, path, " cannot be made: ", errno);
    UDAX_TRY(fd, open_pool(path, true, why));
  }
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return say_errno(why, path, " cannot be looked at: ", errno);
  if (!S_ISREG(st.st_mode)) return say(why, Error::kInvalid, path, " is a device: its size cannot be set");
  if (const Status locked = lock_pool(fd.get(), LockKind::kExclusive, std::chrono::milliseconds(0)); !locked) {
    if (locked.error() == Error::kBusy) return say_busy(path, fd.get(), why);
    return say(why, locked.error(), path, " cannot be locked: ", to_string(locked.error()));
  }
  if (const Status resized = resize_file(fd.get(), size); !resized) {
    if (is_new) ::unlink(path.c_str());
    return say(why, resized.error(), path, " cannot be given that size: ", error_text(to_errno(resized.error())));
  }
  if (::fsync(fd.get()) != 0 || (is_new && !sync_parent(path))) {
    return say_errno(why, path, " cannot be written: ", errno);
  }
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

void PoolMedium::store(uint64_t offset, const void* source, uint64_t size) {
  UDAX_ASSERT(!read_only() && offset <= this->size() && size <= this->size() - offset);
  if (size == 0) return;
  impl_->mapping->copy(offset, source, size);
  impl_->stored(offset, size, 0);
}

void PoolMedium::store_nt(uint64_t offset, const void* source, uint64_t size) {
  UDAX_ASSERT(!read_only() && offset <= this->size() && size <= this->size() - offset);
  if (size == 0) return;
  impl_->mapping->copy_nt(offset, source, size);
  if (impl_->mapping->needs_msync()) impl_->mapping->note(impl_->mapping, offset, size);
  impl_->stored(offset, size, impl_->lines_to_flush(offset, size));
}

void PoolMedium::zero_nt(uint64_t offset, uint64_t size) {
  UDAX_ASSERT(!read_only() && offset <= this->size() && size <= this->size() - offset);
  impl_->mapping->zero_nt(offset, size);
  if (impl_->mapping->needs_msync()) impl_->mapping->note(impl_->mapping, offset, size);
  impl_->stored(offset, size, impl_->lines_to_flush(offset, size));
}

void PoolMedium::flush(uint64_t offset, uint64_t size) {
  UDAX_ASSERT(!read_only() && offset <= this->size() && size <= this->size() - offset);
  impl_->mapping->flush(offset, size);
  if (impl_->mapping->needs_msync()) impl_->mapping->note(impl_->mapping, offset, size);
  // What others stored through mappings of their own is flushed by us: a lost page shows up here as well.
  if (impl_->mapping->fault_log().is_lost(offset, size)) [[unlikely]]
    impl_->mapping->note_loss(impl_->mapping);
  impl_->counters.add_flush(impl_->lines_to_flush(offset, size));
}

Status PoolMedium::drain() {
  impl_->counters.add_drain();
  return impl_->mapping->drain(impl_->mapping);
}

Status PoolMedium::deep_flush(uint64_t offset, uint64_t size) {
  UDAX_ASSERT(!read_only() && offset <= this->size() && size <= this->size() - offset);
  impl_->counters.add_deep_flush();
  return impl_->mapping->deep_flush(impl_->mapping, offset, size);
}

uint64_t PoolMedium::faults() const { return impl_->mapping->fault_log().count(); }

bool PoolMedium::is_lost(uint64_t offset, uint64_t size) const {
  return impl_->mapping->fault_log().is_lost(offset, size);
}

bool PoolMedium::failed_by_loss() const { return impl_->mapping->failed_by_loss(); }
uint64_t PoolMedium::lost_pages() const { return impl_->mapping->fault_log().lost_pages(); }
std::vector<LostRange> PoolMedium::lost_ranges() const { return impl_->mapping->fault_log().lost_ranges(); }

Counters PoolMedium::counters() const {
  Counters c = impl_->counters.sum();
  c.faults = faults();
  return c;
}

int PoolMedium::fd() const { return impl_->mapping->fd(); }
const std::string& PoolMedium::path() const { return impl_->path; }
const std::string& PoolMedium::kind() const { return impl_->kind; }
const std::string& PoolMedium::note() const { return impl_->mapping->note(); }

void PoolMedium::announce_holder(const std::string& program, const std::string& mountpoint) {
  UDAX_ASSERT(impl_->is_exclusive);
  const auto loaded = load_superblock(*this);
  if (!loaded) return;  // no pool, no place to write to
  auto holder = format::HolderBlock{};
  holder.pid = static_cast<uint32_t>(::getpid());
  holder.started_s = static_cast<uint64_t>(realtime_coarse().seconds);
  put_text(holder.program, program);
  put_text(holder.mountpoint, mountpoint);
  holder.checksum = format::checksum_without(loaded->geometry.checksum_seed, &holder, sizeof holder,
                                             offsetof(format::HolderBlock, checksum));
  store_nt(offset_of(format::kHolderBlock), &holder, sizeof holder);
  static_cast<void>(drain());  // information only: who opens the pool next does not rely on it
}

void PoolMedium::clear_holder() {
  UDAX_ASSERT(impl_->is_exclusive);
  if (!load_superblock(*this)) return;
  zero_nt(offset_of(format::kHolderBlock), kBlockSize);
  static_cast<void>(drain());
}

Holder PoolMedium::read_holder(const Medium& medium) try {
  const auto loaded = load_superblock(medium);
  if (!loaded) return {};
  format::HolderBlock block;
  std::memcpy(&block, medium.block(format::kHolderBlock), sizeof block);
  if (block.checksum.get() != format::checksum_without(loaded->geometry.checksum_seed, &block, sizeof block,
                                                       offsetof(format::HolderBlock, checksum))) {
    return {};
  }
  return {block.pid.get(), to_text(block.program), to_text(block.mountpoint)};
} catch (const std::bad_alloc&) {
  return {};
}

}  // namespace udax::media

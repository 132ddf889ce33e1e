// SPDX-License-Identifier: BSD-3-Clause
//
// Reads and writes by copying.
//
// A copy counts only if the file's slot says, before and after it, that it may be made, and has the same sequence. What a view shows
// where the file has nothing to show is memory of this process, and the sequence was raised before it came there.
//
// Times: a write is left to the kernel unless it would change none: the file's times are the clock's tick already, and this process has
// made a write(2) within that tick, after which the kernel asks for them. A read likewise, unless no access time is due.
//
// Positions: they belong to the open file description, which others may share. A range is claimed by moving the position over it with
// one lseek(2); what cannot be copied then is done at its place by pread(2) and pwrite(2). A write that would go behind the end
// is left to the kernel before anything is claimed.
#include <time.h>

#include <algorithm>
#include <cstring>

#include "base/sync_point.h"
#include "client/io_table.h"
#include "client/kernel.h"
#include "client/stream_copy.h"

namespace udax::client {
namespace {

constexpr uint64_t kOnceMax = 0x7ffff000;  // of the kernel's, in one call
constexpr uint64_t kPerSecond = 1'000'000'000;

uint64_t tick_now() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &t);
  return static_cast<uint64_t>(t.tv_sec) * kPerSecond + static_cast<uint64_t>(t.tv_nsec);
}

/// Bytes in all; 0: nothing that is for us, an error among it.
uint64_t total_of(std::span<const iovec> parts) {
  constexpr size_t kPartsMax = 1024;  // IOV_MAX
  if (parts.size() > kPartsMax) return 0;
  uint64_t total = 0;
  for (const iovec& part : parts) {
    if (part.iov_len > kOnceMax) return 0;
    total += part.iov_len;
  }
  return total > kOnceMax ? 0 : total;
}

/// What the slot said before a copy.
struct Look {
  uint64_t sequence = 0;
  uint64_t rights = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;
};

Look look_at(const direct::BoardSlot& slot) {
  Look look;
  look.sequence = slot_word(slot.sequence);
  look.rights = slot_word(slot.rights);
  look.blocks = slot_word(slot.blocks);
  look.size = slot_word(slot.size);
  return look;
}

// A store of the copy may be on its way while this looks. Whoever takes the view back interrupts this CPU first, and the store is out
// then; memory of our own came there by a fault, which this load comes after. All stores are out when the file's user is
// counted off.
bool still_holds(const IoFile& file, const Look& before) {
  std::atomic_thread_fence(std::memory_order_acq_rel);
  if (UDAX_KNOB("client.io.no_second_look")) return true;
  return slot_word(file.view.slot->sequence) == before.sequence && !file.client->is_dead();
}

bool may(const Look& look, uint64_t right) { return (look.sequence & 1) == 0 && (look.rights & right) != 0; }

bool is_closed(const IoFile& file, const Look& look) {
  return (look.rights & direct::kBoardClosed) != 0 || file.client->is_dead();
}

/// The rules of the daemon's (fs/read.cc): relatime and strictatime of mount(8).
bool atime_is_due(const direct::BoardSlot& slot, const Look& look) {
  if ((look.rights & direct::kBoardNoAtime) != 0) return false;
  const uint64_t atime = slot_word(slot.atime_ns);
  const uint64_t now = tick_now();
  if (atime == now) return false;
  if ((look.rights & direct::kBoardStrictAtime) != 0) return true;
  constexpr uint64_t kDay = 24 * 60 * 60 * kPerSecond;
  return atime <= slot_word(slot.mtime_ns) || atime <= slot_word(slot.ctime_ns) || now < atime ||
         now - atime >= kDay;
}

int64_t seek(int fd, int64_t by) { return ::syscall(SYS_lseek, fd, by, SEEK_CUR); }

/// The first `size` bytes of `parts`, as preadv(2) and pwritev(2) take them. False: too many parts.
struct Part {
  std::array<iovec, 16> list{};
  int count = 0;
  bool take(std::span<const iovec> parts, uint64_t size) {
    for (const iovec& part : parts) {
      if (size == 0) break;
      if (static_cast<size_t>(count) == list.size()) return false;
      iovec& one = list.at(static_cast<size_t>(count++));
      one = part;
      one.iov_len = std::min<uint64_t>(part.iov_len, size);
      size -= one.iov_len;
    }
    return true;
  }
};

ssize_t by_kernel(long number, int fd, const Part& part, uint64_t offset) {
  return ::syscall(number, fd, part.list.data(), part.count, offset, uint64_t{0});
}

}  // namespace

ssize_t IoTable::read_at(Use& use, std::span<const iovec> to, uint64_t wanted, uint64_t offset) {
  IoFile& file = *use.file;
  const direct::BoardSlot& slot = *file.view.slot;
  const Look look = look_at(slot);
  if (!may(look, direct::kBoardRead)) {
    if (is_closed(file, look)) lose(use);
    return kKernel;
  }
  if ((use.word & Use::kMayMarkNoAtime) == 0 && atime_is_due(slot, look)) return kKernel;
  const uint64_t size = offset >= look.size ? 0 : std::min(wanted, look.size - offset);
  if (offset + size > file.view.length) {
    drop(*use.entry);  // the file has outgrown it
    return kKernel;
  }
  const auto* from = static_cast<const std::byte*>(kernel::to_pointer(file.view.address + offset));
  uint64_t left = size;
  for (const iovec& part : to) {
    const uint64_t n = std::min<uint64_t>(part.iov_len, left);
    if (n != 0) std::memcpy(part.iov_base, from, n);
    from += n;
    left -= n;
  }
  UDAX_SYNC_POINT("client.io.copied");
  return still_holds(file, look) ? static_cast<ssize_t>(size) : kKernel;
}

ssize_t IoTable::write_at(Use& use, std::span<const iovec> from, uint64_t wanted, uint64_t offset,
                          uint64_t* tick) {
  IoFile& file = *use.file;
  const direct::BoardSlot& slot = *file.view.slot;
  *tick = tick_now();
  const Look look = look_at(slot);
  if (!may(look, direct::kBoardWrite)) {
    if (is_closed(file, look)) lose(use);
    return kKernel;
  }
  const uint64_t end = offset + wanted;
  if (end > look.size || end > size_max_.load(std::memory_order_relaxed)) return kKernel;
  if (end > file.view.length) {
    drop(*use.entry);
    return kKernel;
  }
  const bool is_timely = file.written_ns.load(std::memory_order_acquire) == *tick &&
                         slot_word(slot.mtime_ns) == *tick && slot_word(slot.ctime_ns) == *tick;
  if (!is_timely && !UDAX_KNOB("client.io.no_times")) return kKernel;
  if (const int32_t left = file.hole_writes.load(std::memory_order_relaxed); left > 0) {
    file.hole_writes.store(left - 1, std::memory_order_relaxed);
    return kKernel;
  }
  auto* to = static_cast<std::byte*>(kernel::to_pointer(file.view.address + offset));
  for (const iovec& part : from) {
    if (part.iov_len != 0) copy_to_pool(to, static_cast<const std::byte*>(part.iov_base), part.iov_len);
    to += part.iov_len;
  }
  UDAX_SYNC_POINT("client.io.copied");
  if (!still_holds(file, look)) return kKernel;
  if (slot_word(slot.blocks) == look.blocks) return static_cast<ssize_t>(wanted);
  // A hole has been filled: the kernel is to ask how many blocks there are.
  constexpr int32_t kHoleWrites = 64;
  file.hole_writes.store(kHoleWrites, std::memory_order_relaxed);
  return kKernel;
}

ssize_t IoTable::read_at(int fd, std::span<const iovec> to, int64_t offset) {
  Use use(*this, fd);
  if (use.file == nullptr) return kKernel;
  const uint64_t wanted = total_of(to);
  if (wanted == 0 || offset < 0 || offset > INT64_MAX - static_cast<int64_t>(wanted)) return kKernel;
  return read_at(use, to, wanted, static_cast<uint64_t>(offset));
}

ssize_t IoTable::write_at(int fd, std::span<const iovec> from, int64_t offset, uint64_t* tick) {
  *tick = 0;
  Use use(*this, fd);
  if (use.file == nullptr || (use.word & Use::kMayWrite) == 0) return kKernel;
  const uint64_t wanted = total_of(from);
  if (wanted == 0 || offset < 0 || offset > INT64_MAX - static_cast<int64_t>(wanted)) return kKernel;
  return write_at(use, from, wanted, static_cast<uint64_t>(offset), tick);
}

// `tick`: when the write began. Had the times been others when it ended, another would have changed them since, or before.
void IoTable::wrote(int fd, uint64_t tick) {
  if (tick == 0) return;
  Entry& entry = entries_[static_cast<size_t>(fd)];
  const uint64_t word = entry.word.load(std::memory_order_acquire);
  if (word == 0) return;
  auto* const file = static_cast<IoFile*>(kernel::to_pointer(word & ~Use::kBits));
  file->users.fetch_add(1, std::memory_order_seq_cst);
  if (entry.word.load(std::memory_order_seq_cst) == word) {
    const direct::BoardSlot& slot = *file->view.slot;
    if (slot_word(slot.mtime_ns) == tick && slot_word(slot.ctime_ns) == tick) {
      file->written_ns.store(tick, std::memory_order_release);
    }
  }
  file->users.fetch_sub(1, std::memory_order_seq_cst);
}

ssize_t IoTable::read(int fd, std::span<const iovec> to) {
  Use use(*this, fd);
  if (use.file == nullptr) return kKernel;
  const auto leave = [&] {
    use.entry->position.store(-1, std::memory_order_relaxed);
    return kKernel;
  };
  const uint64_t wanted = total_of(to);
  const direct::BoardSlot& slot = *use.file->view.slot;
  const Look look = look_at(slot);
  if (is_closed(*use.file, look)) lose(use);
  if (wanted == 0 || !may(look, direct::kBoardRead)) return leave();
  if ((use.word & Use::kMayMarkNoAtime) == 0 && atime_is_due(slot, look)) return leave();
  int64_t position = use.entry->position.load(std::memory_order_relaxed);
  // What it was last may be wrong by now; near the end it has to be right.
  if (position < 0 || static_cast<uint64_t>(position) + wanted > look.size) position = seek(fd, 0);
  if (position < 0 || static_cast<uint64_t>(position) >= look.size) return leave();
  // No more than there is, so that nothing need be given back where nobody shares the description.
  const uint64_t size = std::min(wanted, look.size - static_cast<uint64_t>(position));
  Part part;
  if (!part.take(to, size)) return leave();
  const int64_t end = seek(fd, static_cast<int64_t>(size));
  if (end < static_cast<int64_t>(size)) return leave();
  const uint64_t start = static_cast<uint64_t>(end) - size;
  ssize_t got = read_at(use, std::span(part.list).first(static_cast<size_t>(part.count)), size, start);
  if (got == kKernel) got = by_kernel(SYS_preadv, fd, part, start);
  const int64_t served = std::max<ssize_t>(got, 0);
  if (served != static_cast<int64_t>(size)) {
    const int error = errno;
    static_cast<void>(seek(fd, served - static_cast<int64_t>(size)));
    errno = error;
  }
  use.entry->position.store(static_cast<int64_t>(start) + served, std::memory_order_relaxed);
  return got;
}

ssize_t IoTable::write(int fd, std::span<const iovec> from, uint64_t* tick) {
  *tick = 0;
  Use use(*this, fd);
  if (use.file == nullptr) return kKernel;
  const auto leave = [&] {
    use.entry->position.store(-1, std::memory_order_relaxed);
    return kKernel;
  };
  *tick = tick_now();
  const uint64_t wanted = total_of(from);
  const direct::BoardSlot& slot = *use.file->view.slot;
  const Look look = look_at(slot);
  if (is_closed(*use.file, look)) lose(use);
  if (wanted == 0 || (use.word & Use::kMayWrite) == 0 || !may(look, direct::kBoardWrite)) return leave();
  if (use.file->written_ns.load(std::memory_order_acquire) != *tick) return leave();
  int64_t position = use.entry->position.load(std::memory_order_relaxed);
  if (position < 0) position = seek(fd, 0);
  const uint64_t end_max = std::min(look.size, size_max_.load(std::memory_order_relaxed));
  if (position < 0 || static_cast<uint64_t>(position) + wanted > end_max) return leave();
  Part part;
  if (!part.take(from, wanted)) return leave();
  const int64_t end = seek(fd, static_cast<int64_t>(wanted));
  if (end < static_cast<int64_t>(wanted)) return leave();
  const uint64_t start = static_cast<uint64_t>(end) - wanted;
  ssize_t done = write_at(use, from, wanted, start, tick);
  if (done == kKernel) {
    done = by_kernel(SYS_pwritev, fd, part, start);
    const int error = errno;
    const int64_t served = std::max<ssize_t>(done, 0);
    if (served != static_cast<int64_t>(wanted)) static_cast<void>(seek(fd, served - static_cast<int64_t>(wanted)));
    if (done > 0) wrote(fd, *tick);
    errno = error;
  }
  use.entry->position.store(static_cast<int64_t>(start) + std::max<ssize_t>(done, 0), std::memory_order_relaxed);
  return done;
}

}  // namespace udax::client

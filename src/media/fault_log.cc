// SPDX-License-Identifier: BSD-3-Clause
#include "media/fault_log.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <new>

#include "base/mutex.h"
#include "base/types.h"

namespace udax::media {
namespace {

/// A watched range, readable from the handler while others come and go: fields belong together if `version` was
/// the same even number before and after they were read.
struct Slot {
  std::atomic<uint64_t> version{0};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<FaultLog*> log{nullptr};
};

std::array<Slot, 64> g_slots;
Mutex g_slots_mutex;                 // writers of g_slots
struct sigaction g_previous_action;  // set before ours is installed, never after

void set_slot(Slot& slot, uintptr_t begin, uintptr_t end, FaultLog* log) {
  const uint64_t version = slot.version.load(std::memory_order_relaxed);
  slot.version.store(version + 1, std::memory_order_release);
  slot.begin.store(begin, std::memory_order_release);
  slot.end.store(end, std::memory_order_release);
  slot.log.store(log, std::memory_order_release);
  slot.version.store(version + 2, std::memory_order_release);
}

FaultLog* find(uintptr_t address) {
  for (const Slot& slot : g_slots) {
    const uint64_t version = slot.version.load(std::memory_order_acquire);
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    const uintptr_t end = slot.end.load(std::memory_order_acquire);
    FaultLog* log = slot.log.load(std::memory_order_acquire);
    // A slot that changes meanwhile is not the one of the mapping that is being accessed.
    if (version % 2 != 0 || slot.version.load(std::memory_order_acquire) != version) continue;
    if (log != nullptr && address >= begin && address < end) return log;
  }
  return nullptr;
}

void pass_on(int signal_number, siginfo_t* info, void* context) {
  if ((g_previous_action.sa_flags & SA_SIGINFO) != 0) {
    g_previous_action.sa_sigaction(signal_number, info, context);
    return;
  }
  if (g_previous_action.sa_handler != SIG_DFL && g_previous_action.sa_handler != SIG_IGN) {
    g_previous_action.sa_handler(signal_number);
    return;
  }
  // Die of it as if we had not been here: a fault comes again on return, a signal that was sent has to be resent.
  // (A fault that is ignored kills as well.)
  if (g_previous_action.sa_handler == SIG_IGN && info->si_code <= 0) return;
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal_number, &action, nullptr);
  if (info->si_code <= 0) ::raise(signal_number);
}

void on_sigbus(int signal_number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  // A code of 0 or less: sent by a process, with no address in it.
  if (info->si_code <= 0 || !FaultLog::absorb(info->si_addr)) pass_on(signal_number, info, context);
  errno = saved_errno;
}

void install_handler_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    UDAX_ASSERT(::sigaction(SIGBUS, nullptr, &g_previous_action) == 0);
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    UDAX_ASSERT(::sigaction(SIGBUS, &action, nullptr) == 0);
    // To be told at once of a page that the kernel finds bad, and not by its next use: until then, what the page shows may
    // be served. For this thread and those that it starts; a kernel that does not know it tells later.
    (void)::prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
  });
}

/// Straight to the kernel: mmap() is not on the list of what a handler may call, and tools interpose it.
bool map_zeroes(std::byte* at, uint64_t size, int protection) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  return ::syscall(SYS_mmap, at, size, protection, kFlags, -1, 0) != -1;
}

constexpr uint64_t kPagesPerWord = 64;

/// A few mappings to be given back when there are no more to be had: neighbours that differ in protection, since
/// the kernel makes one of those that do not.
constexpr uint64_t kSpareBytes = 8 * kBlockSize;

void* map_spare() {
  void* p = ::mmap(nullptr, kSpareBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  for (uint64_t offset = kBlockSize; offset < kSpareBytes; offset += 2 * kBlockSize) {
    if (::mprotect(static_cast<std::byte*>(p) + offset, kBlockSize, PROT_READ) != 0) break;
  }
  return p;
}

}  // namespace

FaultLog::FaultLog(std::byte* base, uint64_t size, uint64_t unit, bool is_writable)
    : base_(base), size_(size), unit_(unit), protection_(is_writable ? PROT_READ | PROT_WRITE : PROT_READ) {}

uint64_t FaultLog::bitmap_bytes() const {
  const uint64_t words = (blocks_for(size_) + kPagesPerWord - 1) / kPagesPerWord;
  return align_up(words * sizeof(uint64_t), kBlockSize);
}

Result<std::unique_ptr<FaultLog>> FaultLog::watch(std::byte* base, uint64_t size, uint64_t unit,
                                                  bool is_writable) {
  std::unique_ptr<FaultLog> log(new (std::nothrow) FaultLog(base, size, unit, is_writable));
  if (log == nullptr) return Error::kNoMemory;
  void* bitmap = ::mmap(nullptr, 2 * log->bitmap_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bitmap == MAP_FAILED) return Error::kNoMemory;
  static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint64_t>) == sizeof(uint64_t));
  log->lost_ = static_cast<std::atomic<uint64_t>*>(bitmap);  // all zero is how its words begin
  log->replaced_ = log->lost_ + log->bitmap_bytes() / sizeof(uint64_t);
  log->spare_.store(map_spare(), std::memory_order_relaxed);
  install_handler_once();
  LockGuard guard(g_slots_mutex);
  for (Slot& slot : g_slots) {
    if (slot.log.load(std::memory_order_relaxed) != nullptr) continue;
    log->slot_ = static_cast<uint32_t>(&slot - g_slots.data());
    const auto begin = reinterpret_cast<uintptr_t>(base);
    set_slot(slot, begin, begin + size, log.get());
    return log;
  }
  return Error::kTooManyFiles;
}

FaultLog::~FaultLog() {
  if (lost_ == nullptr) return;
  {
    LockGuard guard(g_slots_mutex);
    if (g_slots.at(slot_).log.load(std::memory_order_relaxed) == this) set_slot(g_slots.at(slot_), 0, 0, nullptr);
  }
  ::munmap(static_cast<void*>(lost_), 2 * bitmap_bytes());
  if (void* spare = spare_.load(std::memory_order_relaxed); spare != nullptr) ::munmap(spare, kSpareBytes);
}

bool FaultLog::absorb(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  FaultLog* log = find(at);
  return log != nullptr && log->replace(at - reinterpret_cast<uintptr_t>(log->base_));
}

bool FaultLog::replace(uint64_t offset) {
  const uint64_t begin = align_down(offset, unit_);
  const uint64_t end = std::min(begin + unit_, size_);
  const uint64_t first = begin / kBlockSize;
  const uint64_t claim = uint64_t{1} << (first % kPagesPerWord);
  // Whoever sets the first page's bit does the work; the others try again until it is done.
  if ((replaced_[first / kPagesPerWord].fetch_or(claim, std::memory_order_acq_rel) & claim) != 0) return true;
  // Known to be lost and counted before the zeroes can be seen, so that a copy that read them finds the count changed.
  set_lost(begin, end);
  count_.fetch_add(1, std::memory_order_acq_rel);
  if (map_zeroes(base_ + begin, end - begin, protection_)) return true;
  // Each page replaced may cost a mapping, of which a process has a limited number. Past that, give the whole pool
  // up: every access to it ends in an error from here on, but the process lives to say so.
  // The kernel may have gone past its limit by one by now, and then allows no mapping at all, not even one that
  // replaces thousands: hence the spare ones.
  all_lost_.store(true, std::memory_order_release);
  lost_pages_.store(blocks_for(size_), std::memory_order_release);
  if (void* spare = spare_.exchange(nullptr, std::memory_order_acq_rel); spare != nullptr) {
    ::syscall(SYS_munmap, spare, kSpareBytes);
  }
  return map_zeroes(base_, size_, protection_);
}

/// Async-signal-safe.
void FaultLog::set_lost(uint64_t begin, uint64_t end) {
  uint64_t fresh = 0;
  for (uint64_t page = begin / kBlockSize; page < blocks_for(end); ++page) {
    const uint64_t bit = uint64_t{1} << (page % kPagesPerWord);
    const uint64_t before = lost_[page / kPagesPerWord].fetch_or(bit, std::memory_order_acq_rel);
    fresh += (before & bit) == 0 ? 1 : 0;
  }
  if (fresh == 0) return;
  lost_pages_.fetch_add(fresh, std::memory_order_acq_rel);
  if (seen_count_.load(std::memory_order_relaxed) >= seen_.size()) return;
  const uint32_t place = seen_count_.fetch_add(1, std::memory_order_relaxed);
  if (place >= seen_.size()) return;
  seen_[place].begin.store(begin, std::memory_order_relaxed);
  seen_[place].end.store(end, std::memory_order_release);
}

void FaultLog::note(uint64_t offset, uint64_t size) {
  if (offset >= size_ || size == 0) return;
  size = std::min(size, size_ - offset);
  set_lost(align_down(offset, kBlockSize), std::min(align_up(offset + size, kBlockSize), size_));
}

std::vector<LostRange> FaultLog::lost_ranges() const {
  std::vector<LostRange> ranges;
  if (all_lost_.load(std::memory_order_acquire)) return {{0, size_}};
  const size_t count = std::min<size_t>(seen_count_.load(std::memory_order_relaxed), seen_.size());
  for (size_t i = 0; i < count; ++i) {
    const uint64_t end = seen_[i].end.load(std::memory_order_acquire);
    const uint64_t begin = seen_[i].begin.load(std::memory_order_relaxed);
    if (end != 0) ranges.push_back({begin, end - begin});
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const LostRange& a, const LostRange& b) { return a.offset < b.offset; });
  size_t kept = 0;
  for (const LostRange& range : ranges) {
    if (kept != 0 && range.offset <= ranges[kept - 1].end()) {
      LostRange& last = ranges[kept - 1];
      last.size = std::max(last.end(), range.end()) - last.offset;
    } else {
      ranges[kept++] = range;
    }
  }
  ranges.resize(kept);
  return ranges;
}

bool FaultLog::is_lost_slow(uint64_t offset, uint64_t size) const {
  if (all_lost_.load(std::memory_order_acquire)) return true;
  if (offset >= size_) return false;
  const uint64_t first = offset / kBlockSize;
  const uint64_t last = (offset + std::min(size, size_ - offset) - 1) / kBlockSize;
  for (uint64_t w = first / kPagesPerWord; w <= last / kPagesPerWord; ++w) {
    uint64_t bits = lost_[w].load(std::memory_order_acquire);
    if (w == first / kPagesPerWord) bits &= ~uint64_t{0} << (first % kPagesPerWord);
    if (w == last / kPagesPerWord) bits &= ~uint64_t{0} >> (kPagesPerWord - 1 - last % kPagesPerWord);
    if (bits != 0) return true;
  }
  return false;
}

}  // namespace udax::media

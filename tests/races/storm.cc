// SPDX-License-Identifier: BSD-3-Clause
#include "tests/races/storm.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/random.h"
#include "tests/races/race.h"

namespace udax::races {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kThreads = 8;
constexpr uint64_t kStripe = 32;               // bytes
constexpr uint64_t kFileSize = 2 * kHugeSize;  // bytes
constexpr uint64_t kStripes = kFileSize / kStripe;
constexpr uint64_t kHotPages = 6;  // of each 2 MiB, and those around the border: where most happens

#if defined(__SANITIZE_THREAD__)
constexpr bool kWholePages = true;
#else
constexpr bool kWholePages = false;
#endif

/// Wipes of a stripe, or of whole pages: those of a stripe are the sum.
struct Wipes {
  std::atomic<uint32_t> begun{0};
  std::atomic<uint32_t> ended{0};
};

/// One byte as its owner knows it.
struct Byte {
  uint8_t value = 0;
  uint32_t ended_before = 0;  // wipes, when it was stored
  uint32_t begun_after = 0;
};

enum class Verdict : uint8_t { kFine, kOld, kLost, kWrong };

class Storm {
 public:
  Storm(fs::Filesystem& fs, const Mix& mix, uint64_t seed)
      : fs_(fs), mix_(mix), seed_(seed), stripes_(kStripes), pages_(kFileSize / kBlockSize), bytes_(kFileSize) {
    const auto made = fs.make(kRootIno, "storm", 0100644, 0, 0, kRoot);
    UDAX_ASSERT(made);
    ino_ = made->ino;
    small_ = std::make_unique<ModelMapper>(fs, ModelMapper::Pages::kSmall);
    huge_ = std::make_unique<ModelMapper>(fs, ModelMapper::Pages::kHuge);
    resize(kFileSize);
    for (int i = 0; i < 2; ++i) mappings_.push_back(std::make_unique<Mapping>(*small_, ino_));
    for (int i = 0; i < 2; ++i) mappings_.push_back(std::make_unique<Mapping>(*huge_, ino_));
  }
  ~Storm() { mappings_.clear(); }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

  void round(Clock::time_point until, uint64_t number) {
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([this, t, until, number] { run(t, until, number); });
    }
    for (std::thread& thread : threads) thread.join();
    check_all();
  }
  [[nodiscard]] StormResult result() {
    const std::lock_guard guard(mutex_);
    return {operations_.load(), wrong_.load(), first_};
  }

 private:
  struct Actor {
    uint32_t thread = 0;
    Random random;
    fs::OpenFilePtr file;
    uint64_t operations = 0;
  };

  template <typename... Parts>
  void complain(const Parts&... parts) {
    wrong_.fetch_add(1);
    const std::lock_guard guard(mutex_);
    if (!first_.empty()) return;
    ((first_ += parts), ...);
  }
  static std::string number(uint64_t n) { return std::to_string(n); }
  template <typename R>
  void expect_ok(const R& result, const char* what) {
    if (!result) complain(what, ": ", std::string(to_string(result.error())));
  }

  void resize(uint64_t size) {
    fs::SetAttr s;
    s.size = size;
    expect_ok(fs_.setattr(ino_, s, kRoot), "setattr");
  }

  void run(uint32_t thread, Clock::time_point until, uint64_t number) {
    Actor a{thread, Random(seed_ + number * 1000 + thread), nullptr, 0};
    auto file = fs_.open(ino_, O_RDWR, false);
    if (!file) return complain("open");
    a.file = std::move(*file);
    using Op = void (Storm::*)(Actor&);
    const std::array<std::pair<uint32_t, Op>, 11> ops{{{mix_.loads, &Storm::load},
                                                       {mix_.stores, &Storm::store},
                                                       {mix_.writes, &Storm::write},
                                                       {mix_.reads, &Storm::read},
                                                       {mix_.truncates, &Storm::truncate},
                                                       {mix_.punches, &Storm::punch},
                                                       {mix_.zero_ranges, &Storm::zero_range},
                                                       {mix_.allocates, &Storm::allocate},
                                                       {mix_.fsyncs, &Storm::fsync},
                                                       {mix_.flips, &Storm::flip},
                                                       {mix_.copies, &Storm::copy}}};
    uint32_t total = 0;
    for (const auto& [weight, op] : ops) total += weight;
    while (Clock::now() < until && wrong_.load() == 0) {
      for (int i = 0; i < 16; ++i, ++a.operations) {
        uint64_t pick = a.random.below(total);
        for (const auto& [weight, op] : ops) {
          if (pick < weight) {
            (this->*op)(a);
            break;
          }
          pick -= weight;
        }
      }
    }
    operations_.fetch_add(a.operations);
  }

  /// A page of the file; most are of a few.
  static uint64_t pick_page(Random& random) {
    constexpr uint64_t kPages = kFileSize / kBlockSize;
    if (random.one_in(20)) return random.below(kPages);
    const uint64_t hot = random.below(kHotPages);
    return random.one_in(2) ? hot : kHugeBlocks - kHotPages / 2 + hot;
  }
  /// Bytes of one of the thread's own stripes.
  struct Range {
    uint64_t offset = 0;
    uint64_t size = 0;
  };
  static Range pick_own(Actor& a) {
    constexpr uint64_t kPerPage = kBlockSize / kStripe;
    const uint64_t stripe =
        pick_page(a.random) * kPerPage + a.random.below(kPerPage / kThreads) * kThreads + a.thread;
    const uint64_t from = a.random.below(kStripe);
    return {stripe * kStripe + from, a.random.between(1, kStripe - from)};
  }
  Mapping& pick_mapping(Actor& a) { return *mappings_[a.random.below(mappings_.size())]; }

  // --- the model ---------------------------------------------------------------------------------------------
  uint32_t begun(uint64_t offset) {
    return stripes_[offset / kStripe].begun.load() + pages_[offset >> kBlockShift].begun.load();
  }
  uint32_t ended(uint64_t offset) {
    return stripes_[offset / kStripe].ended.load() + pages_[offset >> kBlockShift].ended.load();
  }

  /// Stores random bytes by `how`, which says what became of it.
  template <typename How>
  void store_by(Actor& a, const char* what, const How& how) {
    const Range range = pick_own(a);
    std::array<uint8_t, kStripe> data{};
    for (uint64_t i = 0; i < range.size; ++i) data[i] = static_cast<uint8_t>(a.random.between(1, 255));
    const uint32_t ended_before = ended(range.offset);
    const Touch touch = how(range, data.data());
    const uint32_t begun_after = begun(range.offset);
    if (touch == Touch::kFailed) return;
    if (touch == Touch::kBeyondEnd) {
      // A part may have been stored before the end came.
      if (begun_after == ended_before) return complain(what, " at ", number(range.offset), ": behind the end");
      for (uint64_t i = 0; i < range.size; ++i) unknown_.push_back_if_new(a.thread, range.offset + i);
      return;
    }
    for (uint64_t i = 0; i < range.size; ++i) bytes_[range.offset + i] = {data[i], ended_before, begun_after};
    unknown_.forget(a.thread, range.offset, range.size);
  }

  static Verdict judge(const Byte& byte, uint8_t seen, uint32_t ended_before, uint32_t begun_after) {
    if (byte.value == 0) return seen == 0 ? Verdict::kFine : Verdict::kWrong;
    if (seen == byte.value) {
      // More wipes have ended than had begun when it was stored: one came after it.
      const bool must_be_gone = static_cast<int32_t>(ended_before - byte.begun_after) > 0;
      return must_be_gone ? Verdict::kOld : Verdict::kFine;
    }
    if (seen != 0) return Verdict::kWrong;
    return begun_after == byte.ended_before ? Verdict::kLost : Verdict::kFine;
  }

  /// Looks at own bytes by `how`.
  template <typename How>
  void look_by(Actor& a, const char* what, const How& how) {
    const Range range = pick_own(a);
    std::array<uint8_t, kStripe> data{};
    const uint32_t ended_before = ended(range.offset);
    const Touch touch = how(range, data.data());
    const uint32_t begun_after = begun(range.offset);
    if (touch == Touch::kFailed) return;
    if (touch == Touch::kBeyondEnd) {
      if (begun_after == ended_before) complain(what, " at ", number(range.offset), ": behind the end");
      return;
    }
    for (uint64_t i = 0; i < range.size; ++i)
      settle(a.thread, what, range.offset + i, data[i], ended_before, begun_after);
  }

  void settle(uint32_t thread, const char* what, uint64_t offset, uint8_t seen, uint32_t ended_before,
              uint32_t begun_after) {
    if (unknown_.take(thread, offset)) {
      // Whatever it was: from now on it is this, unless a wipe is under way.
      bytes_[offset] = {seen, ended_before, begun_after};
      return;
    }
    Byte& byte = bytes_[offset];
    const Verdict verdict = judge(byte, seen, ended_before, begun_after);
    if (verdict != Verdict::kFine) {
      const char* const how = verdict == Verdict::kOld    ? "old byte back"
                              : verdict == Verdict::kLost ? "byte lost"
                                                          : "strange byte";
      return complain(what, " at ", number(offset), " (page ", number(offset >> kBlockShift), "): ", how, ": ",
                      number(seen), ", not ", number(byte.value), "; thread ", number(thread));
    }
    if (seen == 0) byte.value = 0;
  }

  template <typename Count>
  void count_wipe(uint64_t from, uint64_t to, const Count& count) {
    for (uint64_t at = from; at < to;) {
      const bool is_page = at % kBlockSize == 0 && to - at >= kBlockSize;
      count(is_page ? pages_[at >> kBlockShift] : stripes_[at / kStripe]);
      at += is_page ? kBlockSize : kStripe;
    }
  }
  void wipe_begins(uint64_t from, uint64_t to) {
    count_wipe(from, to, [](Wipes& w) { w.begun.fetch_add(1); });
  }
  void wipe_ends(uint64_t from, uint64_t to) {
    count_wipe(from, to, [](Wipes& w) { w.ended.fetch_add(1); });
  }
  /// Some pages, and parts of pages where that is allowed.
  static Range pick_wipe(Random& random, bool to_end) {
    const uint64_t unit = kWholePages ? kBlockSize : kStripe;
    const uint64_t from = pick_page(random) * kBlockSize + align_down(random.below(kBlockSize), unit);
    if (to_end) return {from, kFileSize - from};
    const uint64_t size = align_up(random.between(1, random.one_in(50) ? kHugeSize : 3 * kBlockSize), unit);
    return {from, std::min(size, kFileSize - from)};
  }

  // --- operations --------------------------------------------------------------------------------------------
  Touch touched(Touch touch, Mapping& mapping, const char* what) {
    if (touch == Touch::kFailed) complain(what, ": ", std::string(to_string(mapping.error())));
    return touch;
  }
  void load(Actor& a) {
    Mapping& mapping = pick_mapping(a);
    look_by(a, "load", [&](const Range& range, uint8_t* data) {
      return touched(mapping.load(range.offset, data, range.size), mapping, "load");
    });
  }
  void store(Actor& a) {
    Mapping& mapping = pick_mapping(a);
    store_by(a, "store", [&](const Range& range, const uint8_t* data) {
      return touched(mapping.store(range.offset, data, range.size), mapping, "store");
    });
  }
  void write(Actor& a) {
    store_by(a, "write", [&](const Range& range, const uint8_t* data) {
      const auto span = std::as_bytes(std::span(data, range.size));
      const auto done = fs_.write(*a.file, range.offset, span, false, false);
      expect_ok(done, "write");
      if (done && *done != range.size) complain("short write");
      return done ? Touch::kDone : Touch::kFailed;
    });
  }
  void read(Actor& a) {
    look_by(a, "read", [&](const Range& range, uint8_t* data) {
      uint64_t n = 0;
      const fs::ReadSink sink = [&](std::span<const iovec> pieces, uint64_t) -> Status {
        for (const iovec& piece : pieces) {
          std::memcpy(data + n, piece.iov_base, piece.iov_len);
          n += piece.iov_len;
        }
        return {};
      };
      const Status done = fs_.read(*a.file, range.offset, range.size, sink);
      expect_ok(done, "read");
      if (!done) return Touch::kFailed;
      return n == range.size ? Touch::kDone : Touch::kBeyondEnd;
    });
  }
  void truncate(Actor& a) {
    const Range range = pick_wipe(a.random, true);
    wipe_begins(range.offset, kFileSize);
    resize(range.offset);
    resize(kFileSize);
    wipe_ends(range.offset, kFileSize);
  }
  void wipe(Actor& a, uint32_t mode, const char* what) {
    const Range range = pick_wipe(a.random, false);
    wipe_begins(range.offset, range.offset + range.size);
    expect_ok(fs_.fallocate(*a.file, mode | fs::kFallocKeepSize, range.offset, range.size), what);
    wipe_ends(range.offset, range.offset + range.size);
  }
  void punch(Actor& a) { wipe(a, fs::kFallocPunchHole, "punch"); }
  void zero_range(Actor& a) { wipe(a, fs::kFallocZeroRange, "zero range"); }
  void allocate(Actor& a) {
    const Range range = pick_wipe(a.random, false);
    expect_ok(fs_.fallocate(*a.file, fs::kFallocKeepSize, range.offset, range.size), "fallocate");
  }
  void fsync(Actor& a) { expect_ok(fs_.fsync(*a.file, false), "fsync"); }
  void flip(Actor& a) {
    const uint32_t flag = a.random.one_in(2) ? format::kFlagDax : 0;
    expect_ok(fs_.set_flags(ino_, flag, format::kFlagDax, {}, kRoot), "set_flags");
  }
  /// A private copy of a page: own bytes as they are, and from then on whatever happens to the file.
  void copy(Actor& a) {
    Mapping mapping(a.random.one_in(2) ? *small_ : *huge_, ino_, Mapping::Kind::kPrivate);
    look_by(a, "private copy", [&](const Range& range, uint8_t* data) {
      // The store that copies the page is to the first of the bytes, which is put back into the answer.
      const uint64_t place = range.offset;
      uint8_t first = 0;
      const uint8_t mark = 77;
      Touch touch = touched(mapping.load(place, &first, 1), mapping, "private load");
      if (touch == Touch::kDone) touch = touched(mapping.store(place, &mark, 1), mapping, "private store");
      if (touch != Touch::kDone) return touch;
      touch = touched(mapping.load(place, data, range.size), mapping, "private load");
      if (data[0] != mark) complain("private copy at ", number(place), ": what was stored is not there");
      data[0] = first;
      std::array<uint8_t, kStripe> again{};
      static_cast<void>(mapping.load(place, again.data(), range.size));
      again[0] = first;
      if (!std::equal(again.begin(), again.begin() + range.size, data)) complain("private copy changes");
      return touch;
    });
  }

  /// Between rounds nobody else is at work.
  void check_all() {
    auto file = fs_.open(ino_, O_RDONLY, false);
    if (!file) return complain("open");
    const auto all = test::read_file(fs_, **file, 0, kFileSize);
    if (!all || all->size() != kFileSize) return complain("read of all");
    for (uint64_t i = 0; i < kFileSize && wrong_.load() == 0; ++i) {
      const auto thread = static_cast<uint32_t>(i / kStripe % kThreads);
      settle(thread, "read of all", i, static_cast<uint8_t>((*all)[i]), ended(i), begun(i));
    }
    Random random(seed_);
    for (const auto& mapping : mappings_) {
      for (int i = 0; i < 40 && wrong_.load() == 0; ++i) {
        const uint64_t page = pick_page(random);
        if (mapping->get(page * kBlockSize, kBlockSize) != all->substr(page * kBlockSize, kBlockSize)) {
          complain("a view of page ", number(page), " differs from a read");
        }
      }
    }
    const std::string audit = mappings_.front()->file().inode().space()->entries.audit();
    if (!audit.empty()) complain("entry tree: ", audit);
  }

  /// Bytes of which a store may or may not have got there: few. By thread, so that no lock is needed.
  class Unknown {
   public:
    void push_back_if_new(uint32_t thread, uint64_t offset) {
      auto& list = lists_[thread];
      if (std::find(list.begin(), list.end(), offset) == list.end()) list.push_back(offset);
    }
    void forget(uint32_t thread, uint64_t offset, uint64_t size) {
      std::erase_if(lists_[thread], [&](uint64_t o) { return o >= offset && o < offset + size; });
    }
    bool take(uint32_t thread, uint64_t offset) { return std::erase(lists_[thread], offset) != 0; }

   private:
    std::array<std::vector<uint64_t>, kThreads> lists_;
  };

  fs::Filesystem& fs_;
  const Mix mix_;
  const uint64_t seed_;
  Ino ino_;
  std::vector<Wipes> stripes_;
  std::vector<Wipes> pages_;
  std::vector<Byte> bytes_;
  Unknown unknown_;
  std::unique_ptr<ModelMapper> small_;
  std::unique_ptr<ModelMapper> huge_;
  std::vector<std::unique_ptr<Mapping>> mappings_;
  std::atomic<uint64_t> operations_{0};
  std::atomic<uint64_t> wrong_{0};
  std::mutex mutex_;
  std::string first_;
};

double number_from(const char* variable, double otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtod(text, nullptr) : otherwise;
}

}  // namespace

StormResult run_storm(fs::Filesystem& fs, const Mix& mix, double seconds, uint64_t seed) {
  Storm storm(fs, mix, seed);
  const auto end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (uint64_t round = 0; Clock::now() < end && storm.result().wrong == 0; ++round) {
    const auto until = std::min(end, Clock::now() + Clock::duration(500ms));
    storm.round(until, round);
  }
  return storm.result();
}

void storm(const Mix& mix, double scale, const fs::MountOptions& options, media::Granularity granularity) {
  const double seconds = scale * number_from("UDAX_STORM_SECONDS", 1);
  uint64_t seed = 0;
  fill_random(&seed, sizeof seed);
  seed %= 1000000;
  seed = static_cast<uint64_t>(number_from("UDAX_STORM_SEED", static_cast<double>(seed)));
  std::printf("UDAX_STORM_SEED=%llu UDAX_STORM_SECONDS=%g\n", static_cast<unsigned long long>(seed), seconds);
  test::TestPool pool(std::make_shared<media::MemoryMedium>(64 << 20, granularity), true, options);
  const StormResult result = run_storm(pool.fs(), mix, seconds, seed);
  std::printf("%llu operations\n", static_cast<unsigned long long>(result.operations));
  EXPECT_EQ(result.wrong, 0U) << result.first;
  EXPECT_GT(result.operations, 0U);
}

}  // namespace udax::races

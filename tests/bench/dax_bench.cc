// SPDX-License-Identifier: BSD-3-Clause
//
// What a fault of each kind costs, and an fsync after so many pages were dirtied of a file of 1 GiB.
//
// The mapper is a page table in an array: what is measured is the filesystem's part. A fault that allocates or changes times
// pays for a transaction. The medium is memory; flush is clflush of each line and drain sfence, dearer than a clwb, so that
// fsync's cost has the lines in it. Times change once a tick: most write faults on data change none.
#include <benchmark/benchmark.h>
#include <emmintrin.h>
#include <fcntl.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "fs/filesystem.h"
#include "media/memory_medium.h"
#include "mkfs/make_pool.h"

namespace {

using udax::FileBlock;
using udax::Ino;
using udax::kBlockSize;
using udax::kHugeBlocks;
using udax::Status;
using udax::dax::Access;
using udax::dax::View;

constexpr uint64_t kFileBlocks = uint64_t{1} << 18;  // 1 GiB
constexpr uint32_t kOrders[] = {udax::mapping::kPageOrder, udax::mapping::kHugeOrder};

class FlushingMedium final : public udax::media::MemoryMedium {
 public:
  explicit FlushingMedium(uint64_t size) : MemoryMedium(size) {}
  void flush(uint64_t offset, uint64_t size) override {
    for (uint64_t at = udax::align_down(offset, udax::kCacheLine); at < offset + size; at += udax::kCacheLine) {
      _mm_clflush(this->at(at));
    }
  }
  [[nodiscard]] Status drain() override {
    _mm_sfence();
    return {};
  }
};

/// Takes views into an array, and out again.
class ArrayMapper final : public udax::mapping::Mapper {
 public:
  void invalidate(Ino /*ino*/, udax::mapping::ByteRange /*range*/) override { ++calls_; }
  void write_protect(Ino /*ino*/, udax::mapping::ByteRange /*range*/) override { ++calls_; }
  Status install(const View& view) {
    table_[view.start.value] = view;
    return {};
  }

 private:
  std::vector<View> table_ = std::vector<View>(kFileBlocks);
  uint64_t calls_ = 0;
};

template <typename R>
auto must(R result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", std::string(udax::to_string(result.error())).c_str());
    std::exit(1);
  }
  if constexpr (!std::is_same_v<R, Status>) return std::move(*result);
}

/// A pool with a file of 1 GiB, a hole to begin with.
struct Bench {
  explicit Bench(uint64_t size = uint64_t{3} << 29) {
    auto medium = std::make_shared<FlushingMedium>(size);
    std::string why;
    must(udax::mkfs::make_pool(*medium, {}, &why));
    fs = must(udax::fs::Filesystem::mount(medium, {}, &why));
    fs->mappers().add(&mapper);
    udax::fs::Attr attr;
    file = must(fs->create(udax::kRootIno, "f", 0644, O_RDWR, {}, &attr));
    udax::fs::SetAttr to_size;
    to_size.size = kFileBlocks * kBlockSize;
    static_cast<void>(must(fs->setattr(attr.ino, to_size, {})));
  }
  ~Bench() {
    file.reset();
    fs->mappers().remove(&mapper);
    must(fs->unmount());
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void fault(uint64_t at, Access access, uint32_t order) {
    const auto done = fs->dax().fault(file->inode(), FileBlock(at), access, order,
                                      [this](const View& view) { return mapper.install(view); });
    static_cast<void>(must(done));
  }
  void fill(uint64_t from, uint64_t count) {
    for (uint64_t at = from; at < from + count; at += kHugeBlocks)
      fault(at, Access::kWrite, udax::mapping::kHugeOrder);
  }
  /// Forgets entries and views; blocks stay.
  void forget(uint64_t from, uint64_t to) {
    const udax::LockGuard guard(file->inode().invalidate_lock);
    must(fs->dax().drop(file->inode(), FileBlock(from), FileBlock(to)));
  }
  void punch(uint64_t from, uint64_t count) {
    must(fs->fallocate(*file, udax::fs::kFallocPunchHole | udax::fs::kFallocKeepSize, from * kBlockSize,
                       count * kBlockSize));
  }
  void allocate(uint64_t from, uint64_t count) {
    must(fs->fallocate(*file, udax::fs::kFallocKeepSize, from * kBlockSize, count * kBlockSize));
  }

  ArrayMapper mapper;
  std::unique_ptr<udax::fs::Filesystem> fs;
  udax::fs::OpenFilePtr file;
};

// Faults run over a part of the file; then, with the clock stopped, it is made what it was.
constexpr uint64_t kPart = 4 * kHugeBlocks;

template <typename Reset>
void run(benchmark::State& state, Bench& bench, Access access, const Reset& reset) {
  const uint32_t order = kOrders[state.range(0)];
  const uint64_t step = uint64_t{1} << order;
  uint64_t at = 0;
  for (auto _ : state) {
    if (at >= kPart) {
      state.PauseTiming();
      reset();
      at = 0;
      state.ResumeTiming();
    }
    bench.fault(at, access, order);
    at += step;
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(step * kBlockSize));
}

void read_hole(benchmark::State& state) {
  Bench bench;
  run(state, bench, Access::kRead, [&] { bench.forget(0, kPart); });
}
void read_data(benchmark::State& state) {
  Bench bench;
  bench.fill(0, kPart);
  bench.forget(0, kPart);
  run(state, bench, Access::kRead, [&] { bench.forget(0, kPart); });
}
void read_again(benchmark::State& state) {  // the entry is there: another process's first touch
  Bench bench;
  bench.fill(0, kPart);
  run(state, bench, Access::kRead, [] {});
}
void write_data(benchmark::State& state) {  // mkwrite
  Bench bench;
  bench.fill(0, kPart);
  run(state, bench, Access::kWrite, [] {});
}
void write_hole(benchmark::State& state) {
  Bench bench;
  run(state, bench, Access::kWrite, [&] { bench.punch(0, kPart); });
}
void write_unwritten(benchmark::State& state) {
  Bench bench;
  bench.allocate(0, kPart);
  run(state, bench, Access::kWrite, [&] {
    bench.punch(0, kPart);
    bench.allocate(0, kPart);
  });
}
void write_hole_that_was_read(benchmark::State& state) {
  Bench bench;
  const uint32_t order = kOrders[state.range(0)];
  const auto read_all = [&] {
    for (uint64_t at = 0; at < kPart; at += uint64_t{1} << order) bench.fault(at, Access::kRead, order);
  };
  read_all();
  run(state, bench, Access::kWrite, [&] {
    bench.punch(0, kPart);
    read_all();
  });
}
void copy(benchmark::State& state) {
  Bench bench;
  bench.fill(0, kPart);
  run(state, bench, Access::kCopy, [] {});
}

#define UDAX_BENCH_FAULT(function) BENCHMARK(function)->ArgName("huge")->Arg(0)->Arg(1)
UDAX_BENCH_FAULT(read_hole);
UDAX_BENCH_FAULT(read_data);
UDAX_BENCH_FAULT(read_again);
UDAX_BENCH_FAULT(write_data);
UDAX_BENCH_FAULT(write_hole);
UDAX_BENCH_FAULT(write_unwritten);
UDAX_BENCH_FAULT(write_hole_that_was_read);
BENCHMARK(copy)->ArgName("huge")->Arg(0);

// fsync after range(0) pages were dirtied, spread over all of a file of 1 GiB whose other pages have clean entries.
void fsync_dirty(benchmark::State& state) {
  static Bench bench;
  static const bool is_made = [] {
    bench.allocate(0, kFileBlocks);
    for (uint64_t at = 0; at < kFileBlocks; ++at) bench.fault(at, Access::kRead, 0);
    must(bench.fs->fsync(*bench.file, true));
    return true;
  }();
  benchmark::DoNotOptimize(is_made);
  const auto pages = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    for (uint64_t i = 0; i < pages; ++i) bench.fault(i * (kFileBlocks / pages), Access::kWrite, 0);
    state.ResumeTiming();
    must(bench.fs->fsync(*bench.file, true));
  }
  state.counters["pages"] = static_cast<double>(pages);
  state.counters["ns_per_page"] =
      benchmark::Counter(static_cast<double>(pages) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(fsync_dirty)->ArgName("pages")->RangeMultiplier(10)->Range(1, 100000)->Unit(benchmark::kMicrosecond);

void fsync_clean(benchmark::State& state) {
  Bench bench;
  bench.fault(0, Access::kRead, 0);
  for (auto _ : state) must(bench.fs->fsync(*bench.file, true));
}
BENCHMARK(fsync_clean);

}  // namespace

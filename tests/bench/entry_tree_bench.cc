// SPDX-License-Identifier: BSD-3-Clause
//
// The entry tree beside a raw array (the limit: no locks, no gaps, no growth) and std::map under the same spinlock (what
// one would take without thinking). `n` entries of 4 KiB, at blocks 0..n-1, visited in order or shuffled. One
// operation is one entry; a walk counts what it finds.
//
// The array is not of the tree's kind: it is as long as the file, and each of its walks reads all of it.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

#include "base/mutex.h"
#include "base/random.h"
#include "mapping/entry_tree.h"

namespace {

using udax::DeviceBlock;
using udax::FileBlock;
using udax::LockGuard;
using udax::SpinLock;
using udax::mapping::Entry;
using udax::mapping::EntryTree;
using udax::mapping::Mark;

class Tree {
 public:
  explicit Tree(uint64_t /*n*/) {}
  void insert(uint64_t at) {
    auto locked = tree_.grab(FileBlock(at), udax::mapping::kPageOrder);
    if (locked) locked->set({Entry::Kind::kData, DeviceBlock(at + 1)});
  }
  uint64_t lookup(uint64_t at) {
    const auto locked = tree_.grab_existing(FileBlock(at));
    return locked ? locked->entry().device.value : 0;
  }
  void mark(uint64_t at) {
    if (auto locked = tree_.grab_existing(FileBlock(at))) locked->set_mark(Mark::kDirty);
  }
  uint64_t walk_marked() {
    uint64_t found = 0;
    FileBlock from(0);
    while (const auto locked = tree_.grab_next_marked(from, FileBlock(~uint64_t{0}), Mark::kDirty)) {
      ++found;
      from = locked->end();
    }
    return found;
  }
  uint64_t tag(uint64_t n) { return tree_.tag(FileBlock(0), FileBlock(n), Mark::kDirty, Mark::kToWrite); }
  void insert_run(uint64_t n) { (void)tree_.mark_dirty_run(FileBlock(0), DeviceBlock(1), n); }

 private:
  EntryTree tree_;
};

struct Value {
  uint64_t device = 0;
  bool is_dirty = false;
  bool is_to_write = false;
};

class Map {
 public:
  explicit Map(uint64_t /*n*/) {}
  void insert(uint64_t at) {
    const LockGuard guard(lock_);
    map_[at] = Value{at + 1};
  }
  uint64_t lookup(uint64_t at) {
    const LockGuard guard(lock_);
    const auto it = map_.find(at);
    return it != map_.end() ? it->second.device : 0;
  }
  void mark(uint64_t at) {
    const LockGuard guard(lock_);
    const auto it = map_.find(at);
    if (it != map_.end()) it->second.is_dirty = true;
  }
  uint64_t walk_marked() {
    const LockGuard guard(lock_);
    return static_cast<uint64_t>(
        std::count_if(map_.begin(), map_.end(), [](const auto& pair) { return pair.second.is_dirty; }));
  }
  uint64_t tag(uint64_t /*n*/) {
    const LockGuard guard(lock_);
    uint64_t tagged = 0;
    for (auto& [at, value] : map_) {
      if (!value.is_dirty) continue;
      value.is_to_write = true;
      ++tagged;
    }
    return tagged;
  }
  void insert_run(uint64_t n) {
    const LockGuard guard(lock_);
    for (uint64_t at = 0; at < n; ++at) map_.insert_or_assign(map_.end(), at, Value{at + 1, true});
  }

 private:
  SpinLock lock_;
  std::map<uint64_t, Value> map_;
};

class Array {
 public:
  explicit Array(uint64_t n) : values_(n) {}
  void insert(uint64_t at) { values_[at] = Value{at + 1}; }
  uint64_t lookup(uint64_t at) { return values_[at].device; }
  void mark(uint64_t at) { values_[at].is_dirty = true; }
  uint64_t walk_marked() {
    return static_cast<uint64_t>(
        std::count_if(values_.begin(), values_.end(), [](const Value& value) { return value.is_dirty; }));
  }
  uint64_t tag(uint64_t /*n*/) {
    uint64_t tagged = 0;
    for (Value& value : values_) {
      if (!value.is_dirty) continue;
      value.is_to_write = true;
      ++tagged;
    }
    return tagged;
  }
  void insert_run(uint64_t n) {
    for (uint64_t at = 0; at < n; ++at) values_[at] = Value{at + 1, true};
  }

 private:
  std::vector<Value> values_;
};

std::vector<uint64_t> blocks_of(const benchmark::State& state) {
  std::vector<uint64_t> blocks(static_cast<size_t>(state.range(0)));
  std::iota(blocks.begin(), blocks.end(), uint64_t{0});
  udax::Random random(1);
  if (state.range(1) != 0) std::shuffle(blocks.begin(), blocks.end(), random);
  return blocks;
}

void count_items(benchmark::State& state, uint64_t per_iteration) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(per_iteration));
}

template <typename Store>
void insert(benchmark::State& state) {
  const std::vector<uint64_t> blocks = blocks_of(state);
  for (auto _ : state) {
    Store store(blocks.size());
    for (const uint64_t at : blocks) store.insert(at);
    benchmark::DoNotOptimize(store);
  }
  count_items(state, blocks.size());
}

template <typename Store>
void insert_run(benchmark::State& state) {
  const auto n = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    Store store(n);
    store.insert_run(n);
    benchmark::DoNotOptimize(store);
  }
  count_items(state, n);
}

template <typename Store>
void lookup(benchmark::State& state) {
  const std::vector<uint64_t> blocks = blocks_of(state);
  Store store(blocks.size());
  for (const uint64_t at : blocks) store.insert(at);
  for (auto _ : state) {
    uint64_t sum = 0;
    for (const uint64_t at : blocks) sum += store.lookup(at);
    benchmark::DoNotOptimize(sum);
  }
  count_items(state, blocks.size());
}

template <typename Store>
void mark(benchmark::State& state) {  // but for the first round, of entries that are marked already
  const std::vector<uint64_t> blocks = blocks_of(state);
  Store store(blocks.size());
  for (const uint64_t at : blocks) store.insert(at);
  for (auto _ : state) {
    for (const uint64_t at : blocks) store.mark(at);
    benchmark::ClobberMemory();
  }
  count_items(state, blocks.size());
}

// One in range(1) entries is marked. Items are entries found.
template <typename Store>
void walk_marked(benchmark::State& state) {
  const auto n = static_cast<uint64_t>(state.range(0));
  Store store(n);
  for (uint64_t at = 0; at < n; ++at) store.insert(at);
  for (uint64_t at = 0; at < n; at += static_cast<uint64_t>(state.range(1))) store.mark(at);
  uint64_t found = 0;
  for (auto _ : state) {
    found = store.walk_marked();
    benchmark::DoNotOptimize(found);
  }
  count_items(state, found);
}

template <typename Store>
void tag(benchmark::State& state) {
  const auto n = static_cast<uint64_t>(state.range(0));
  Store store(n);
  for (uint64_t at = 0; at < n; ++at) store.insert(at);
  for (uint64_t at = 0; at < n; at += static_cast<uint64_t>(state.range(1))) store.mark(at);
  uint64_t tagged = 0;
  for (auto _ : state) {
    tagged = store.tag(n);
    benchmark::DoNotOptimize(tagged);
  }
  count_items(state, tagged);
}

// Several threads, each in a part of one file: what the tree lock costs when it is shared.
void lookup_shared(benchmark::State& state) {
  constexpr uint64_t kBlocks = 1 << 16;
  static Tree store(kBlocks);
  if (state.thread_index() == 0) store.insert_run(kBlocks);
  const auto part = kBlocks / static_cast<uint64_t>(state.threads());
  const uint64_t first = part * static_cast<uint64_t>(state.thread_index());
  uint64_t i = 0;
  while (state.KeepRunning()) {
    benchmark::DoNotOptimize(store.lookup(first + i));
    i = (i + 7) % part;
  }
  count_items(state, 1);
}

void sizes_and_orders(benchmark::internal::Benchmark* b) {
  b->ArgNames({"n", "shuffled"})->ArgsProduct({{1000, 10000, 100000, 1000000}, {0, 1}});
}
void sizes(benchmark::internal::Benchmark* b) { b->ArgName("n")->RangeMultiplier(10)->Range(1000, 1000000); }
void sizes_and_densities(benchmark::internal::Benchmark* b) {
  b->ArgNames({"n", "one_in"})->ArgsProduct({{1000, 10000, 100000, 1000000}, {1, 10, 1000}});
}

#define UDAX_BENCH_STORES(function, arguments)          \
  BENCHMARK_TEMPLATE(function, Tree)->Apply(arguments); \
  BENCHMARK_TEMPLATE(function, Map)->Apply(arguments);  \
  BENCHMARK_TEMPLATE(function, Array)->Apply(arguments)

UDAX_BENCH_STORES(insert, sizes_and_orders);
UDAX_BENCH_STORES(insert_run, sizes);
UDAX_BENCH_STORES(lookup, sizes_and_orders);
UDAX_BENCH_STORES(mark, sizes_and_orders);
UDAX_BENCH_STORES(walk_marked, sizes_and_densities);
UDAX_BENCH_STORES(tag, sizes_and_densities);
BENCHMARK(lookup_shared)->ThreadRange(1, 8)->UseRealTime();

}  // namespace

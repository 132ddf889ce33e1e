// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/suites.h"

#include <array>
#include <cstdio>

#include "base/random.h"

namespace udax::crash {
namespace {

constexpr size_t kViolationsPerWorkload = 3;

Workload workload(const std::string& name, uint64_t seed, uint64_t from = 0) {
  auto w = Workload::parse(name, seed);
  UDAX_ASSERT(w.has_value());
  w->from = from;
  return std::move(*w);
}

Suite singles(Scale scale, uint64_t seed) {
  Suite s{"single", "each operation alone, with the mount and the unmount around it", {}, {}};
  if (scale == Scale::kQuick) s.budget = {256, 4, 12, 6, 100, 1, 1};
  for (const Operation& op : operations()) s.workloads.push_back(workload("plain/" + op.name + "!", seed));
  return s;
}

Suite pairs(Scale scale, uint64_t seed) {
  Suite s{"pair", "each operation after each other one", {64, 0, 12, 4, 200, 1, 1}, {}};
  if (scale == Scale::kQuick) s.budget = {16, 0, 2, 2, 0, 0, 1};
  uint64_t n = seed;
  for (const Operation& a : operations()) {
    for (const Operation& b : operations()) {
      if (scale == Scale::kQuick && ++n % 20 != 0) continue;
      s.workloads.push_back(workload("plain/" + a.name + "+" + b.name, seed, 1));
    }
  }
  return s;
}

Suite full_pools(Scale scale, uint64_t seed) {
  Suite s{"full", "operations alone and in pairs where hardly a block is free", {64, 4, 16, 6, 100, 1, 1}, {}};
  for (const char* world : {"full", "recycle"}) {
    for (const Operation& a : full_operations()) {
      s.workloads.push_back(workload(std::string(world) + "/" + a.name + "!", seed));
      if (scale == Scale::kQuick) continue;
      for (const Operation& b : full_operations()) {
        s.workloads.push_back(workload(std::string(world) + "/" + a.name + "+" + b.name, seed, 1));
      }
    }
  }
  if (scale == Scale::kQuick) s.budget = {32, 0, 4, 2, 200, 1, 1};
  return s;
}

Suite mapped(Scale scale, uint64_t seed) {
  Suite s{"mapped", "stores through mappings, fsync, and flips of the DAX flag", {256, 6, 32, 16, 50, 2, 1}, {}};
  if (scale == Scale::kQuick) s.budget = {64, 0, 8, 4, 200, 1, 1};
  for (const char* list : {"map_store+fsync!", "map_store_unaligned+fsync!", "map_store_hole+fsync_hole!",
                           "map_store_preallocated+fsync_kept!", "map_store+map_store_unaligned+fsync+map_store",
                           "map_store+create+fsync+unlink_one_of_two", "map_store+overwrite_small+fsync",
                           "map_store+set_flag_dax+map_store_unaligned+set_flag_dax_off+fsync",
                           "set_flag_dax+map_store+fsync+set_flag_dax_off+overwrite_unaligned",
                           "map_store+append_small+fsync+truncate_down", "map_store+truncate_up+fsync",
                           "map_store_hole+write_into_a_hole+fsync_hole"}) {
    s.workloads.push_back(workload(std::string("plain/") + list, seed));
  }
  return s;
}

Suite whole_writes(Scale scale, uint64_t seed) {
  Suite s{"whole", "writes with data=atomic, alone and in pairs", {256, 4, 32, 8, 100, 1, 1}, {}};
  if (scale == Scale::kQuick) s.budget = {32, 0, 6, 2, 200, 1, 1};
  for (const Operation& a : operations()) {
    if (a.rule == Rule::kAtomic) continue;
    s.workloads.push_back(workload("whole/" + a.name + "!", seed));
    for (const Operation& b : operations()) {
      if (scale == Scale::kFull && b.rule == Rule::kInPlace) {
        s.workloads.push_back(workload("whole/" + a.name + "+" + b.name, seed, 1));
      }
    }
  }
  return s;
}

Suite steps(Scale scale, uint64_t seed) {
  Suite s{"steps", "a file of many extents that goes in several transactions", {64, 0, 8, 4, 50, 1, 1}, {}};
  if (scale == Scale::kQuick) s.budget = {16, 0, 1, 1, 0, 0, 2};
  for (const char* list : {"shrink_fragments+grow_fragments", "unlink_fragments!", "rename_onto_fragments",
                           "close_fragments", "punch_fragments"}) {
    s.workloads.push_back(workload(std::string("fragments/") + list, seed));
  }
  return s;
}

Suite journal_turns(Scale scale, uint64_t seed) {
  Suite s{"ring",
          "while the journal's tail moves and its ring wraps; freed blocks used again",
          {256, 4, 16, 8, 50, 2, 1},
          {}};
  if (scale == Scale::kQuick) s.budget = {32, 0, 4, 2, 200, 1, 1};
  for (const char* list :
       {"create+unlink+append_blocks", "chmod+chown+setxattr_large+create", "rename_onto_file+mkdir",
        "append_small+truncate_down+append_blocks", "create_splitting_a_leaf+symlink_long"}) {
    s.workloads.push_back(workload(std::string("ring/") + list, seed));
  }
  for (const char* list :
       {"create+unlink+append_blocks", "rename_onto_file+setxattr_large", "chmod|chown_other"}) {
    s.workloads.push_back(workload(std::string("brim/") + list, seed));
  }
  s.workloads.push_back(workload("reuse/recycle", seed));
  s.workloads.push_back(workload("reuse/plain", seed));
  return s;
}

Suite threads(Scale scale, uint64_t seed) {
  Suite s{"threads", "two and three operations at once", {64, 0, 8, 8, 100, 1, 1}, {}};
  static constexpr std::array kSome = {"create",
                                       "create_in_subdirectory",
                                       "unlink",
                                       "rename",
                                       "rename_into_directory",
                                       "rename_onto_file",
                                       "exchange",
                                       "link",
                                       "append_blocks",
                                       "write_into_a_hole",
                                       "truncate_down",
                                       "setxattr_large",
                                       "mkdir",
                                       "unlink_many_extents",
                                       "chmod",
                                       "overwrite_block",
                                       "punch_unaligned",
                                       "symlink_long",
                                       "rmdir",
                                       "rename_directory_into_directory",
                                       "tmpfile_and_link"};
  const size_t step = scale == Scale::kQuick ? 17 : 1;
  size_t n = 0;
  for (size_t a = 0; a < kSome.size(); ++a) {
    for (size_t b = a; b < kSome.size(); ++b) {
      if (n++ % step == 0)
        s.workloads.push_back(workload("plain/" + std::string(kSome[a]) + "|" + kSome[b], seed + n));
    }
  }
  for (size_t i = 0; i < (scale == Scale::kQuick ? 4 : 120); ++i) {
    Random random(seed * 1000 + i);
    std::string name = "plain/";
    for (int k = 0; k < 3; ++k) name += (k == 0 ? "" : "|") + std::string(kSome.at(random.below(kSome.size())));
    s.workloads.push_back(workload(name, seed + i));
  }
  if (scale == Scale::kQuick) s.budget = {16, 0, 3, 4, 0, 0, 1};
  return s;
}

Suite random_ones(Scale scale, uint64_t seed) {
  Suite s{"random", "thirty operations in a row, drawn by seed", {16, 0, 2, 4, 200, 1, 1}, {}};
  const uint64_t count = scale == Scale::kQuick ? 4 : 200;
  for (uint64_t i = 0; i < count; ++i) {
    static constexpr std::array kWhere = {"plain", "recycle", "whole", "plain", "ring", "full", "plain", "brim"};
    const char* world = kWhere.at(i % kWhere.size());
    s.workloads.push_back(workload(std::string("random/") + world, seed + i));
  }
  return s;
}

}  // namespace

std::vector<Suite> suites(Scale scale, uint64_t seed) {
  return {singles(scale, seed), whole_writes(scale, seed),  mapped(scale, seed),
          steps(scale, seed),   journal_turns(scale, seed), full_pools(scale, seed),
          threads(scale, seed), random_ones(scale, seed),   pairs(scale, seed)};
}

SuiteResult run_suite(const Suite& suite, size_t part, size_t parts,
                      const std::function<void(const Violation&)>& on_violation) {
  Lab lab;
  SuiteResult result;
  for (size_t i = part; i < suite.workloads.size(); i += parts) {
    for (Violation& v : lab.run(suite.workloads[i], suite.budget, kViolationsPerWorkload)) {
      if (on_violation) on_violation(v);
      result.violations.push_back(std::move(v));
    }
  }
  result.totals = lab.totals();
  return result;
}

std::string table_head() {
  char line[200];
  std::snprintf(line, sizeof line, "%-10s %9s %9s %10s %9s %9s %10s %8s %9s\n", "suite", "workloads", "moments",
                "images", "nested", "examined", "violations", "seconds", "images/s");
  return line;
}

std::string table_row(std::string_view name, const Totals& t) {
  char line[200];
  std::snprintf(line, sizeof line, "%-10.*s %9lu %9lu %10lu %9lu %9lu %10lu %8.1f %9.0f\n",
                static_cast<int>(name.size()), name.data(), static_cast<unsigned long>(t.workloads),
                static_cast<unsigned long>(t.points), static_cast<unsigned long>(t.images),
                static_cast<unsigned long>(t.nested), static_cast<unsigned long>(t.examined),
                static_cast<unsigned long>(t.violations), t.seconds,
                t.seconds > 0 ? static_cast<double>(t.images) / t.seconds : 0);
  return line;
}

}  // namespace udax::crash

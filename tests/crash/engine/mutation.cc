// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/mutation.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "base/sync_point.h"
#include "tests/crash/engine/damage.h"

namespace udax::crash {
namespace {

using enum MutationClass;

constexpr uint64_t kSchedules = 60;    // of a workload of threads
constexpr unsigned kSecondsMax = 240;  // for one mutation; longer: it hangs

// clang-format off: a table
constexpr Mutation kMutations[] = {
    {"journal.record_cached", kFlush, "a record is stored and not flushed", "plain/create!"},
    {"journal.skip_wrapped_part", kFlush, "the part of a record behind the ring's end is not written",
     "ring/create+unlink+append_blocks"},
    {"journal.skip_last_line", kFlush, "the last line of a record is not written", "plain/create!"},
    {"journal.fresh_cached", kFlush, "new metadata blocks are stored and not flushed", "plain/setxattr_large!"},
    {"journal.skip_apply_flush", kFlush, "what is applied in place is not flushed", "plain/create!"},
    {"journal.skip_slot_flush", kFlush, "the journal's tail is not flushed", "plain/create!"},
    {"journal.replay_skip_flush", kFlush, "what is replayed is not flushed", "plain/create!"},
    {"fs.data_cached", kFlush, "bytes stored in place are not flushed", "plain/overwrite_block!"},
    {"fs.last_bytes_cached", kFlush, "the last bytes of a write are not flushed", "plain/append_blocks!"},
    {"dax.writeback.skip_flush", kFlush, "fsync does not flush what was stored through a mapping",
     "plain/map_store+fsync!"},

    {"journal.skip_record_drain", kDrain, "no drain between a record and what it says", "plain/create!"},
    {"journal.skip_fresh_drain", kDrain, "no drain between new blocks and the record that points at them",
     "plain/setxattr_large!"},
    {"journal.ignore_data_pending", kDrain, "no drain between data and the record that points at it",
     "plain/append_blocks!"},
    {"fs.skip_data_pending", kDrain, "a write does not say that its data must be drained", "plain/append_blocks!"},
    {"journal.skip_apply_drain", kDrain, "no drain between what is applied and the tail that passes it",
     "plain/create!"},
    {"journal.skip_slot_drain", kDrain, "no drain behind a new tail", "plain/create!"},
    {"journal.replay_skip_drain", kDrain, "no drain between what is replayed and the tail that passes it",
     "plain/create!"},
    {"fs.skip_settle", kDrain, "an overwrite is acknowledged before it is drained", "plain/overwrite_block!"},

    {"journal.fresh_after_record", kOrder, "new blocks and data are written after the record",
     "plain/append_blocks!"},
    {"journal.apply_before_record", kOrder, "changes are applied before the record is durable", "plain/create!"},
    {"journal.tail_at_append", kOrder, "the tail moves past a record before it is applied", "plain/create!"},
    {"journal.tail_to_committed", kOrder, "the tail moves past others' records that are not applied",
     "brim/chmod|chown_other"},
    {"journal.written_before_drain", kOrder, "a record counts as written before it is durable",
     "plain/chmod|chown_other"},
    {"journal.skip_prefix_wait", kOrder, "a record is applied before earlier ones are durable",
     "plain/chmod|chown_other"},
    {"journal.skip_room_check", kOrder, "the ring is written over records that are still needed",
     "brim/create+unlink!"},
    {"journal.slot_in_place", kOrder, "the journal's tail has one place instead of two", "plain/create!"},
    {"journal.slot_before_replay", kOrder, "recovery moves the tail before it replays", "plain/create!"},
    {"alloc.ignore_tail", kOrder, "a freed block is used again before its freeing record is reclaimed",
     "reuse/recycle"},
    {"fs.touch_before_data", kOrder, "the times say written before the bytes are", "plain/overwrite_block!"},

    {"journal.forget_inodes", kAppend, "inodes are not journaled", "plain/create!"},
    {"journal.forget_chunks", kAppend, "headers of inode chunks are not journaled", "plain/create!"},
    {"journal.forget_shards", kAppend, "lines of the inode table are not journaled", "plain/create!"},
    {"journal.forget_descriptors", kAppend, "group descriptors are not journaled", "plain/append_blocks!"},
    {"journal.forget_bitmaps", kAppend, "bitmaps are not journaled", "plain/append_blocks!"},
    {"journal.forget_blocks", kAppend, "blocks of trees and directories are not journaled", "plain/create!"},
    {"journal.whole_by_difference", kAppend, "a unit set anew is journaled as a difference", nullptr,
     "what the medium shows there is durable but after a drain that failed, and then the journal takes no more"},

    {"journal.replay_nothing", kReplay, "records are not replayed", "plain/create!"},
    {"journal.replay_one", kReplay, "one record is replayed, and no more", "plain/create+unlink!"},
    {"journal.skip_lsn_check", kReplay, "a record of another place is replayed",
     "ring/create+unlink+append_blocks"},
    {"journal.skip_epoch_check", kReplay, "a record of an earlier mount is replayed", "plain/chmod|chown_other"},
    {"journal.keep_epoch", kReplay, "a mount does not begin a new epoch", "plain/chmod|chown_other"},
    {"journal.take_older_slot", kReplay, "the older of the two tails is taken",
     "brim/create+unlink+append_blocks"},
    {"journal.one_slot", kReplay, "a mount writes one of the two tails", "damage"},

    {"journal.skip_checksum", kChecksum, "a record with a wrong checksum is replayed", "plain/create!"},
    {"journal.skip_slot_checksum", kChecksum, "a damaged or torn tail is believed", "damage"},
    {"journal.skip_block_checksum", kChecksum, "a damaged directory, extent or xattr block is believed", "damage"},
    {"journal.skip_unit_checksum", kChecksum, "a damaged unit is edited", "damage"},
    {"inode.skip_inode_checksum", kChecksum, "a damaged inode is believed", "damage"},
    {"inode.skip_chunk_checksum", kChecksum, "a damaged header of an inode chunk is believed", "damage",
     "a reader takes nothing from it but whether the slot is in use, and the inode there has a checksum and a "
     "number; who changes it checks it again"},
    {"inode.skip_shard_checksum", kChecksum, "a damaged line of the inode table is believed", "damage"},
    {"inode.skip_root_checksum", kChecksum, "a damaged root of the inode table is believed", "damage",
     "a reader takes nothing from it but where chunks are, and each chunk says which one it is; who changes it "
     "checks it again"},
    {"alloc.skip_descriptor_checksum", kChecksum, "a damaged group descriptor is believed", "damage"},
    {"alloc.skip_bitmap_checksum", kChecksum, "a damaged bitmap is believed", "damage"},
    {"media.skip_superblock_checksum", kChecksum, "a damaged superblock is believed", "damage"},

    {"fs.rename_removes_first", kBug, "rename removes the old name first, by itself", "plain/rename!"},
    {"fs.rename_keeps_parent", kBug, "a directory that moves keeps its old parent",
     "plain/rename_directory_into_directory!"},
    {"fs.rename_keeps_counts", kBug, "a directory that moves is counted where it was",
     "plain/rename_directory_into_directory!"},
    {"fs.truncate_keeps_block", kBug, "a truncation is one block off", "plain/truncate_down!"},
    {"fs.symlink_one_short", kBug, "the last byte of a long target is left out", "plain/symlink_long!"},
    {"fs.atomic_in_place", kBug, "data=atomic stores to blocks that can be seen", "whole/overwrite_block!"},
    {"fs.name_before_link_count", kBug, "unlink takes the name, then the link", "plain/unlink_one_of_two!"},
    {"fs.name_after_link_count", kBug, "unlink frees the inode, then takes the name", "plain/unlink!"},
    {"fs.unlink_forgets_orphan", kBug, "an open file that loses its last name is no orphan",
     "plain/unlink_while_open!"},
    {"inode.forget_orphan", kBug, "an orphan is counted, not stored", "plain/unlink_while_open!"},
    {"inode.keep_orphan", kBug, "recovery frees an orphan and does not strike it out: freed twice",
     "plain/unlink_while_open_then_close!"},
    {"fs.mount_skips_orphans", kBug, "recovery forgets the orphans", "plain/unlink_while_open!"},
    {"fs.truncate_forgets_orphan", kBug, "a truncation in steps that is cut off is not taken up again",
     "fragments/shrink_fragments+grow_fragments"},
    {"fs.skip_zero_partial", kBug, "old bytes behind the end show when a file grows",
     "plain/truncate_within_a_block+truncate_up!"},
    {"fs.skip_fill_zeroes", kBug, "a new block shows what it held before", "plain/append_small!"},
    {"dax.fault.skip_zero", kBug, "a fault maps a new block that is not zeroed", "plain/map_store_hole+fsync!"},
    {"dax.fault.skip_dirty", kBug, "a store through a mapping is not noted for fsync", "plain/map_store+fsync!"},
    {"journal.recovered_dead", kBug, "the first write after a recovery fails", "plain/create!"},
};
// clang-format on

/// What a child tells its parent.
struct Verdict {
  bool killed = false;
  double seconds = 0;
  char how[400] = {};
  char story[6000] = {};
};

void put(char* to, size_t room, const std::string& text) {
  const size_t n = std::min(room - 1, text.size());
  std::memcpy(to, text.data(), n);
  to[n] = '\0';
}

bool judge(const std::vector<Violation>& found, Verdict& verdict) {
  if (found.empty()) return false;
  const Violation& v = found.front();
  verdict.killed = true;
  const size_t start = std::min(v.story.find_first_not_of(' '), v.story.size());
  put(verdict.how, sizeof verdict.how, v.id + "  " + v.story.substr(start, v.story.find('\n') - start));
  put(verdict.story, sizeof verdict.story, v.id + "\n" + v.story);
  return true;
}

bool run_named(Lab& lab, const char* name, uint64_t seed, Verdict& verdict) {
  if (std::string_view(name) == "damage") return judge(run_damage(lab, 1), verdict);
  const auto workload = Workload::parse(name, seed);
  UDAX_ASSERT(workload.has_value());
  if (!workload->threads) return judge(lab.run(*workload, Budget{}, 1), verdict);
  for (uint64_t schedule = 0; schedule < kSchedules; ++schedule) {
    const auto again = Workload::parse(name, seed + schedule);
    if (judge(lab.run(*again, Budget{}, 1), verdict)) return true;
  }
  return false;
}

Verdict run_mutation(Lab& lab, const Mutation& m, uint64_t seed) {
  Verdict verdict;
  const sync_point::ScopedKnob taken_away(m.knob);
  if (m.first != nullptr && run_named(lab, m.first, seed, verdict)) return verdict;
  for (const Suite& suite : suites(Scale::kQuick, seed)) {
    for (const Workload& w : suite.workloads) {
      if (judge(lab.run(w, suite.budget, 1), verdict)) return verdict;
    }
  }
  run_named(lab, "damage", seed, verdict);
  return verdict;
}

struct Child {
  size_t index = 0;
  pid_t pid = -1;
  int out = -1;
  uint64_t begin_ns = 0;
};

Child start(Lab& lab, const Mutation& m, size_t index, uint64_t seed) {
  int ends[2];
  UDAX_ASSERT(::pipe(ends) == 0);
  std::fflush(stdout);
  const uint64_t begin_ns = monotonic_ns();
  const pid_t pid = ::fork();
  UDAX_ASSERT(pid >= 0);
  if (pid == 0) {
    ::close(ends[0]);
    ::alarm(kSecondsMax);
    Verdict verdict = run_mutation(lab, m, seed);
    verdict.seconds = static_cast<double>(monotonic_ns() - begin_ns) / 1e9;
    const bool told = ::write(ends[1], &verdict, sizeof verdict) == sizeof verdict;
    ::_exit(told ? 0 : 1);
  }
  ::close(ends[1]);
  return {index, pid, ends[0], begin_ns};
}

MutationResult finish(const Child& child, const Mutation& m) {
  Verdict verdict;
  auto* at = reinterpret_cast<char*>(&verdict);
  size_t got = 0;
  for (ssize_t n = 1; n > 0 && got<sizeof verdict; got += n> 0 ? static_cast<size_t>(n) : 0) {
    n = ::read(child.out, at + got, sizeof verdict - got);
  }
  ::close(child.out);
  int status = 0;
  while (::waitpid(child.pid, &status, 0) < 0) {
  }
  MutationResult r;
  r.mutation = &m;
  r.seconds = static_cast<double>(monotonic_ns() - child.begin_ns) / 1e9;
  if (got == sizeof verdict) {
    r.killed = verdict.killed;
    r.how = verdict.how;
    r.seconds = verdict.seconds;
    r.story = verdict.story;
    return r;
  }
  r.killed = true;
  r.how = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "does not end" : "an assertion fails";
  return r;
}

}  // namespace

const char* to_string(MutationClass c) {
  switch (c) {
    case kFlush: return "flush";
    case kDrain: return "drain";
    case kOrder: return "order";
    case kAppend: return "append";
    case kReplay: return "replay";
    case kChecksum: return "checksum";
    case kBug: return "bug";
  }
  return "";
}

std::span<const Mutation> mutations() { return kMutations; }

std::vector<MutationResult> run_mutations(std::span<const Mutation> some, uint64_t seed, size_t jobs,
                                          const std::function<void(const MutationResult&)>& on_result) {
  Lab lab;
  lab.make_pools();  // by the code as it is
  std::vector<MutationResult> results;
  std::vector<Child> running;
  size_t next = 0;
  while (next < some.size() || !running.empty()) {
    while (next < some.size() && running.size() < jobs) {
      running.push_back(start(lab, some[next], next, seed));
      ++next;
    }
    const Child child = running.front();
    running.erase(running.begin());
    results.push_back(finish(child, some[child.index]));
    if (on_result) on_result(results.back());
  }
  return results;
}

std::string mutation_table(std::span<const MutationResult> results) {
  std::array<size_t, kMutationClasses + 1> total{};
  std::array<size_t, kMutationClasses + 1> killed{};
  for (const MutationResult& r : results) {
    for (const size_t row : {static_cast<size_t>(r.mutation->kind), kMutationClasses}) {
      ++total.at(row);
      killed.at(row) += r.killed ? 1 : 0;
    }
  }
  std::string out;
  for (size_t row = 0; row <= kMutationClasses; ++row) {
    char line[100];
    std::snprintf(line, sizeof line, "%-10s %3zu of %3zu killed\n",
                  row == kMutationClasses ? "all" : to_string(static_cast<MutationClass>(row)), killed.at(row),
                  total.at(row));
    out += line;
  }
  return out;
}

}  // namespace udax::crash

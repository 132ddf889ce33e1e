// SPDX-License-Identifier: BSD-3-Clause
//
// Order: superblocks; the journal's control block; replay (from here on the journal is live); then rounds; and only
// when a round finds nothing is the journal closed.
#include "check/repair.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>

#include "base/random.h"
#include "check/writer.h"
#include "media/sentence.h"

namespace udax::check {

using media::say;

void check_front(Scan& scan, const media::LoadedSuperblock& super, const JournalState& journal) {
  const uint64_t replica = super.geometry.replica().value;
  if (super.source == media::SuperblockSource::kReplica) {
    scan.add(Code::kSuperblock, 0, 0, "the superblock is broken; its replica serves");
  } else if (std::memcmp(scan.image.block(replica), &super.raw, sizeof super.raw) != 0) {
    scan.add(Code::kReplica, 0, replica, "the replica of the superblock is broken, or differs from it");
  }
  if (!journal.valid) {
    scan.add(Code::kJournalControl, 0, format::kJournalControlBlock.value,
             "the journal's control block has no valid slot");
  }
  if (journal.bad_record) {
    scan.add(Code::kJournalRecord, 0, super.geometry.journal_start.value,
             "the journal has a record that cannot be replayed");
  }
}

Status Repair::write_superblocks() {
  for (const uint64_t b : {super_.geometry.replica().value, format::kSuperblockBlock.value}) {
    if (std::memcmp(medium_.block(DeviceBlock(b)), &super_.raw, sizeof super_.raw) == 0) continue;
    medium_.store_nt(offset_of(DeviceBlock(b)), &super_.raw, sizeof super_.raw);
    UDAX_CHECK(medium_.drain());
  }
  return {};
}

/// A control block from which nothing is replayed: no record has its epoch.
Status Repair::write_control(const JournalState& journal) {
  uint32_t chance = 0;
  fill_random(&chance, sizeof chance);
  format::JournalControl control{};
  format::JournalSlot& slot = control.slot_a;
  slot.state = format::kJournalLive;
  slot.sequence = journal.valid ? journal.sequence + 1 : 1;
  slot.tail = journal.tail;
  slot.epoch = journal.valid ? journal.epoch_last + 1 : uint64_t{1} << 32 | chance;
  slot.checksum = format::checksum_without(super_.geometry.checksum_seed, &slot, sizeof slot,
                                           offsetof(format::JournalSlot, checksum));
  medium_.store_nt(offset_of(format::kJournalControlBlock), &control, sizeof control);
  return medium_.drain();
}

Result<bool> Repair::mend_front(Scan& scan, JournalState* journal) {
  *journal = image_->read_journal();
  check_front(scan, super_, *journal);
  first_ = std::move(scan.report);
  UDAX_CHECK(write_superblocks());
  const bool replayable = journal->valid && !journal->bad_record;
  for (Problem& p : first_.problems) p.repaired = stage_of(p.code) == kStageFront;
  if (replayable) return true;
  if (options_.mode == CheckOptions::kPreen) {
    // What the records say is lost with them: not without being asked.
    for (Problem& p : first_.problems) {
      if (p.code == Code::kJournalControl || p.code == Code::kJournalRecord) p.repaired = false;
    }
    return false;
  }
  UDAX_CHECK(write_control(*journal));
  return true;
}

void Repair::look() {
  scan_.reset();
  image_ = std::make_unique<Image>(medium_, super_.geometry);
  scan_ = std::make_unique<Scan>(*image_, options_);
  scan_->run();
}

Result<bool> Repair::mend() {
  const auto found = [this](Stage stage) { return (scan_->stages & stage) != 0; };
  Writer writer(medium_, *scan_);
  Status done;
  if (found(kStageStructure) || found(kStageConnect)) {
    if (options_.mode == CheckOptions::kPreen) return false;
    done = found(kStageStructure) ? repair_structure(writer, *scan_) : repair_connections(writer, *scan_);
  } else if (found(kStageCounts)) {
    done = repair_counts(writer, *scan_);
  } else {
    done = repair_space(writer, *scan_);
  }
  if (!done && done.error() == Error::kNoSpace) return false;
  UDAX_CHECK(done);
  return true;
}

Status Repair::rounds() {
  for (uint32_t round = 1;; ++round) {
    look();
    if (round == 1) {
      first_.problem_count += scan_->report.problem_count;
      for (const Problem& p : scan_->report.problems) {
        if (first_.problems.size() < options_.problems_max) first_.problems.push_back(p);
      }
    }
    first_.rounds = round;
    if (scan_->report.clean() || round == kRoundsMax) return {};
    UDAX_TRY(const bool more, mend());
    if (!more) return {};
  }
}

/// Takes the counts from the last look, and tells what it still found.
void Repair::conclude() {
  Report report = std::move(scan_->report);
  using Key = std::tuple<Code, uint64_t, uint64_t>;
  const auto key = [](const Problem& p) { return Key(p.code, p.ino, p.block); };
  std::set<Key> left;
  for (const Problem& p : report.problems) left.insert(key(p));
  std::set<Key> told;
  const bool all_known = report.problem_count == report.problems.size();
  uint64_t front_left = 0;
  for (Problem& p : first_.problems) {
    if (stage_of(p.code) == kStageFront) {
      front_left += p.repaired ? 0 : 1;
      continue;
    }
    p.repaired = all_known && !left.contains(key(p));
    told.insert(key(p));
  }
  for (Problem& p : report.problems) {
    if (told.contains(key(p))) continue;
    ++first_.problem_count;
    if (first_.problems.size() < options_.problems_max) first_.problems.push_back(p);
  }
  report.unrepaired_count = report.problem_count + front_left;
  report.problem_count = first_.problem_count;
  report.problems = std::move(first_.problems);
  report.rounds = first_.rounds;
  first_ = std::move(report);
}

Result<Report> Repair::run(std::string* why) {
  image_ = std::make_unique<Image>(medium_, super_.geometry);
  JournalState journal;
  bool replayable = false;
  {
    Scan front(*image_, options_);
    UDAX_TRY(replayable, mend_front(front, &journal));
  }
  if (!replayable) {
    look();
    first_.problem_count += scan_->report.problem_count;
    conclude();
    return std::move(first_);
  }
  if (const auto replayed = journal_.recover(); !replayed) {
    return say(why, replayed.error(), "the journal cannot be replayed");
  }
  const Status done = rounds();
  if (!done) return say(why, done.error(), "the medium failed while the pool was being repaired");
  conclude();
  first_.was_clean = journal.clean;
  first_.replayed_records = journal.records;
  UDAX_CHECK(medium_.deep_flush(0, medium_.size()));
  if (first_.all_repaired()) UDAX_CHECK(journal_.close());
  return std::move(first_);
}

}  // namespace udax::check

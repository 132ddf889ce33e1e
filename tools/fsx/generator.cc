// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/generator.h"

#include <algorithm>

#include "base/error.h"

namespace udax::fsx {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr size_t kFirstOfAll = static_cast<size_t>(Kind::kAllTruncate);

bool reads(Kind kind) {
  switch (kind) {
    case Kind::kRead:
    case Kind::kDirectRead:
    case Kind::kMapRead:
    case Kind::kMapPrivate:
    case Kind::kHoldRead:
    case Kind::kSeek: return true;
    default: return false;
  }
}

// Such that there must be a byte at its offset.
bool wants_bytes(Kind kind) {
  switch (kind) {
    case Kind::kMapWrite:
    case Kind::kHoldWrite:
    case Kind::kPunch:
    case Kind::kCollapse:
    case Kind::kInsert:
    case Kind::kCopy:
    case Kind::kCopyOut: return true;
    default: return reads(kind);
  }
}

// What one of several processes cannot do without the others.
bool is_alone(Kind kind) {
  return kind == Kind::kRename || kind == Kind::kCollapse || kind == Kind::kInsert || kind == Kind::kHoldPollute;
}

// What an operation has no use for only makes its line longer.
void clean(Op& op) {
  switch (op.kind) {
    case Kind::kWrite:
    case Kind::kMapWrite:
    case Kind::kMapPrivate:
    case Kind::kFlip: break;
    case Kind::kAppend:
    case Kind::kDirectWrite:
    case Kind::kHoldWrite:
    case Kind::kHoldPollute: op.fd = 0; break;
    case Kind::kDirectRead:
    case Kind::kHoldRead:
    case Kind::kHoldPastEnd:
    case Kind::kTruncatePath:
    case Kind::kRename:
    case Kind::kMsync: op.fd = 0; [[fallthrough]];
    default: op.tag = 0;
  }
  switch (op.kind) {
    case Kind::kAppend: op.offset = 0; break;
    case Kind::kTruncate:
    case Kind::kTruncatePath:
    case Kind::kSeek: op.length = 0; break;
    case Kind::kHold:
    case Kind::kHoldPastEnd:
    case Kind::kFsync:
    case Kind::kFdatasync:
    case Kind::kDrop:
    case Kind::kReopen:
    case Kind::kRename:
    case Kind::kFlip: op.offset = op.length = 0; break;
    default: break;
  }
  if (op.kind != Kind::kCopy && op.kind != Kind::kCopyIn && op.kind != Kind::kCopyOut) op.to = 0;
}

// What changes the file's size, or depends on it.
bool is_of_first(Kind kind) {
  switch (kind) {
    case Kind::kAppend:
    case Kind::kTruncate:
    case Kind::kTruncatePath:
    case Kind::kHoldPastEnd:
    case Kind::kDirectWrite: return true;
    default: return false;
  }
}

}  // namespace

uint64_t derive_seed(uint64_t seed, uint64_t number) {
  Random random(seed);
  return random.next() ^ Random(number).next();
}

Choice Choice::usual() {
  Choice out;
  for (size_t i = 0; i < kKinds; ++i) {
    const KindInfo& kind = info(static_cast<Kind>(i));
    if (kind.group != Group::kFlip && kind.group != Group::kPollute) out.weights[i] = kind.weight;
  }
  return out;
}

void Choice::leave_out(Group group) {
  for (size_t i = 0; i < kKinds; ++i) {
    if (info(static_cast<Kind>(i)).group == group) weights[i] = 0;
  }
}

Generator::Generator(uint64_t seed, const Setup& setup, const Choice& choice, uint8_t me)
    : random_(seed), setup_(setup), choice_(choice), me_(me) {
  if (setup.processes == 1) return;
  for (size_t i = 0; i < kFirstOfAll; ++i) {
    const auto kind = static_cast<Kind>(i);
    if (is_alone(kind) || (is_of_first(kind) && me != 0)) choice_.weights[i] = 0;
  }
}

Kind Generator::pick(size_t begin, size_t end) {
  uint64_t sum = 0;
  for (size_t i = begin; i < end; ++i) sum += choice_.weights[i];
  UDAX_ASSERT(sum > 0);
  uint64_t left = random_.below(sum);
  size_t i = begin;
  while (left >= choice_.weights[i]) left -= choice_.weights[i++];
  return static_cast<Kind>(i);
}

// At and around the places where code has its corners.
uint64_t Generator::offset_below(uint64_t limit, uint64_t size) {
  if (limit == 0) return 0;
  uint64_t offset = 0;
  switch (random_.below(8)) {
    case 0:
    case 1: offset = random_.below(limit) / kPage * kPage; break;
    case 2: offset = random_.below(limit) / kPage * kPage + random_.below(33); break;
    case 3: offset = random_.below(limit) / kPage * kPage - random_.below(33); break;
    case 4: offset = size - random_.below(65) + random_.below(33); break;
    case 5: offset = random_.below(limit / kHugePage + 1) * kHugePage + random_.below(2 * kPage) - kPage; break;
    default: offset = random_.below(limit);
  }
  return offset < limit ? offset : random_.below(limit);  // also where it wrapped around
}

uint64_t Generator::length() {
  const uint64_t most = choice_.length_max;
  uint64_t length = 0;
  switch (random_.below(4)) {
    case 0: length = random_.between(1, 64); break;
    case 1: length = random_.between(1, kPage); break;
    case 2: length = random_.between(1, std::max<uint64_t>(most / kPage, 1)) * kPage; break;
    default: length = random_.between(1, most);
  }
  return std::clamp(length, choice_.length_min, most);
}

// In a unit of this process.
uint64_t Generator::own_offset() {
  const uint64_t units = setup_.shared_size / setup_.unit;
  const uint64_t rounds = std::max<uint64_t>(units / setup_.processes, 1);
  const uint64_t unit = random_.below(rounds) * setup_.processes + me_;
  return unit * setup_.unit + (random_.one_in(2) ? 0 : random_.below(setup_.unit));
}

void Generator::place(Op& op, uint64_t size) {
  const bool shared = setup_.processes > 1;
  const bool behind = shared && me_ == 0 && random_.one_in(4);  // where the first may do as it likes
  if (behind || is_of_first(op.kind)) {
    const uint64_t tail = setup_.max_size - setup_.shared_size;
    const uint64_t below = wants_bytes(op.kind) && !random_.one_in(8) ? size - setup_.shared_size : tail;
    op.offset = setup_.shared_size + offset_below(std::max<uint64_t>(below, 1), size - setup_.shared_size);
    op.to = setup_.shared_size + offset_below(tail, size - setup_.shared_size);
  } else if (shared) {
    op.offset = reads(op.kind) ? offset_below(setup_.shared_size, setup_.shared_size) : own_offset();
    op.to = own_offset();
  } else {
    const bool inside = wants_bytes(op.kind) && size > 0 && !random_.one_in(16);
    op.offset = offset_below(inside ? size : setup_.max_size, size);
    op.to = offset_below(setup_.max_size, size);
  }
}

Op Generator::next(uint64_t size) {
  Op op;
  op.kind = pick(0, kFirstOfAll);
  op.process = me_;
  op.fd = static_cast<uint8_t>(random_.below(kPlainFds));
  place(op, size);
  op.length = length();
  op.tag = random_.next() >> 16;
  switch (op.kind) {
    case Kind::kCopyIn:  // its offset is the second file's
      if (random_.one_in(2)) op.offset = random_.below(choice_.length_max);
      break;
    case Kind::kCopyOut: op.to = random_.below(choice_.length_max); break;
    case Kind::kReopen: op.fd = static_cast<uint8_t>(random_.below(kFds)); break;
    case Kind::kFlip: op.tag &= 1; break;
    default: break;
  }
  clean(op);
  return op;
}

Op Generator::next_for_all() {
  Op op;
  op.process = kAll;
  uint64_t sum = 0;
  for (size_t i = kFirstOfAll; i < kKinds; ++i) sum += choice_.weights[i];
  op.kind = sum > 0 ? pick(kFirstOfAll, kKinds) : Kind::kCheck;
  op.offset = offset_below(setup_.shared_size, setup_.shared_size);
  op.length = length();
  return op;
}

}  // namespace udax::fsx

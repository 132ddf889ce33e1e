// SPDX-License-Identifier: BSD-3-Clause
#include "journal/record.h"

namespace udax::journal::record {

bool may_target(const media::Geometry& geometry, uint64_t offset, uint64_t length) {
  if (length == 0 || length > kBlockSize) return false;
  const uint64_t block = offset >> kBlockShift;
  if ((offset & (kBlockSize - 1)) + length > kBlockSize) return false;
  if (block <= format::kJournalControlBlock.value || block >= geometry.replica().value) return false;
  const uint64_t ring = geometry.journal_start.value;
  return block < ring || block - ring >= geometry.journal_blocks;
}

void add_op(std::vector<std::byte>& out, uint64_t offset, const std::byte* bytes, uint32_t length) {
  format::RecordOp op;
  op.offset = offset;
  op.length = length;
  const size_t at = out.size();
  out.resize(at + sizeof op + align_up(length, 8));  // new bytes, hence the padding, are zero
  std::memcpy(out.data() + at, &op, sizeof op);
  std::memcpy(out.data() + at + sizeof op, bytes, length);
}

namespace {

uint64_t word_at(const std::byte* p, uint32_t at) {
  uint64_t word = 0;
  std::memcpy(&word, p + at, sizeof word);
  return word;
}

}  // namespace

uint32_t add_difference(std::vector<std::byte>& out, uint64_t offset, const std::byte* before,
                        const std::byte* now, uint32_t size) {
  constexpr uint32_t kWord = sizeof(uint64_t);
  const auto differs = [&](uint32_t at) { return word_at(before, at) != word_at(now, at); };
  uint32_t ops = 0;
  uint32_t at = 0;
  while (at < size) {
    // Most lines of a block are as they were.
    if (at % kCacheLine == 0 && size - at >= kCacheLine && std::memcmp(before + at, now + at, kCacheLine) == 0) {
      at += kCacheLine;
      continue;
    }
    if (!differs(at)) {
      at += kWord;
      continue;
    }
    uint32_t end = at + kWord;
    for (uint32_t next = end; next < size && next - end < sizeof(format::RecordOp); next += kWord) {
      if (differs(next)) end = next + kWord;
    }
    add_op(out, offset + at, now + at, end - at);
    ++ops;
    at = end;
  }
  return ops;
}

Status check_ops(const media::Geometry& geometry, std::span<const std::byte> ops, uint32_t op_count) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < op_count; ++i) {
    if (ops.size() - at < sizeof(format::RecordOp)) return Error::kCorrupted;
    format::RecordOp op;
    std::memcpy(&op, ops.data() + at, sizeof op);
    at += sizeof op;
    if (!may_target(geometry, op.offset, op.length)) return Error::kCorrupted;
    const uint64_t padded = align_up(op.length.get(), 8);
    if (padded > ops.size() - at) return Error::kCorrupted;
    at += padded;
  }
  if (ops.size() - at >= kAlignment) return Error::kCorrupted;
  return {};
}

}  // namespace udax::journal::record

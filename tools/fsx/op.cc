// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/op.h"

#include <algorithm>
#include <charconv>

namespace udax::fsx {
namespace {

constexpr std::array<KindInfo, kKinds> kInfos{{
    {"read", Group::kData, 12},
    {"write", Group::kData, 12},
    {"append", Group::kAppend, 2},
    {"direct-read", Group::kDirect, 4},
    {"direct-write", Group::kDirect, 4},
    {"map-read", Group::kMmap, 4},
    {"map-write", Group::kMmap, 4},
    {"map-private", Group::kMmap, 2},
    {"hold", Group::kMmap, 1},
    {"hold-read", Group::kMmap, 8},
    {"hold-write", Group::kMmap, 10},
    {"hold-past-end", Group::kMmap, 1},
    {"hold-pollute", Group::kPollute, 4},
    {"truncate", Group::kTruncate, 4},
    {"truncate-path", Group::kTruncate, 2},
    {"punch", Group::kPunch, 5},
    {"zero", Group::kZero, 2},
    {"zero-keep", Group::kZero, 2},
    {"allocate", Group::kFallocate, 2},
    {"allocate-keep", Group::kFallocate, 2},
    {"collapse", Group::kCollapse, 1},
    {"insert", Group::kCollapse, 1},
    {"copy", Group::kCopy, 3},
    {"copy-out", Group::kCopy, 1},
    {"copy-in", Group::kCopy, 2},
    {"fsync", Group::kSync, 2},
    {"fdatasync", Group::kSync, 1},
    {"msync", Group::kSync, 2},
    {"drop", Group::kDrop, 1},
    {"reopen", Group::kReopen, 2},
    {"rename", Group::kRename, 1},
    {"seek", Group::kSeek, 3},
    {"flip", Group::kFlip, 4},
    {"check", Group::kData, 0},
    {"all-truncate", Group::kTruncate, 2},
    {"all-punch", Group::kPunch, 2},
    {"all-zero", Group::kZero, 1},
    {"all-stop", Group::kData, 0},
}};

constexpr std::array<std::string_view, kGroups> kGroupNames{
    "",     "append", "direct", "mmap",   "truncate", "punch", "zero", "fallocate", "collapse",
    "copy", "sync",   "drop",   "reopen", "rename",   "seek",  "",     ""};

std::string_view next_word(std::string_view& line) {
  const size_t begin = line.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) {
    line = {};
    return {};
  }
  line.remove_prefix(begin);
  const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

bool parse_number(std::string_view text, uint64_t& out) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && rest == text.data() + text.size();
}

// The process in front: "p1" or "all". False: `word` is neither.
bool parse_process(std::string_view word, Op& op) {
  uint64_t process = 0;
  if (word == "all") {
    op.process = kAll;
    return true;
  }
  if (word.size() < 2 || word[0] != 'p' || !parse_number(word.substr(1), process) || process >= kAll) return false;
  op.process = static_cast<uint8_t>(process);
  return true;
}

bool parse_field(std::string_view word, Op& op) {
  const size_t equals = word.find('=');
  uint64_t value = 0;
  if (equals == std::string_view::npos || !parse_number(word.substr(equals + 1), value)) return false;
  const std::string_view key = word.substr(0, equals);
  if (key == "off") {
    op.offset = value;
  } else if (key == "len") {
    op.length = value;
  } else if (key == "to") {
    op.to = value;
  } else if (key == "tag") {
    op.tag = value;
  } else if (key == "fd" && value < kFds) {
    op.fd = static_cast<uint8_t>(value);
  } else {
    return false;
  }
  // So that no sum of two of them overflows.
  return value <= UINT64_MAX / 4 || key == "tag";
}

uint64_t mix(uint64_t value) {  // splitmix64's
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

}  // namespace

const KindInfo& info(Kind kind) { return kInfos[static_cast<size_t>(kind)]; }

std::optional<Kind> kind_of(std::string_view name) {
  for (size_t i = 0; i < kKinds; ++i) {
    if (kInfos[i].name == name) return static_cast<Kind>(i);
  }
  return std::nullopt;
}

std::string_view name_of(Group group) { return kGroupNames[static_cast<size_t>(group)]; }

std::string to_text(const Op& op) {
  std::string out;
  if (op.process == kAll) {
    out = "all ";
  } else if (op.process != 0) {
    out = "p" + std::to_string(op.process) + " ";
  }
  out += info(op.kind).name;
  const auto field = [&out](const char* key, uint64_t value) {
    if (value != 0) out += ' ' + std::string(key) + '=' + std::to_string(value);
  };
  field("fd", op.fd);
  field("off", op.offset);
  field("len", op.length);
  field("to", op.to);
  field("tag", op.tag);
  return out;
}

std::optional<Op> op_from_text(std::string_view line) {
  Op op;
  std::string_view word = next_word(line);
  if (parse_process(word, op)) word = next_word(line);
  const std::optional<Kind> kind = kind_of(word);
  if (!kind) return std::nullopt;
  op.kind = *kind;
  for (word = next_word(line); !word.empty(); word = next_word(line)) {
    if (!parse_field(word, op)) return std::nullopt;
  }
  return op;
}

void fill_pattern(uint64_t tag, uint64_t offset, std::span<std::byte> out) {
  uint64_t word = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t at = offset + i;
    if (i == 0 || at % 8 == 0) word = mix(tag ^ mix(at / 8));
    const auto byte = static_cast<uint8_t>(word >> (at % 8 * 8));
    out[i] = static_cast<std::byte>(byte == 0 ? 0xA5 : byte);
  }
}

}  // namespace udax::fsx

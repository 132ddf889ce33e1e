// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/op.h"

#include <linux/fs.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/random.h"

namespace udax::storm {
namespace {

constexpr std::array<KindInfo, kKinds> kInfos{{
    {"create", 12, 8},    {"mkdir", 6, 2},    {"mknod", 2, 0},       {"symlink", 4, 0},    {"link", 5, 4},
    {"unlink", 10, 6},    {"rmdir", 4, 2},    {"rename", 10, 6},     {"no-replace", 3, 2}, {"exchange", 4, 3},
    {"whiteout", 1, 0},   {"write", 10, 0},   {"truncate", 4, 0},    {"chmod", 4, 0},      {"chown", 3, 0},
    {"utimens", 3, 0},    {"setxattr", 5, 0}, {"removexattr", 3, 0}, {"flip", 3, 0},       {"fsync", 2, 0},
    {"open", 4, 0},       {"tmpfile", 2, 0},  {"slot-write", 4, 0},  {"slot-link", 3, 0},  {"slot-check", 4, 0},
    {"slot-close", 3, 0}, {"stat", 4, 3},     {"read", 6, 0},        {"list", 2, 1},       {"scan", 2, 0},
    {"check", 0, 0},
}};

constexpr uint64_t kLengthLimit = uint64_t{1} << 30;  // of what an operation writes, or a file's size

constexpr std::string_view kHex = "0123456789abcdef";

bool is_plain(char c) { return c > ' ' && c < 0x7F && c != '%' && c != '=' && c != '#'; }

template <typename T>
bool parse_number(std::string_view text, T& out) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && rest == text.data() + text.size();
}

std::string_view next_word(std::string_view& line) {
  const size_t begin = std::min(line.find_first_not_of(" \t\r"), line.size());
  line.remove_prefix(begin);
  const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

// A path that stays below the top.
bool is_path(std::string_view path) {
  if (path.empty()) return true;
  while (!path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, end);
    if (name.empty() || name == "." || name == ".." || name.find('\0') != std::string_view::npos) return false;
    if (end + 1 == path.size()) return false;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return true;
}

bool parse_field(std::string_view word, Op& op) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = word.substr(equals + 1);
  if (key == "path" || key == "to") {
    const std::optional<std::string> text = unescape(value);
    if (!text) return false;
    (key == "to" ? op.to : op.path) = *text;
    return true;
  }
  if (key == "slot") return parse_number(value, op.slot) && op.slot < kSlots;
  if (key == "mode") return parse_number(value, op.mode);
  if (key == "uid") return parse_number(value, op.uid);
  if (key == "gid") return parse_number(value, op.gid);
  if (key == "off") return parse_number(value, op.offset) && op.offset <= INT64_MAX;
  if (key == "len") return parse_number(value, op.length) && op.length <= kLengthLimit;
  if (key == "tag") return parse_number(value, op.tag);
  return false;
}

bool is_possible(const Op& op) {
  const bool sizes = op.kind == Kind::kWrite || op.kind == Kind::kTruncate || op.kind == Kind::kSlotWrite;
  if (sizes && op.offset > kLengthLimit) return false;
  const bool text = op.to.find('\0') == std::string::npos;
  return text && is_path(op.path) && (!has_two_paths(op.kind) || is_path(op.to));
}

}  // namespace

const KindInfo& info(Kind kind) { return kInfos[static_cast<size_t>(kind)]; }

std::optional<Kind> kind_of(std::string_view name) {
  for (size_t i = 0; i < kKinds; ++i) {
    if (kInfos[i].name == name) return static_cast<Kind>(i);
  }
  return std::nullopt;
}

bool has_two_paths(Kind kind) {
  return kind == Kind::kLink || kind == Kind::kRename || kind == Kind::kNoReplace || kind == Kind::kExchange ||
         kind == Kind::kWhiteout;
}

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (is_plain(c)) {
      out += c;
    } else {
      const auto byte = static_cast<uint8_t>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const size_t high = kHex.find(text[i + 1]);
    const size_t low = kHex.find(text[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
    i += 2;
  }
  return out;
}

std::string to_text(const Op& op) {
  std::string out = op.shared ? "shared " : "";
  out += info(op.kind).name;
  const auto number = [&out](const char* key, uint64_t value) {
    if (value != 0) out += ' ' + std::string(key) + '=' + std::to_string(value);
  };
  number("slot", op.slot);
  if (!op.path.empty()) out += " path=" + escape(op.path);
  if (!op.to.empty()) out += " to=" + escape(op.to);
  number("mode", op.mode);
  number("uid", op.uid);
  number("gid", op.gid);
  number("off", op.offset);
  number("len", op.length);
  number("tag", op.tag);
  return out;
}

std::optional<Op> op_from_text(std::string_view line) {
  Op op;
  std::string_view word = next_word(line);
  if (word == "shared") {
    op.shared = true;
    word = next_word(line);
  }
  const std::optional<Kind> kind = kind_of(word);
  if (!kind) return std::nullopt;
  op.kind = *kind;
  for (word = next_word(line); !word.empty(); word = next_word(line)) {
    if (!parse_field(word, op)) return std::nullopt;
  }
  if (!is_possible(op)) return std::nullopt;
  return op;
}

void fill_pattern(uint64_t tag, std::span<std::byte> out) {
  Random random(tag);
  random.fill(out.data(), out.size());
}

bool only_looks(Kind kind) { return kind == Kind::kSlotCheck || kind >= Kind::kStat; }

int apply(Namespace& tree, const Op& op) {
  std::vector<std::byte> data;
  if (op.kind == Kind::kWrite || op.kind == Kind::kSlotWrite || op.kind == Kind::kSetxattr) {
    data.resize(op.length);
    fill_pattern(op.tag, data);
  }
  switch (op.kind) {
    case Kind::kCreate: return tree.create(op.path, op.mode);
    case Kind::kMkdir: return tree.mkdir(op.path, op.mode);
    case Kind::kMknod: return tree.mknod(op.path, op.mode, op.offset);
    case Kind::kSymlink: return tree.symlink(op.to, op.path);
    case Kind::kLink: return tree.link(op.path, op.to);
    case Kind::kUnlink: return tree.unlink(op.path);
    case Kind::kRmdir: return tree.rmdir(op.path);
    case Kind::kRename: return tree.rename(op.path, op.to, 0);
    case Kind::kNoReplace: return tree.rename(op.path, op.to, RENAME_NOREPLACE);
    case Kind::kExchange: return tree.rename(op.path, op.to, RENAME_EXCHANGE);
    case Kind::kWhiteout: return tree.rename(op.path, op.to, RENAME_WHITEOUT);
    case Kind::kWrite: return tree.write(op.path, op.offset, data);
    case Kind::kTruncate: return tree.truncate(op.path, op.offset);
    case Kind::kChmod: return tree.chmod(op.path, op.mode);
    case Kind::kChown: return tree.chown(op.path, op.uid, op.gid);
    case Kind::kUtimens: return tree.utimens(op.path, static_cast<int64_t>(op.offset));
    case Kind::kSetxattr:
      return tree.setxattr(op.path, op.to, std::string(reinterpret_cast<const char*>(data.data()), data.size()),
                           static_cast<int>(op.mode));
    case Kind::kRemovexattr: return tree.removexattr(op.path, op.to);
    case Kind::kFlip: return tree.set_dax(op.path, op.offset != 0);
    case Kind::kFsync: return tree.fsync(op.path);
    case Kind::kOpen: return tree.slot_open(op.slot, op.path);
    case Kind::kTmpfile: return tree.slot_tmpfile(op.slot, op.path, op.mode);
    case Kind::kSlotWrite: return tree.slot_write(op.slot, op.offset, data);
    case Kind::kSlotLink: return tree.slot_link(op.slot, op.path);
    case Kind::kSlotClose: return tree.slot_close(op.slot);
    default: return 0;
  }
}

}  // namespace udax::storm

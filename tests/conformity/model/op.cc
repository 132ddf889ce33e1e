// SPDX-License-Identifier: BSD-3-Clause
#include "tests/conformity/model/op.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cstring>

namespace udax::vfs_model {
namespace {

constexpr std::array<const char*, static_cast<size_t>(Call::kCount)> kNames{
    "open",      "tmpfile",    "close",    "pread", "pwrite",   "ftruncate", "fallocate",   "seek_data",
    "seek_hole", "copy_range", "link_fd",  "fstat", "mkdir",    "mknod",     "symlink",     "link",
    "unlink",    "rmdir",      "rename",   "chmod", "chown",    "lchown",    "utimens",     "truncate",
    "access",    "stat",       "readlink", "list",  "setxattr", "getxattr",  "removexattr", "listxattr"};

// How often each is drawn.
constexpr std::array<uint32_t, static_cast<size_t>(Call::kCount)> kWeights{
    20, 4, 1, 6, 14, 4, 8, 4, 4, 5, 4, 2, 9, 4, 4, 5, 9, 5, 9, 6, 3, 1, 3, 3, 3, 3, 2, 3, 4, 2, 1, 2};

}  // namespace

const char* name_of(Call call) { return kNames.at(static_cast<size_t>(call)); }

std::string to_string(const Op& op) {
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(),
                "%s(%s%s%s) slot %d,%d flags 0x%x mode 0%o own %d:%d at %lld+%lld to %lld '%c' as %u:%u+%u",
                name_of(op.call), op.path.c_str(), op.other.empty() ? "" : ", ", op.other.c_str(), op.slot,
                op.other_slot, static_cast<unsigned>(op.flags), op.mode, static_cast<int>(op.uid),
                static_cast<int>(op.gid), static_cast<long long>(op.offset),
                static_cast<long long>(op.length),  // NOLINT: printf's type
                static_cast<long long>(op.other_offset), op.byte, op.who.uid, op.who.gid, op.who.group);  // NOLINT
  return text.data();
}

std::string to_string(const Outcome& outcome) {
  std::string text = outcome.error == 0 ? "done" : ::strerror(outcome.error);
  if (outcome.data.empty()) return text;
  std::string shown;
  for (const char c : outcome.data.substr(0, 300)) shown += c >= ' ' && c <= '~' ? c : '.';
  text += " [" + std::to_string(outcome.data.size()) + "] " + shown;
  if (outcome.mtime != 0) text += ", times " + std::to_string(outcome.atime) + " " + std::to_string(outcome.mtime);
  return text;
}

std::string Generator::name() { return std::string(1, static_cast<char>('a' + below(6))); }

std::string Generator::path(bool fresh) {
  if (!existing_.empty() && below(10) < 6) {
    const std::string& known = existing_.at(below(static_cast<uint32_t>(existing_.size())));
    return below(10) < (fresh ? 2U : 8U) ? known : known + "/" + name();
  }
  std::string path = name();
  const uint32_t depth = below(8);
  if (depth >= 4) path += "/" + name();
  if (depth >= 7) path += "/" + name();
  if (below(40) == 0) path += "/../" + name();
  if (below(200) == 0) path += "/" + std::string(256, 'n');
  return path;
}

uint32_t Generator::mode() {
  // setgid without execution by the group is left out: what a write by one outside the group does to it, FUSE
  // does not tell (docs/testing.md).
  constexpr std::array<uint32_t, 6> kUsual{0755, 0777, 0777, 0777, 0666, 0644};
  constexpr std::array<uint32_t, 10> kOdd{0700, 0600, 0400, 0, 0711, 04755, 02775, 06777, 01777, 0070};
  return below(4) != 0 ? kUsual.at(below(kUsual.size())) : kOdd.at(below(kOdd.size()));
}

Op Generator::next(const std::vector<std::string>& existing) {
  existing_ = existing;
  Op op;
  uint32_t total = 0;
  for (const uint32_t weight : kWeights) total += weight;
  uint32_t at = below(total);
  size_t call = 0;
  while (at >= kWeights.at(call)) at -= kWeights.at(call++);
  op.call = static_cast<Call>(call);
  op.who = users_.at(below(static_cast<uint32_t>(users_.size())));
  op.slot = static_cast<int>(below(kSlots));
  op.other_slot = static_cast<int>(below(kSlots));
  op.path = path(op.call == Call::kMkdir || op.call == Call::kMknod || op.call == Call::kSymlink ||
                 op.call == Call::kLinkFd);
  op.byte = static_cast<char>('a' + below(26));
  op.offset = below(3) == 0 ? below(16) * 4096 : below(64 * 1024);
  op.length = below(3) == 0 ? (1 + below(6)) * 4096 : 1 + below(12'000);
  op.other_offset = below(64 * 1024);
  draw_names(op);
  draw_attributes(op);
  draw_bytes(op);
  return op;
}

void Generator::draw_names(Op& op) {
  switch (op.call) {
    case Call::kOpen: {
      constexpr std::array kAccess{O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
      op.flags = kAccess.at(below(kAccess.size()));
      if (below(3) != 0) op.flags |= O_CREAT;
      if (below(6) == 0) op.flags |= O_EXCL & ((op.flags & O_CREAT) != 0 ? ~0 : 0);
      if (below(6) == 0) op.flags |= O_TRUNC;
      if (below(6) == 0) op.flags |= O_APPEND;
      if (below(20) == 0) op.flags |= O_NOFOLLOW;
      if ((op.flags & O_CREAT) == 0 && below(20) == 0) op.flags |= O_DIRECTORY;
      op.mode = mode();
      break;
    }
    case Call::kTmpfile:
    case Call::kMkdir: op.mode = mode(); break;
    case Call::kMknod: {
      constexpr std::array<uint32_t, 3> kTypes{S_IFREG, S_IFIFO, S_IFSOCK};
      op.mode = kTypes.at(below(kTypes.size())) | mode();
      break;
    }
    case Call::kSymlink: op.other = (below(8) == 0 ? "../" : "") + path(false); break;
    case Call::kLink:
    case Call::kRename:
      op.other = path(true);
      if (op.call == Call::kRename && below(3) == 0) {
        op.flags = static_cast<int>(below(2) == 0 ? RENAME_NOREPLACE : RENAME_EXCHANGE);
      }
      break;
    default: break;
  }
}

void Generator::draw_attributes(Op& op) {
  switch (op.call) {
    case Call::kChmod: op.mode = mode(); break;
    case Call::kChown:
    case Call::kLchown: {
      const Who& to = users_.at(below(static_cast<uint32_t>(users_.size())));
      op.uid = below(2) == 0 ? kSame : to.uid;
      op.gid = op.uid != kSame && below(2) == 0 ? kSame : (below(3) == 0 ? to.group : to.gid);
      break;
    }
    case Call::kUtimens:
      op.mode = below(4);
      op.offset = 1000 + below(1'000'000);
      break;
    case Call::kAccess: op.flags = static_cast<int>(below(8)); break;
    case Call::kSetxattr:
    case Call::kGetxattr:
    case Call::kRemovexattr: {
      constexpr std::array<int, 4> kFlags{0, 0, XATTR_CREATE, XATTR_REPLACE};
      op.other = "user." + name();
      op.flags = kFlags.at(below(kFlags.size()));
      op.value = std::string(below(10) == 0 ? below(3000) : below(30), op.byte);
      break;
    }
    default: break;
  }
}

void Generator::draw_bytes(Op& op) {
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  constexpr std::array kModes{0,      int{FALLOC_FL_KEEP_SIZE},  kPunch,
                              kPunch, int{FALLOC_FL_ZERO_RANGE}, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
  if (op.call == Call::kFallocate) op.flags = kModes.at(below(kModes.size()));
  if (op.call == Call::kFallocate && below(20) == 0) op.length = -static_cast<int64_t>(below(2));
  if (op.call == Call::kTruncate && below(20) == 0) op.offset = -1;
}

}  // namespace udax::vfs_model

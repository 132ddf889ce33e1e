// SPDX-License-Identifier: BSD-3-Clause
//
// Opening, attributes, extended attributes.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "tests/conformity/model/model.h"

namespace udax::vfs_model {
namespace {

constexpr uint32_t kRead = 4, kWrite = 2, kSearch = 1;

}  // namespace

void Model::drop_privileges(Node& node) const {
  if (lies("setuid")) return;
  node.mode &= ~uint32_t{S_ISUID};
  if ((node.mode & S_IXGRP) != 0) node.mode &= ~uint32_t{S_ISGID};
}

void Model::kill_privileges(Node& node, const Who& who) const {
  if (who.uid != 0) drop_privileges(node);
}

int Model::may_open_existing(const Op& op, const Place& place) const {
  const Node& node = *place.node;
  if ((op.flags & O_CREAT) != 0) {
    if ((op.flags & O_EXCL) != 0) return EEXIST;
    if (node.is_dir()) return EISDIR;
    // fs.protected_regular and fs.protected_fifos, proc(5).
    const Node& dir = *place.dir;
    // As Linux has it, sockets are protected whatever is set.
    const int level = node.is_file() ? rules_.protected_regular : S_ISFIFO(node.mode) ? rules_.protected_fifos : 1;
    if (level != 0 && (dir.mode & S_ISVTX) != 0 && node.uid != dir.uid && node.uid != op.who.uid &&
        ((dir.mode & S_IWOTH) != 0 || (level >= 2 && (dir.mode & S_IWGRP) != 0))) {
      return EACCES;
    }
  }
  if ((op.flags & O_DIRECTORY) != 0 && !node.is_dir()) return ENOTDIR;
  if (node.is_symlink()) return ELOOP;
  const int access = op.flags & O_ACCMODE;
  const bool truncates = (op.flags & O_TRUNC) != 0;
  const uint32_t want = (access != O_WRONLY ? kRead : 0U) | (access != O_RDONLY || truncates ? kWrite : 0U);
  if (node.is_dir() && (want & kWrite) != 0) return EISDIR;
  if (!may(node, op.who, want)) return EACCES;
  // Opened without waiting, and never kept open.
  if (S_ISSOCK(node.mode) || (S_ISFIFO(node.mode) && access == O_WRONLY)) return ENXIO;
  return 0;
}

Outcome Model::open(const Op& op) {
  Slot& slot = slots_.at(static_cast<size_t>(op.slot));
  const bool exclusive = (op.flags & O_CREAT) != 0 && (op.flags & O_EXCL) != 0;
  const Place place = resolve(op.path, op.who, (op.flags & O_NOFOLLOW) == 0 && !exclusive);
  if (place.error != 0) return {place.error, {}};
  NodePtr node = place.node;
  if (node == nullptr) {
    if ((op.flags & O_CREAT) == 0) return {ENOENT, {}};
    if (const int error = may_create(place, op.who); error != 0) return {error, {}};
    node = make(place, S_IFREG | op.mode, op.who);
    attach(*place.dir, place.name, node);
  } else {
    if (const int error = may_open_existing(op, place); error != 0) return {error, {}};
    if (node->is_file() && (op.flags & O_TRUNC) != 0) {
      resize(*node, 0);
      kill_privileges(*node, op.who);
      touch(*node);
    }
  }
  if (node->is_file() || node->is_dir()) slot = {node, op.flags & O_ACCMODE, (op.flags & O_APPEND) != 0};
  return {};
}

Outcome Model::tmpfile(const Op& op) {
  Slot& slot = slots_.at(static_cast<size_t>(op.slot));
  const Place place = resolve(op.path, op.who, true);
  if (place.error != 0) return {place.error, {}};
  if (place.node == nullptr) return {ENOENT, {}};
  if (!place.node->is_dir()) return {ENOTDIR, {}};
  if (!may(*place.node, op.who, kWrite | kSearch)) return {EACCES, {}};
  Place within;
  within.dir = place.node.get();
  const NodePtr node = make(within, S_IFREG | op.mode, op.who);
  node->nlink = 0;
  node->linkable = true;
  slot = {node, O_RDWR, false};
  return {};
}

Outcome Model::chmod(const Op& op, Node& node) const {
  if (!owns(node, op.who)) return {EPERM, {}};
  uint32_t mode = op.mode;
  if (op.who.uid != 0 && !in_group(op.who, node.gid)) mode &= ~uint32_t{S_ISGID};
  node.mode = (node.mode & S_IFMT) | mode;
  return {};
}

Outcome Model::chown(const Op& op, Node& node) const {
  const bool is_owner = op.who.uid == node.uid;
  if (op.who.uid != 0) {
    if (op.uid != kSame && (!is_owner || op.uid != node.uid)) return {EPERM, {}};
    if (op.gid != kSame && (!is_owner || (!in_group(op.who, op.gid) && op.gid != node.gid))) return {EPERM, {}};
  }
  if (op.uid != kSame) node.uid = op.uid;
  if (op.gid != kSame) node.gid = op.gid;
  if (!node.is_dir()) drop_privileges(node);
  return {};
}

// op.mode: see Op.
Outcome Model::utimens(const Op& op, Node& node) const {
  if (!owns(node, op.who)) {
    if (op.mode != 1) return {EPERM, {}};
    if (!may(node, op.who, kWrite)) return {EACCES, {}};
  }
  if (op.mode != 3) node.atime.reset();
  node.mtime.reset();
  if (op.mode == 0) node.atime = op.offset;
  if (op.mode != 1) node.mtime = op.offset + 1;
  return {};
}

Outcome Model::xattr(const Op& op, Node& node) const {
  if (op.call == Call::kListxattr) {
    std::string names;
    for (const auto& [name, value] : node.xattrs) names += name + '\n';
    return {0, names};
  }
  const bool changes = op.call != Call::kGetxattr;
  if (!node.is_file() && !node.is_dir()) return {changes ? EPERM : ENODATA, {}};
  if (changes && node.is_dir() && (node.mode & S_ISVTX) != 0 && !owns(node, op.who)) return {EPERM, {}};
  if (!may(node, op.who, changes ? kWrite : kRead)) return {EACCES, {}};
  const auto found = node.xattrs.find(op.other);
  const bool is_there = found != node.xattrs.end();
  if (op.call == Call::kSetxattr) {
    if (is_there && op.flags == XATTR_CREATE) return {EEXIST, {}};
    if (!is_there && op.flags == XATTR_REPLACE) return {ENODATA, {}};
    node.xattrs[op.other] = op.value;
    return {};
  }
  if (!is_there) return {ENODATA, {}};
  if (op.call == Call::kGetxattr) return {0, found->second};
  node.xattrs.erase(found);
  return {};
}

Outcome Model::describe(const Node& node, const Outcome& real) {
  const size_t size = node.is_symlink() ? node.target.size() : node.bytes.size();
  std::array<char, 100> text{};
  std::snprintf(text.data(), text.size(), "mode %o links %u owner %u:%u size %zu", node.mode, node.nlink, node.uid,
                node.gid, size);
  // Who follows a link reads it.
  const int64_t atime = node.is_symlink() ? real.atime : node.atime.value_or(real.atime);
  return {0, text.data(), atime, node.mtime.value_or(real.mtime)};
}

// What works on a file that a path names.
Outcome Model::on_path(const Op& op, const Outcome& real) {
  if (op.call == Call::kTruncate && op.offset < 0) return {EINVAL, {}};
  if (op.call == Call::kUtimens && op.mode == 2) return {};  // nothing is asked for, and the path is not looked at
  const bool follow = op.call != Call::kLchown && op.call != Call::kStat && op.call != Call::kReadlink;
  const Place place = resolve(op.path, op.who, follow);
  if (place.error != 0) return {place.error, {}};
  if (place.node == nullptr) return {ENOENT, {}};
  Node& node = *place.node;
  switch (op.call) {
    case Call::kChmod: return chmod(op, node);
    case Call::kChown:
    case Call::kLchown: return chown(op, node);
    case Call::kUtimens: return utimens(op, node);
    case Call::kTruncate:
      if (node.is_dir()) return {EISDIR, {}};
      if (!node.is_file()) return {EINVAL, {}};
      if (!may(node, op.who, kWrite)) return {EACCES, {}};
      resize(node, op.offset);
      kill_privileges(node, op.who);
      touch(node);
      return {};
    case Call::kAccess: return {may(node, op.who, static_cast<uint32_t>(op.flags)) ? 0 : EACCES, {}};
    case Call::kStat: return describe(node, real);
    case Call::kReadlink:
      if (!node.is_symlink()) return {EINVAL, {}};
      node.atime.reset();
      return {0, node.target};
    case Call::kList: {
      if (!node.is_dir()) return {ENOTDIR, {}};
      if (!may(node, op.who, kRead)) return {EACCES, {}};
      node.atime.reset();
      std::string names;
      for (const auto& [name, child] : node.entries) names += name + '\n';
      return {0, names};
    }
    default: return xattr(op, node);
  }
}

Outcome Model::apply(const Op& op, const Outcome& real) {
  switch (op.call) {
    case Call::kOpen: return open(op);
    case Call::kTmpfile: return tmpfile(op);
    case Call::kMkdir: return mknod(op, op.mode, true);
    case Call::kMknod: return mknod(op, op.mode, false);
    case Call::kSymlink: return symlink(op);
    case Call::kLink: return link(op, nullptr);
    case Call::kUnlink: return unlink(op);
    case Call::kRmdir: return rmdir(op);
    case Call::kRename: return rename(op);
    case Call::kClose:
    case Call::kRead:
    case Call::kWrite:
    case Call::kFtruncate:
    case Call::kFallocate:
    case Call::kSeekData:
    case Call::kSeekHole:
    case Call::kCopyRange:
    case Call::kLinkFd:
    case Call::kFstat: return on_slot(op, real);
    default: return on_path(op, real);
  }
}

}  // namespace udax::vfs_model

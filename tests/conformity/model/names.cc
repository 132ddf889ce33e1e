// SPDX-License-Identifier: BSD-3-Clause
//
// Paths, permissions, names.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "tests/conformity/model/model.h"

namespace udax::vfs_model {
namespace {

constexpr uint32_t kRead = 4, kWrite = 2, kSearch = 1;
constexpr size_t kNameMax = 255;
constexpr int kLinksMax = 40;

}  // namespace

bool Node::is_dir() const { return S_ISDIR(mode); }
bool Node::is_file() const { return S_ISREG(mode); }
bool Node::is_symlink() const { return S_ISLNK(mode); }

Model::Model(const Who& owner, Rules rules) : rules_(std::move(rules)), top_(std::make_shared<Node>()) {
  top_->mode = S_IFDIR | 0777U;
  top_->uid = owner.uid;
  top_->gid = owner.gid;
  top_->nlink = 2;
}

bool Model::may(const Node& node, const Who& who, uint32_t want) const {
  if (who.uid == 0) return node.is_dir() || (want & kSearch) == 0 || (node.mode & 0111U) != 0;
  const uint32_t shift = who.uid == node.uid ? 6 : in_group(who, node.gid) ? 3 : 0;
  return (node.mode >> shift & want) == want;
}

int Model::follow_link(Place& place, const Who& who, bool trailing, int& links) const {
  if (++links > kLinksMax) return ELOOP;
  const NodePtr link = place.node;
  const Node& dir = *place.dir;
  if (trailing && rules_.protected_symlinks != 0 && (dir.mode & 01002U) == 01002U && link->uid != who.uid &&
      link->uid != dir.uid) {
    return EACCES;
  }
  link->atime.reset();
  return walk(place, link->target, who, true, links);
}

// From place.dir on. The last component is looked up, and followed if `follow`.
int Model::walk(Place& place, const std::string& path, const Who& who, bool follow, int& links) const {
  for (size_t at = 0;;) {
    const size_t slash = path.find('/', at);
    const bool is_last = slash == std::string::npos;
    place.name = path.substr(at, is_last ? slash : slash - at);
    if (!may(*place.dir, who, kSearch)) return EACCES;
    place.node = nullptr;
    if (place.name == "..") {
      if (place.dir->parent == nullptr || is_last) return kOutside;
      place.dir = place.dir->parent;
    } else {
      if (place.name.size() > kNameMax) return ENAMETOOLONG;
      const auto found = place.dir->entries.find(place.name);
      if (found != place.dir->entries.end()) place.node = found->second;
      if (place.node != nullptr && place.node->is_symlink() && (!is_last || follow)) {
        if (const int error = follow_link(place, who, is_last, links); error != 0) return error;
      }
      if (is_last) return 0;
      if (place.node == nullptr) return ENOENT;
      if (!place.node->is_dir()) return ENOTDIR;
      place.dir = place.node.get();
    }
    at = slash + 1;
  }
}

Model::Place Model::resolve(const std::string& path, const Who& who, bool follow) const {
  Place place;
  place.dir = top_.get();
  int links = 0;
  place.error = walk(place, path, who, follow, links);
  return place;
}

bool Model::leaves(const Op& op) const {
  for (const bool follow : {false, true}) {
    if (resolve(op.path, op.who, follow).error == kOutside) return true;
    const bool is_path = op.call == Call::kLink || op.call == Call::kRename;
    if (is_path && resolve(op.other, op.who, follow).error == kOutside) return true;
  }
  return false;
}

int Model::may_create(const Place& place, const Who& who) const {
  if (place.node != nullptr) return EEXIST;
  if (place.dir == nullptr) return ENOENT;
  return may(*place.dir, who, kWrite | kSearch) ? 0 : EACCES;
}

int Model::may_delete(const Node& dir, const Node& victim, const Who& who, bool as_dir) const {
  if (!may(dir, who, kWrite | kSearch)) return EACCES;
  if ((dir.mode & S_ISVTX) != 0 && !owns(victim, who) && !owns(dir, who) && !lies("sticky")) return EPERM;
  if (as_dir && !victim.is_dir()) return ENOTDIR;
  if (!as_dir && victim.is_dir()) return EISDIR;
  return 0;
}

// fs.protected_hardlinks, proc(5).
int Model::may_link(const Node& node, const Who& who) const {
  if (rules_.protected_hardlinks == 0 || owns(node, who)) return 0;
  const bool is_safe = node.is_file() && (node.mode & S_ISUID) == 0 &&
                       (node.mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP) && may(node, who, kRead | kWrite);
  return is_safe ? 0 : EPERM;
}

void Model::attach(Node& dir, const std::string& name, const NodePtr& node) {
  dir.entries[name] = node;
  if (node->is_dir()) {
    node->parent = &dir;
    ++dir.nlink;
  }
  touch(dir);
}

void Model::detach(Node& dir, const std::string& name) {
  const NodePtr node = dir.entries.at(name);
  if (node->is_dir()) {
    --dir.nlink;
    node->parent = nullptr;
  }
  dir.entries.erase(name);
  touch(dir);
}

NodePtr Model::make(const Place& place, uint32_t mode, const Who& who) {
  auto node = std::make_shared<Node>();
  node->uid = who.uid;
  node->gid = who.gid;
  node->nlink = 1;
  if ((place.dir->mode & S_ISGID) != 0) {
    node->gid = place.dir->gid;
    if (S_ISDIR(mode)) {
      mode |= S_ISGID;
    } else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && who.uid != 0 && !in_group(who, node->gid)) {
      mode &= ~uint32_t{S_ISGID};
    }
  }
  node->mode = mode;
  if (S_ISDIR(mode)) node->nlink = 2;
  return node;
}

Outcome Model::mknod(const Op& op, uint32_t mode, bool is_dir) {
  const Place place = resolve(op.path, op.who, false);
  if (place.error != 0) return {place.error, {}};
  if (const int error = may_create(place, op.who); error != 0) return {error, {}};
  attach(*place.dir, place.name, make(place, is_dir ? S_IFDIR | (mode & 01777U) : mode, op.who));
  return {};
}

Outcome Model::symlink(const Op& op) {
  const Place place = resolve(op.path, op.who, false);
  if (place.error != 0) return {place.error, {}};
  if (const int error = may_create(place, op.who); error != 0) return {error, {}};
  const NodePtr node = make(place, S_IFLNK | 0777U, op.who);
  node->target = op.other;
  attach(*place.dir, place.name, node);
  return {};
}

// `old`: what has been found of the file, or a path in op.path and a name in op.other.
Outcome Model::link(const Op& op, const NodePtr& old) {
  NodePtr node = old;
  if (node == nullptr) {
    const Place from = resolve(op.path, op.who, false);
    if (from.error != 0) return {from.error, {}};
    if (from.node == nullptr) return {ENOENT, {}};
    node = from.node;
  }
  const Place to = resolve(old == nullptr ? op.other : op.path, op.who, false);
  if (to.error != 0) return {to.error, {}};
  if (to.node != nullptr) return {EEXIST, {}};
  if (const int error = may_link(*node, op.who); error != 0) return {error, {}};
  if (const int error = may_create(to, op.who); error != 0) return {error, {}};
  if (node->is_dir()) return {EPERM, {}};
  if (node->nlink == 0 && !node->linkable) return {ENOENT, {}};
  node->linkable = false;
  ++node->nlink;
  attach(*to.dir, to.name, node);
  return {};
}

Outcome Model::unlink(const Op& op) {
  const Place place = resolve(op.path, op.who, false);
  if (place.error != 0) return {place.error, {}};
  if (place.node == nullptr) return {ENOENT, {}};
  if (const int error = may_delete(*place.dir, *place.node, op.who, false); error != 0) return {error, {}};
  const NodePtr node = place.node;
  detach(*place.dir, place.name);
  --node->nlink;
  return {};
}

Outcome Model::rmdir(const Op& op) {
  const Place place = resolve(op.path, op.who, false);
  if (place.error != 0) return {place.error, {}};
  if (place.node == nullptr) return {ENOENT, {}};
  if (const int error = may_delete(*place.dir, *place.node, op.who, true); error != 0) return {error, {}};
  if (!place.node->entries.empty()) return {lies("errno") ? EEXIST : ENOTEMPTY, {}};
  const NodePtr node = place.node;
  detach(*place.dir, place.name);
  node->nlink = 0;
  return {};
}

int Model::rename_checks(const Op& op, const Place& from, const Place& to) const {
  const bool exchange = (op.flags & RENAME_EXCHANGE) != 0;
  if (from.node == nullptr || from.dir == nullptr || to.dir == nullptr) return ENOENT;
  if ((op.flags & RENAME_NOREPLACE) != 0 && to.node != nullptr) return EEXIST;
  if (exchange && to.node == nullptr) return ENOENT;
  for (const Node* up = to.dir; up != nullptr; up = up->parent) {
    if (up == from.node.get()) return EINVAL;
  }
  for (const Node* up = from.dir; up != nullptr; up = up->parent) {
    if (up == to.node.get()) return exchange ? EINVAL : ENOTEMPTY;
  }
  if (from.node == to.node) return 0;
  const bool is_dir = from.node->is_dir();
  if (const int error = may_delete(*from.dir, *from.node, op.who, is_dir); error != 0) return error;
  if (to.node == nullptr) {
    if (const int error = may_create(to, op.who); error != 0) return error;
  } else {
    const bool as_dir = exchange ? to.node->is_dir() : is_dir;
    if (const int error = may_delete(*to.dir, *to.node, op.who, as_dir); error != 0) return error;
  }
  if (from.dir != to.dir) {
    if (is_dir && !may(*from.node, op.who, kWrite)) return EACCES;
    if (exchange && to.node->is_dir() && !may(*to.node, op.who, kWrite)) return EACCES;
  }
  return !exchange && to.node != nullptr && is_dir && !to.node->entries.empty() ? ENOTEMPTY : 0;
}

Outcome Model::rename(const Op& op) {
  Place from = resolve(op.path, op.who, false);
  if (from.error != 0 && (from.error != ENAMETOOLONG || from.name != op.path.substr(op.path.rfind('/') + 1))) {
    return {from.error, {}};
  }
  // The folders of both are found before the names in them are looked up.
  const Place to = resolve(op.other, op.who, false);
  if (from.error != 0) return {to.error != 0 && to.error != ENAMETOOLONG ? to.error : from.error, {}};
  if (to.error != 0) {
    if (to.error == ENAMETOOLONG && from.node == nullptr) return {ENOENT, {}};
    return {to.error, {}};
  }
  if (const int error = rename_checks(op, from, to); error != 0) return {error, {}};
  if (from.node == to.node) return {};
  const NodePtr moved = from.node;
  const NodePtr other = to.node;
  detach(*from.dir, from.name);
  if (other != nullptr) detach(*to.dir, to.name);
  attach(*to.dir, to.name, moved);
  if (other == nullptr) return {};
  if ((op.flags & RENAME_EXCHANGE) != 0) {
    attach(*from.dir, from.name, other);
  } else {
    other->nlink = other->is_dir() ? 0 : other->nlink - 1;
  }
  return {};
}

}  // namespace udax::vfs_model

// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/model.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>

namespace udax::storm {
namespace {

constexpr size_t kNameMax = 255;
constexpr size_t kScanPiece = 7;

bool is_above(const Model::Node* above, const Model::Node* below) {
  for (; below != nullptr; below = below->parent) {
    if (below == above) return true;
  }
  return false;
}

Entry entry_of(const std::string& name, const Model::Node& node) {
  return {name, node.ino, static_cast<uint8_t>(IFTODT(node.mode))};
}

}  // namespace

bool Model::Node::is_dir() const { return S_ISDIR(mode); }
bool Model::Node::is_file() const { return S_ISREG(mode); }
bool Model::Node::is_symlink() const { return S_ISLNK(mode); }

Model::Model(Owner owner, uint32_t top_mode, bool dax_inherits) : owner_(owner), dax_inherits_(dax_inherits) {
  top_ = std::make_shared<Node>();
  top_->ino = next_ino_++;
  top_->mode = S_IFDIR | top_mode;
  top_->owner = owner;
  top_->nlink = 2;
}

// Paths.

// kNameMax is checked where a name is looked up, as the kernel does: after the directories before it.
Model::Place Model::walk(const std::string& path) {
  Place place;
  place.node = top_;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (place.node == nullptr || !place.node->is_dir()) {
      place.error = place.node == nullptr ? -ENOENT : -ENOTDIR;
      place.in_parent = true;
      return place;
    }
    place.directory = place.node.get();
    place.name = path.substr(begin, end - begin);
    if (place.name.size() > kNameMax) {
      place.error = -ENAMETOOLONG;
      place.in_parent = end < path.size();
      return place;
    }
    const auto found = place.directory->entries.find(place.name);
    place.node = found == place.directory->entries.end() ? nullptr : found->second;
    begin = end + 1;
  }
  return place;
}

Model::Place Model::place_for_new(const std::string& path) {
  Place place = walk(path);
  if (place.error == 0 && place.node != nullptr) place.error = -EEXIST;
  return place;
}

Model::Place Model::regular(const std::string& path) {
  Place place = walk(path);
  if (place.error != 0) return place;
  if (place.node == nullptr) {
    place.error = -ENOENT;
  } else if (place.node->is_dir()) {
    place.error = -EISDIR;
  } else if (place.node->is_symlink()) {
    place.error = -ELOOP;  // O_NOFOLLOW
  }
  return place;
}

Model::Node* Model::find(const std::string& path) {
  const Place place = walk(path);
  return place.error == 0 ? place.node.get() : nullptr;
}

bool Model::crosses_symlink(const std::string& path) {
  for (size_t end = path.find('/'); end != std::string::npos; end = path.find('/', end + 1)) {
    const Node* const node = find(path.substr(0, end));
    if (node != nullptr && node->is_symlink()) return true;
  }
  return false;
}

// Names.

void Model::touch(Node& node) {
  node.mtime_version = next_version_++;
  node.mtime_ns.reset();
}

// inode_init_owner(): a directory with the set-group-ID bit hands its group down, and the bit to directories.
Model::Handle Model::make(Node& directory, uint32_t mode) {
  auto node = std::make_shared<Node>();
  node->ino = next_ino_++;
  node->mode = mode;
  node->owner = owner_;
  if ((directory.mode & S_ISGID) != 0) {
    node->owner.gid = directory.owner.gid;
    if (S_ISDIR(mode)) node->mode |= S_ISGID;
  }
  node->dax = dax_inherits_ && directory.dax && (S_ISDIR(mode) || S_ISREG(mode));
  node->nlink = S_ISDIR(mode) ? 2 : 1;
  touch(*node);
  return node;
}

void Model::enter(Node& directory, const std::string& name, const Handle& node) {
  directory.entries[name] = node;
  if (node->is_dir()) {
    node->parent = &directory;
    ++directory.nlink;
  }
  touch(directory);
  ++entries_;
}

// The name only: link counts of what had it are the caller's.
void Model::take(Node& directory, const std::string& name) {
  const auto found = directory.entries.find(name);
  if (found->second->is_dir()) --directory.nlink;
  directory.entries.erase(found);
  touch(directory);
  --entries_;
}

int Model::add(const std::string& path, uint32_t mode, Node** made) {
  const Place place = place_for_new(path);
  if (place.error != 0) return place.error;
  const Handle node = make(*place.directory, mode);
  enter(*place.directory, place.name, node);
  if (made != nullptr) *made = node.get();
  return 0;
}

int Model::create(const std::string& path, uint32_t mode) { return add(path, S_IFREG | mode, nullptr); }
int Model::mkdir(const std::string& path, uint32_t mode) { return add(path, S_IFDIR | mode, nullptr); }

int Model::mknod(const std::string& path, uint32_t mode, uint64_t rdev) {
  Node* node = nullptr;
  const int result = add(path, mode, &node);
  if (result == 0 && (S_ISCHR(mode) || S_ISBLK(mode))) node->rdev = rdev;
  return result;
}

int Model::symlink(const std::string& target, const std::string& path) {
  Node* node = nullptr;
  const int result = add(path, S_IFLNK | 0777, &node);
  if (result == 0) node->target = target;
  return result;
}

int Model::link(const std::string& from, const std::string& to) {
  const Place source = walk(from);
  if (source.error != 0) return source.error;
  if (source.node == nullptr) return -ENOENT;
  const Place place = place_for_new(to);
  if (place.error != 0) return place.error;
  if (source.node->is_dir()) return -EPERM;
  ++source.node->nlink;
  enter(*place.directory, place.name, source.node);
  return 0;
}

int Model::unlink(const std::string& path) {
  const Place place = walk(path);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  if (place.node->is_dir()) return -EISDIR;
  take(*place.directory, place.name);
  --place.node->nlink;
  return 0;
}

int Model::rmdir(const std::string& path) {
  const Place place = walk(path);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  if (!place.node->is_dir()) return -ENOTDIR;
  if (!place.node->entries.empty()) return -ENOTEMPTY;
  take(*place.directory, place.name);
  place.node->nlink = 0;
  place.node->parent = nullptr;
  return 0;
}

// In the kernel's order (renameat2(2) does not give one).
int Model::check_rename(const Place& from, const Place& to, unsigned flags) const {
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (from.node == nullptr) return -ENOENT;
  if ((flags & RENAME_NOREPLACE) != 0 && to.node != nullptr) return -EEXIST;
  if (exchange && to.node == nullptr) return -ENOENT;
  if (from.node->is_dir() && is_above(from.node.get(), to.directory)) return -EINVAL;
  if (to.node != nullptr && to.node->is_dir() && is_above(to.node.get(), from.directory)) {
    return exchange ? -EINVAL : -ENOTEMPTY;
  }
  if (to.node == nullptr || exchange || from.node == to.node) return 0;
  if (from.node->is_dir() && !to.node->is_dir()) return -ENOTDIR;
  if (!from.node->is_dir() && to.node->is_dir()) return -EISDIR;
  return to.node->is_dir() && !to.node->entries.empty() ? -ENOTEMPTY : 0;
}

int Model::rename(const std::string& from_path, const std::string& to_path, unsigned flags) {
  const Place from = walk(from_path);
  const Place to = walk(to_path);
  // Both parents first, then the names in them.
  if (from.error != 0 && (from.in_parent || !to.in_parent)) return from.error;
  if (to.error != 0 && (to.in_parent || from.node != nullptr)) return to.error;
  if (from.directory == nullptr || to.directory == nullptr) return -EBUSY;  // the top
  const int error = check_rename(from, to, flags);
  if (error != 0) return error;
  if (from.node == to.node) return 0;  // two names of one file stay as they are
  take(*from.directory, from.name);
  if (to.node != nullptr) {
    take(*to.directory, to.name);
    if ((flags & RENAME_EXCHANGE) != 0) {
      enter(*from.directory, from.name, to.node);
    } else {
      to.node->nlink = to.node->is_dir() ? 0 : to.node->nlink - 1;
    }
  }
  enter(*to.directory, to.name, from.node);
  if ((flags & RENAME_WHITEOUT) != 0) enter(*from.directory, from.name, make(*from.directory, S_IFCHR));
  return 0;
}

// Data and attributes.

void Model::put(Node& node, uint64_t offset, std::span<const std::byte> data) {
  if (data.empty()) return;
  if (node.bytes.size() < offset + data.size()) node.bytes.resize(offset + data.size());
  std::copy(data.begin(), data.end(), node.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  touch(node);
}

int Model::write(const std::string& path, uint64_t offset, std::span<const std::byte> data) {
  const Place place = regular(path);
  if (place.error == 0) put(*place.node, offset, data);
  return place.error;
}

int Model::truncate(const std::string& path, uint64_t size) {
  const Place place = regular(path);
  if (place.error != 0) return place.error;
  place.node->bytes.resize(size);
  touch(*place.node);
  return 0;
}

int Model::chmod(const std::string& path, uint32_t mode) {
  Node* const node = find(path);
  if (node == nullptr) return walk(path).error != 0 ? walk(path).error : -ENOENT;
  node->mode = (node->mode & S_IFMT) | mode;
  return 0;
}

// chown(2): set-user-ID goes, and set-group-ID where the group may execute; not those of a directory.
int Model::chown(const std::string& path, uint32_t uid, uint32_t gid) {
  Node* const node = find(path);
  if (node == nullptr) return walk(path).error != 0 ? walk(path).error : -ENOENT;
  node->owner = {uid, gid};
  if (!node->is_dir()) {
    node->mode &= ~static_cast<uint32_t>(S_ISUID);
    if ((node->mode & S_IXGRP) != 0) node->mode &= ~static_cast<uint32_t>(S_ISGID);
  }
  return 0;
}

int Model::utimens(const std::string& path, int64_t mtime_ns) {
  Node* const node = find(path);
  if (node == nullptr) return walk(path).error != 0 ? walk(path).error : -ENOENT;
  touch(*node);
  node->mtime_ns = mtime_ns;
  return 0;
}

// "user." is for regular files and directories (xattr(7)).
int Model::setxattr(const std::string& path, const std::string& name, const std::string& value, int flags) {
  Node* const node = find(path);
  if (node == nullptr) return walk(path).error != 0 ? walk(path).error : -ENOENT;
  if (!node->is_dir() && !node->is_file()) return -EPERM;
  const bool there = node->xattrs.contains(name);
  if (there && (flags & XATTR_CREATE) != 0) return -EEXIST;
  if (!there && (flags & XATTR_REPLACE) != 0) return -ENODATA;
  node->xattrs[name] = value;
  return 0;
}

int Model::removexattr(const std::string& path, const std::string& name) {
  Node* const node = find(path);
  if (node == nullptr) return walk(path).error != 0 ? walk(path).error : -ENOENT;
  if (!node->is_dir() && !node->is_file()) return -EPERM;
  return node->xattrs.erase(name) > 0 ? 0 : -ENODATA;
}

int Model::set_dax(const std::string& path, bool dax) {
  Node* const node = find(path);
  if (node == nullptr) return walk(path).error != 0 ? walk(path).error : -ENOENT;
  node->dax = dax;
  return 0;
}

int Model::fsync(const std::string& path) {
  const Place place = walk(path);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  return place.node->is_symlink() ? -ELOOP : 0;
}

// Slots.

int Model::slot_open(uint8_t slot, const std::string& path) {
  const Place place = regular(path);
  slots_[slot] = place.error == 0 ? place.node : nullptr;
  return place.error;
}

int Model::slot_tmpfile(uint8_t slot, const std::string& directory, uint32_t mode) {
  slots_[slot] = nullptr;
  const Place place = walk(directory);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  if (!place.node->is_dir()) return -ENOTDIR;
  slots_[slot] = make(*place.node, S_IFREG | mode);
  slots_[slot]->nlink = 0;
  slots_[slot]->linkable = true;
  return 0;
}

int Model::slot_write(uint8_t slot, uint64_t offset, std::span<const std::byte> data) {
  if (slots_[slot] == nullptr) return -EBADF;
  put(*slots_[slot], offset, data);
  return 0;
}

// linkat(2) of an open file: an unlinked one does not come back, unless O_TMPFILE made it.
int Model::slot_link(uint8_t slot, const std::string& path) {
  const Handle node = slots_[slot];
  if (node == nullptr) return -EBADF;
  const Place place = place_for_new(path);
  if (place.error != 0) return place.error;
  if (node->nlink == 0 && !node->linkable) return -ENOENT;
  node->linkable = false;
  ++node->nlink;
  enter(*place.directory, place.name, node);
  return 0;
}

int Model::slot_close(uint8_t slot) {
  slots_[slot] = nullptr;
  return 0;
}

int Model::slot_stat(uint8_t slot, Attributes& out) {
  if (slots_[slot] == nullptr) return -EBADF;
  fill(*slots_[slot], out);
  return 0;
}

int Model::slot_read(uint8_t slot, std::vector<std::byte>& out) {
  if (slots_[slot] == nullptr) return -EBADF;
  out = slots_[slot]->bytes;
  return 0;
}

// Looking.

void Model::fill(const Node& node, Attributes& out) const {
  out = {};
  out.mode = node.mode;
  out.nlink = node.nlink;
  out.uid = node.owner.uid;
  out.gid = node.owner.gid;
  out.size = node.is_symlink() ? node.target.size() : node.bytes.size();
  out.rdev = node.rdev;
  out.ino = node.ino;
  out.mtime_version = node.mtime_version;
  out.mtime_known = node.mtime_ns.has_value();
  out.mtime_ns = node.mtime_ns.value_or(0);
}

int Model::stat(const std::string& path, Attributes& out) {
  const Place place = walk(path);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  fill(*place.node, out);
  return 0;
}

int Model::read(const std::string& path, std::vector<std::byte>& out) {
  const Place place = regular(path);
  if (place.error == 0) out = place.node->bytes;
  return place.error;
}

int Model::readlink(const std::string& path, std::string& out) {
  const Place place = walk(path);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  if (!place.node->is_symlink()) return -EINVAL;
  out = place.node->target;
  return 0;
}

int Model::xattrs(const std::string& path, Xattrs& out) {
  Node* const node = find(path);
  if (node == nullptr) return -ENOENT;
  out = node->xattrs;
  return 0;
}

int Model::get_dax(const std::string& path) {
  Node* const node = find(path);
  if (node == nullptr) return -ENOENT;
  return node->dax ? 1 : 0;
}

int Model::list(const std::string& path, std::vector<Entry>& out) {
  const Place place = walk(path);
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  if (!place.node->is_dir()) return -ENOTDIR;
  out.clear();
  for (const auto& [name, node] : place.node->entries) out.push_back(entry_of(name, *node));
  return 0;
}

int Model::scan_begin(const std::string& path) {
  scanned_ = 0;
  return list(path, scan_);
}

int Model::scan_next(std::vector<Entry>& out) {
  out.clear();
  while (scanned_ < scan_.size() && out.size() < kScanPiece) out.push_back(scan_[scanned_++]);
  return 0;
}

void Model::scan_end() { scan_.clear(); }

}  // namespace udax::storm

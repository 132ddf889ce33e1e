// SPDX-License-Identifier: BSD-3-Clause
//
// The tree in memory: what POSIX and Linux's man pages say that each operation does, and with which error it is refused.
//
// Invariants: an inode's link count is the number of its names (a directory's: 2 and one for each subdirectory);
// an inode without names lives as long as a slot has it open.
// Not thread-safe. Inode numbers are never used again.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/storm/namespace.h"

namespace udax::storm {

struct Owner {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

class Model : public Namespace {
 public:
  struct Node {
    uint64_t ino = 0;
    uint32_t mode = 0;
    Owner owner;
    uint64_t nlink = 0;
    uint64_t rdev = 0;
    bool dax = false;
    bool linkable = false;  // made by O_TMPFILE, and never linked
    uint64_t mtime_version = 0;
    std::optional<int64_t> mtime_ns;  // as set by utimens
    std::vector<std::byte> bytes;
    std::string target;
    Xattrs xattrs;
    std::map<std::string, std::shared_ptr<Node>> entries;
    Node* parent = nullptr;  // of a directory

    [[nodiscard]] bool is_dir() const;
    [[nodiscard]] bool is_file() const;
    [[nodiscard]] bool is_symlink() const;
  };

  /// `dax_inherits`: what is made in a directory with the flag has it.
  Model(Owner owner, uint32_t top_mode, bool dax_inherits);

  int create(const std::string& path, uint32_t mode) override;
  int mkdir(const std::string& path, uint32_t mode) override;
  int mknod(const std::string& path, uint32_t mode, uint64_t rdev) override;
  int symlink(const std::string& target, const std::string& path) override;
  int link(const std::string& from, const std::string& to) override;
  int unlink(const std::string& path) override;
  int rmdir(const std::string& path) override;
  int rename(const std::string& from, const std::string& to, unsigned flags) override;
  int write(const std::string& path, uint64_t offset, std::span<const std::byte> data) override;
  int truncate(const std::string& path, uint64_t size) override;
  int chmod(const std::string& path, uint32_t mode) override;
  int chown(const std::string& path, uint32_t uid, uint32_t gid) override;
  int utimens(const std::string& path, int64_t mtime_ns) override;
  int setxattr(const std::string& path, const std::string& name, const std::string& value, int flags) override;
  int removexattr(const std::string& path, const std::string& name) override;
  int set_dax(const std::string& path, bool dax) override;
  int fsync(const std::string& path) override;
  int slot_open(uint8_t slot, const std::string& path) override;
  int slot_tmpfile(uint8_t slot, const std::string& directory, uint32_t mode) override;
  int slot_write(uint8_t slot, uint64_t offset, std::span<const std::byte> data) override;
  int slot_link(uint8_t slot, const std::string& path) override;
  int slot_close(uint8_t slot) override;
  int slot_stat(uint8_t slot, Attributes& out) override;
  int slot_read(uint8_t slot, std::vector<std::byte>& out) override;
  int stat(const std::string& path, Attributes& out) override;
  int read(const std::string& path, std::vector<std::byte>& out) override;
  int readlink(const std::string& path, std::string& out) override;
  int xattrs(const std::string& path, Xattrs& out) override;
  int get_dax(const std::string& path) override;
  int list(const std::string& path, std::vector<Entry>& out) override;
  int scan_begin(const std::string& path) override;
  int scan_next(std::vector<Entry>& out) override;
  void scan_end() override;

  [[nodiscard]] Node& top() { return *top_; }
  /// What the path names, or null.
  [[nodiscard]] Node* find(const std::string& path);
  [[nodiscard]] Node* slot(uint8_t slot) { return slots_[slot].get(); }
  /// A component before the last is a symbolic link: what the path names is not for this model to say.
  [[nodiscard]] bool crosses_symlink(const std::string& path);
  [[nodiscard]] uint64_t entries() const { return entries_; }

 private:
  using Handle = std::shared_ptr<Node>;
  // Where a path leads: a name in a directory, and what has it.
  struct Place {
    int error = 0;
    bool in_parent = false;  // the error is one of a component before the last
    Node* directory = nullptr;
    std::string name;
    Handle node;
  };

  [[nodiscard]] Place walk(const std::string& path);
  [[nodiscard]] Place place_for_new(const std::string& path);
  [[nodiscard]] Handle make(Node& directory, uint32_t mode);
  int add(const std::string& path, uint32_t mode, Node** made);
  void enter(Node& directory, const std::string& name, const Handle& node);
  void take(Node& directory, const std::string& name);
  [[nodiscard]] int check_rename(const Place& from, const Place& to, unsigned flags) const;
  [[nodiscard]] Place regular(const std::string& path);
  void touch(Node& node);
  void put(Node& node, uint64_t offset, std::span<const std::byte> data);
  void fill(const Node& node, Attributes& out) const;

  const Owner owner_;
  const bool dax_inherits_;
  Handle top_;
  std::array<Handle, kSlots> slots_;
  std::vector<Entry> scan_;
  size_t scanned_ = 0;
  uint64_t next_ino_ = 1;
  uint64_t next_version_ = 1;
  uint64_t entries_ = 0;
};

}  // namespace udax::storm

// SPDX-License-Identifier: BSD-3-Clause
//
// A filesystem in memory, written from POSIX and Linux's manual pages: what each call gives, and with which error it is
// refused, in the order in which Linux looks.
//
// Invariants: an inode's link count is the number of its names (a folder's: 2 and one for each folder in it). An inode
// without names lives as long as a slot has it open.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/conformity/model/op.h"

namespace udax::vfs_model {

/// What SEEK_DATA may say of a page: space that is allocated and was not written may be either.
enum class Page : uint8_t { kHole, kData, kEither };

struct Node {
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;
  bool linkable = false;  // made by O_TMPFILE, and never linked
  std::string bytes;
  std::vector<Page> pages;  // may reach behind the end
  std::string target;
  std::map<std::string, std::string> xattrs;
  std::map<std::string, std::shared_ptr<Node>> entries;
  Node* parent = nullptr;  // of a folder
  // As utimens set them, in seconds; nothing since then touched them.
  std::optional<int64_t> atime;
  std::optional<int64_t> mtime;

  [[nodiscard]] bool is_dir() const;
  [[nodiscard]] bool is_file() const;
  [[nodiscard]] bool is_symlink() const;
};
using NodePtr = std::shared_ptr<Node>;

struct Rules {
  // The kernel's /proc/sys/fs/protected_*.
  int protected_hardlinks = 0;
  int protected_symlinks = 0;
  int protected_regular = 0;
  int protected_fifos = 0;
  /// fallocate and copy_file_range clear setuid whoever calls: FUSE does not say (docs/testing.md).
  bool root_loses_setuid = false;
  /// A rule that is wrong on purpose ("sticky", "setuid", "errno", "bytes"), to show that a comparison sees it.
  std::string lie;
};

class Model {
 public:
  /// A folder of `owner`, mode 0777.
  Model(const Who& owner, Rules rules);

  /// Whether a path of it leads out of the folder: nobody knows what is there.
  [[nodiscard]] bool leaves(const Op& op) const;
  /// What the call must give. `real`: what it gave: taken over where the book leaves it open (seeks).
  [[nodiscard]] Outcome apply(const Op& op, const Outcome& real);
  [[nodiscard]] const Node& top() const { return *top_; }
  [[nodiscard]] bool may_see(const Node& node, const Who& who, uint32_t want) const {
    return may(node, who, want);
  }
  /// What kStat gives; times that the model does not know are `real`'s.
  [[nodiscard]] static Outcome describe(const Node& node, const Outcome& real);

 private:
  struct Slot {
    NodePtr node;
    int access = 0;  // O_RDONLY, O_WRONLY, O_RDWR
    bool append = false;
    [[nodiscard]] bool reads() const { return access != 1; }
    [[nodiscard]] bool writes() const { return access != 0; }
  };
  /// Where a path leads: an error, or a folder and a name in it, with what is there.
  struct Place {
    int error = 0;
    Node* dir = nullptr;
    std::string name;
    NodePtr node;
  };

  static constexpr int kOutside = -1;  // in place of an errno

  [[nodiscard]] bool lies(const char* rule) const { return rules_.lie == rule; }
  [[nodiscard]] static bool in_group(const Who& who, uint32_t gid) { return who.gid == gid || who.group == gid; }
  [[nodiscard]] bool may(const Node& node, const Who& who, uint32_t want) const;
  [[nodiscard]] static bool owns(const Node& node, const Who& who) { return who.uid == 0 || who.uid == node.uid; }
  [[nodiscard]] Place resolve(const std::string& path, const Who& who, bool follow) const;
  [[nodiscard]] int walk(Place& place, const std::string& path, const Who& who, bool follow, int& links) const;
  [[nodiscard]] int follow_link(Place& place, const Who& who, bool trailing, int& links) const;
  [[nodiscard]] int may_create(const Place& place, const Who& who) const;
  [[nodiscard]] int may_delete(const Node& dir, const Node& victim, const Who& who, bool as_dir) const;
  [[nodiscard]] int may_link(const Node& node, const Who& who) const;
  [[nodiscard]] NodePtr make(const Place& place, uint32_t mode, const Who& who);
  void attach(Node& dir, const std::string& name, const NodePtr& node);
  void detach(Node& dir, const std::string& name);
  static void touch(Node& node) { node.mtime.reset(); }
  void kill_privileges(Node& node, const Who& who) const;
  void drop_privileges(Node& node) const;

  [[nodiscard]] int may_open_existing(const Op& op, const Place& place) const;
  [[nodiscard]] Outcome open(const Op& op);
  [[nodiscard]] Outcome tmpfile(const Op& op);
  [[nodiscard]] Outcome mknod(const Op& op, uint32_t mode, bool is_dir);
  [[nodiscard]] Outcome symlink(const Op& op);
  [[nodiscard]] Outcome link(const Op& op, const NodePtr& old);
  [[nodiscard]] Outcome unlink(const Op& op);
  [[nodiscard]] Outcome rmdir(const Op& op);
  [[nodiscard]] Outcome rename(const Op& op);
  [[nodiscard]] int rename_checks(const Op& op, const Place& from, const Place& to) const;
  [[nodiscard]] Outcome chmod(const Op& op, Node& node) const;
  [[nodiscard]] Outcome chown(const Op& op, Node& node) const;
  [[nodiscard]] Outcome utimens(const Op& op, Node& node) const;
  [[nodiscard]] Outcome xattr(const Op& op, Node& node) const;
  [[nodiscard]] Outcome on_path(const Op& op, const Outcome& real);
  [[nodiscard]] Outcome on_slot(const Op& op, const Outcome& real);

  void resize(Node& node, int64_t size) const;
  [[nodiscard]] Outcome read(const Op& op, Slot& slot) const;
  [[nodiscard]] Outcome write(const Op& op, Slot& slot) const;
  [[nodiscard]] Outcome fallocate(const Op& op, Slot& slot) const;
  [[nodiscard]] Outcome seek(const Op& op, Slot& slot, const Outcome& real) const;
  [[nodiscard]] Outcome copy_range(const Op& op) const;

  const Rules rules_;
  NodePtr top_;
  std::array<Slot, kSlots> slots_;
};

}  // namespace udax::vfs_model

// SPDX-License-Identifier: BSD-3-Clause
//
// The operations that workloads are made of, and the pools that they run on.
//
// An operation takes what it finds: after another one its file may be gone or something else, and then it fails, which
// is a case too. Those that change bytes compare them with what they must be then; the rest is left to the explorer, which
// reads the trees before and after.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/filesystem.h"
#include "tests/crash/engine/crash_medium.h"
#include "tests/crash/engine/oracle.h"

namespace udax::crash {

inline constexpr fs::Caller kRoot{0, 0, 1, 022};
inline constexpr fs::Caller kUser{1000, 1000, 2, 022};

/// What the outcome of an operation has that did something else than it should.
inline constexpr std::string_view kWrong = "WRONG BYTES";

/// A mounted filesystem as an operation sees it: paths, and what stays open until the workload ends.
class Shell {
 public:
  Shell(fs::Filesystem& fs, CrashMedium& medium) : fs_(fs), medium_(medium) {}

  [[nodiscard]] fs::Filesystem& fs() { return fs_; }
  /// The inode at a path such as "/d/inner"; kNoIno.
  [[nodiscard]] Ino find(std::string_view path);
  /// The directory of a path, and its last name.
  struct Place {
    Ino dir;
    std::string name;
  };
  [[nodiscard]] Place place(std::string_view path);

  // Each notes what it gave, for the story.
  void make(std::string_view path, uint32_t mode);
  void symlink(std::string_view path, size_t length);
  void link(std::string_view from, std::string_view to);
  void unlink(std::string_view path);
  void rmdir(std::string_view path);
  void rename(std::string_view from, std::string_view to, uint32_t flags = 0);
  void write(std::string_view path, uint64_t offset, size_t size, char pattern);
  void append(std::string_view path, size_t size, char pattern);
  void resize(std::string_view path, uint64_t size);
  void setattr(std::string_view path, const fs::SetAttr& changes);
  void fallocate(std::string_view path, uint32_t mode, uint64_t offset, uint64_t length);
  void setxattr(std::string_view path, const std::string& name, size_t size, uint32_t flags = 0);
  void removexattr(std::string_view path, const std::string& name);
  void set_flags(std::string_view path, uint32_t flags, uint32_t mask);
  void copy_range(std::string_view from, uint64_t from_offset, std::string_view to, uint64_t to_offset,
                  uint64_t length);
  void tmpfile(std::string_view link_to);  // "": stays nameless
  void open_truncated(std::string_view path);
  void fsync(std::string_view path);
  void keep_open(std::string_view path);
  void close_all();
  /// Stores through a shared mapping: durable after fsync, some of it perhaps before.
  void mapped_store(std::string_view path, uint64_t offset, size_t size, char pattern);

  [[nodiscard]] CrashMedium& medium() { return medium_; }
  void note(const Status& status);
  [[nodiscard]] std::string take_outcome() { return std::exchange(outcome_, {}); }

 private:
  [[nodiscard]] fs::OpenFilePtr open(std::string_view path);
  /// The bytes of a file of moderate size.
  [[nodiscard]] std::optional<std::string> content(Ino ino);
  /// Notes kWrong if a file does not hold what it must after a successful operation.
  void expect(Ino ino, const std::optional<std::string>& expected);
  fs::Filesystem& fs_;
  CrashMedium& medium_;
  std::vector<fs::OpenFilePtr> handles_;
  std::string outcome_;
};

/// The pools that operations are run on.
enum class World : uint8_t {
  kPlain,      // files, links, directories, symlinks, a leaf of names and a root of extents that are full
  kFull,       // hardly a free block
  kRecycle,    // few free blocks, freed ones among them that were metadata
  kRing,       // the journal's ring about to wrap for the second time since the mount
  kBrim,       // in test builds: the ring full, with a tail that moves only when there is no room
  kFragments,  // a file of so many extents that, in test builds, it goes in several transactions
  kWhole,      // as kPlain, mounted with data=atomic
};
inline constexpr size_t kWorlds = 7;
/// How a world is mounted.
[[nodiscard]] fs::MountOptions mount_options_of(World world);
[[nodiscard]] const char* to_string(World world);

struct Operation {
  std::string name;
  Rule rule = Rule::kAtomic;
  std::function<void(Shell&)> run;
};

/// Those that pairs are made of; all of them on kPlain.
[[nodiscard]] const std::vector<Operation>& operations();
/// Those for a pool with hardly a free block.
[[nodiscard]] const std::vector<Operation>& full_operations();
/// Stores through mappings, and a file of many extents: not in pairs with others.
[[nodiscard]] const std::vector<Operation>& special_operations();
/// Any of them.
[[nodiscard]] const Operation* find_operation(std::string_view name);

/// Fills a fresh filesystem with what `world` has.
void prepare(World world, Shell& shell);
/// What is done there after each mount, before anything is recorded.
void warm_up(World world, Shell& shell);
/// Knobs of test builds that a world needs: limits that a small pool does not come to.
[[nodiscard]] const char* limit_of(World world);

/// `size` bytes that tell where they belong.
[[nodiscard]] std::string pattern_bytes(char pattern, size_t size);

}  // namespace udax::crash

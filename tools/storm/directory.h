// SPDX-License-Identifier: BSD-3-Clause
//
// A directory of any filesystem, and what that filesystem can do. One object a process; not thread-safe.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tools/storm/namespace.h"
#include "tools/storm/op.h"

namespace udax::storm {

class Directory : public Namespace {
 public:
  explicit Directory(std::string top);
  ~Directory() override;

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

 private:
  [[nodiscard]] std::string full(const std::string& path) const { return path.empty() ? top_ : top_ + '/' + path; }
  int next_entries(std::span<std::byte> buffer, std::vector<Entry>& out);

  const std::string top_;
  std::array<int, kSlots> slots_;
  int scan_ = -1;
  int dots_ = 0;  // "." and ".." that a listing gave
};

/// What a filesystem can do, as tried on it.
struct Traits {
  std::string error;  // it could not be tried
  struct LeftOut {
    Kind kind;
    std::string reason;
  };
  std::vector<LeftOut> left_out;
  bool devices = false;  // this user may make them
  bool dax = false;      // there is a DAX flag
  bool dax_inherits = false;
  bool counts_subdirs = false;  // a directory's link count is 2 and its subdirectories
  int64_t time_unit_ns = 1;
};
/// Makes and removes `path`.
[[nodiscard]] Traits probe(const std::string& path);

}  // namespace udax::storm

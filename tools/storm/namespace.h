// SPDX-License-Identifier: BSD-3-Clause
//
// What the operations are done to: a directory (directory.h), and the model of it (model.h). Both answer alike, so that an
// operation is done to both and the answers are compared.
//
// Paths are relative to the top ("" is the top itself), and no component but the last may be a symbolic link. All calls
// give 0 or -errno unless they say otherwise. A slot holds one open file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace udax::storm {

inline constexpr uint8_t kSlots = 4;

struct Attributes {
  uint32_t mode = 0;  // with the type, as in st_mode
  uint64_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;  // of regular files and symbolic links
  uint64_t rdev = 0;
  uint64_t ino = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  // The model's: it does not know the time.
  uint64_t mtime_version = 0;  // another one each time that the mtime is set
  bool mtime_known = false;    // mtime_ns is what it must be
};

struct Entry {
  std::string name;
  uint64_t ino = 0;
  uint8_t type = 0;  // DT_...; DT_UNKNOWN is allowed
};

using Xattrs = std::map<std::string, std::string>;

class Namespace {
 public:
  Namespace() = default;
  virtual ~Namespace() = default;
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;

  virtual int create(const std::string& path, uint32_t mode) = 0;  // O_CREAT | O_EXCL
  virtual int mkdir(const std::string& path, uint32_t mode) = 0;
  virtual int mknod(const std::string& path, uint32_t mode, uint64_t rdev) = 0;
  virtual int symlink(const std::string& target, const std::string& path) = 0;
  virtual int link(const std::string& from, const std::string& to) = 0;
  virtual int unlink(const std::string& path) = 0;
  virtual int rmdir(const std::string& path) = 0;
  virtual int rename(const std::string& from, const std::string& to, unsigned flags) = 0;

  virtual int write(const std::string& path, uint64_t offset, std::span<const std::byte> data) = 0;
  virtual int truncate(const std::string& path, uint64_t size) = 0;
  virtual int chmod(const std::string& path, uint32_t mode) = 0;
  virtual int chown(const std::string& path, uint32_t uid, uint32_t gid) = 0;
  virtual int utimens(const std::string& path, int64_t mtime_ns) = 0;
  virtual int setxattr(const std::string& path, const std::string& name, const std::string& value, int flags) = 0;
  virtual int removexattr(const std::string& path, const std::string& name) = 0;
  virtual int set_dax(const std::string& path, bool dax) = 0;
  virtual int fsync(const std::string& path) = 0;

  virtual int slot_open(uint8_t slot, const std::string& path) = 0;
  virtual int slot_tmpfile(uint8_t slot, const std::string& directory, uint32_t mode) = 0;
  virtual int slot_write(uint8_t slot, uint64_t offset, std::span<const std::byte> data) = 0;
  virtual int slot_link(uint8_t slot, const std::string& path) = 0;
  virtual int slot_close(uint8_t slot) = 0;
  virtual int slot_stat(uint8_t slot, Attributes& out) = 0;
  virtual int slot_read(uint8_t slot, std::vector<std::byte>& out) = 0;

  virtual int stat(const std::string& path, Attributes& out) = 0;  // of a symbolic link itself
  virtual int read(const std::string& path, std::vector<std::byte>& out) = 0;
  virtual int readlink(const std::string& path, std::string& out) = 0;
  virtual int xattrs(const std::string& path, Xattrs& out) = 0;  // those of "user.", but for the filesystem's own
  virtual int get_dax(const std::string& path) = 0;              // 0 or 1
  /// Without "." and "..", which must be there.
  virtual int list(const std::string& path, std::vector<Entry>& out) = 0;
  /// In pieces, while the directory changes. One scan at a time. An empty piece is the end.
  virtual int scan_begin(const std::string& path) = 0;
  virtual int scan_next(std::vector<Entry>& out) = 0;
  virtual void scan_end() = 0;
};

}  // namespace udax::storm

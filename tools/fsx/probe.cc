// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/probe.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tools/fsx/file_target.h"

namespace udax::fsx {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kLength = 16 * kBlock;

// An answer that says "never", not "not now".
bool is_refusal(int64_t result) {
  switch (result) {
    case -EOPNOTSUPP:
    case -ENOSYS:
    case -EINVAL:
    case -ENODEV:
    case -ENOTTY:
    case -EBADF:  // O_DIRECT could not be opened
    case -EXDEV:
    case -EPERM:
    case -EACCES: return true;
    default: return false;
  }
}

int64_t try_allocation(FileTarget& file, Kind kind) {
  switch (kind) {
    case Kind::kPunch: return file.fallocate(0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kBlock, kBlock);
    case Kind::kZero: return file.fallocate(0, FALLOC_FL_ZERO_RANGE, kBlock, kBlock);
    case Kind::kZeroKeep: return file.fallocate(0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, kBlock, kBlock);
    case Kind::kAllocate: return file.fallocate(0, 0, kLength, kBlock);
    case Kind::kAllocateKeep: return file.fallocate(0, FALLOC_FL_KEEP_SIZE, kLength, kBlock);
    case Kind::kCollapse: return file.fallocate(0, FALLOC_FL_COLLAPSE_RANGE, kBlock, kBlock);
    default: return file.fallocate(0, FALLOC_FL_INSERT_RANGE, kBlock, kBlock);
  }
}

int64_t try_kind(FileTarget& file, Kind kind) {
  std::vector<std::byte> block(kBlock, std::byte{1});
  switch (kind) {
    case Kind::kDirectRead: return file.read(kDirectFd, 0, block);
    case Kind::kDirectWrite: return file.write(kDirectFd, 0, block);
    case Kind::kMapRead:
    case Kind::kMapWrite:
    case Kind::kHold:
    case Kind::kHoldRead:
    case Kind::kHoldWrite:
    case Kind::kHoldPastEnd:
    case Kind::kHoldPollute:
    case Kind::kMsync: return file.map_load(0, 0, block);
    case Kind::kMapPrivate: return file.map_private(0, 0, block, std::vector<std::byte>(kBlock), block);
    case Kind::kPunch:
    case Kind::kZero:
    case Kind::kZeroKeep:
    case Kind::kAllocate:
    case Kind::kAllocateKeep:
    case Kind::kCollapse:
    case Kind::kInsert: return try_allocation(file, kind);
    case Kind::kAllPunch: return try_allocation(file, Kind::kPunch);
    case Kind::kAllZero: return try_allocation(file, Kind::kZeroKeep);
    case Kind::kCopy: return file.copy(false, 0, 0, false, 8 * kBlock, kBlock);
    case Kind::kCopyOut: return file.copy(false, 0, 0, true, 0, kBlock);
    case Kind::kCopyIn: return file.copy(true, 0, 0, false, 0, kBlock);
    case Kind::kSeek: return file.seek(0, 0, SEEK_HOLE);
    case Kind::kDrop: return file.drop(0);
    default: return 0;
  }
}

void probe_dax(const std::string& path, Probed& out) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  int64_t done = fd < 0 ? -errno : set_dax_flag(fd, true);
  if (done == 0 && get_dax_flag(fd) != 1) done = -EOPNOTSUPP;  // ignored without a word
  if (done == 0) out.dax_states.on = dax_state(fd);
  if (done == 0) done = set_dax_flag(fd, false);
  if (done == 0) out.dax_states.off = dax_state(fd);
  if (done < 0) out.left_out.push_back({Kind::kFlip, std::strerror(static_cast<int>(-done))});
  if (fd >= 0) ::close(fd);
  // By mount option they may be the same; but never the wrong way round.
  const auto& [on, off] = out.dax_states;
  if (on != off && (on != "dax" || off != "cached")) {
    out.error = "user.udax.state is \"" + on.value_or("") + "\" with the DAX flag and \"" + off.value_or("") +
                "\" without it";
  }
}

}  // namespace

Probed probe(const std::string& path, bool dax_wanted) {
  Probed out;
  const int made = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (made < 0) {
    out.error = path + ": " + std::strerror(errno);
    return out;
  }
  ::close(made);
  const std::string second = path + ".second";
  {
    FileOptions options;
    options.max_size = 2 * kLength;
    options.second_path = second;
    FileTarget file(path, options);
    const std::vector<std::byte> data(kLength, std::byte{1});
    const int64_t wrote = file.error() != 0 ? -file.error() : file.write(0, 0, data);
    if (wrote < 0) out.error = path + ": " + std::strerror(static_cast<int>(-wrote));
    for (size_t i = 0; i < kKinds && out.error.empty(); ++i) {
      const auto kind = static_cast<Kind>(i);
      const int64_t result = try_kind(file, kind);
      if (is_refusal(result)) out.left_out.push_back({kind, std::strerror(static_cast<int>(-result))});
    }
  }
  if (dax_wanted && out.error.empty()) probe_dax(path, out);
  ::unlink(path.c_str());
  ::unlink(second.c_str());
  return out;
}

}  // namespace udax::fsx

// SPDX-License-Identifier: BSD-3-Clause
//
// Reading directories.
//
// READDIRPLUS: names are gathered, and their inodes counted as looked up, while the directory is locked; attributes
// afterwards. An entry that could not be counted, and "." and "..", are told without attributes, which the kernel
// understands as "not looked up".
#include <algorithm>
#include <cstring>

#include "fuse/call.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

constexpr size_t aligned(size_t n) { return (n + 7) & ~size_t{7}; }

// Packs entries into a reply; `lead` bytes are left before each for its attributes.
class DirPacker {
 public:
  DirPacker(std::span<std::byte> room, size_t lead) : room_(room), lead_(lead) {}

  /// Where the entry now begins; null if it does not fit.
  std::byte* add(const fs::DirEntry& entry) {
    const size_t size = aligned(lead_ + FUSE_NAME_OFFSET + entry.name.size());
    if (size > room_.size() - used_) {
      full_ = true;
      return nullptr;
    }
    std::byte* at = room_.data() + used_;
    std::memset(at, 0, size);
    const fuse_dirent head{entry.ino.value, entry.cookie, static_cast<uint32_t>(entry.name.size()), entry.type};
    std::memcpy(at + lead_, &head, FUSE_NAME_OFFSET);
    std::memcpy(at + lead_ + FUSE_NAME_OFFSET, entry.name.data(), entry.name.size());
    used_ += size;
    return at;
  }

  /// Calls `f(place of the attributes, inode number)` for each entry.
  template <typename F>
  void for_each(const F& f) {
    for (size_t at = 0; at < used_;) {
      std::byte* entry = room_.data() + at;
      fuse_dirent head;
      std::memcpy(&head, entry + lead_, FUSE_NAME_OFFSET);
      f(entry, Ino(head.ino));
      at += aligned(lead_ + FUSE_NAME_OFFSET + head.namelen);
    }
  }

  [[nodiscard]] std::span<const std::byte> packed() const { return room_.first(used_); }
  [[nodiscard]] bool full() const { return full_; }

 private:
  std::span<std::byte> room_;
  const size_t lead_;
  size_t used_ = 0;
  bool full_ = false;
};

// The node id of an entry of READDIRPLUS; 0: not looked up.
void write_node(std::byte* place, uint64_t node) {
  std::memcpy(place + offsetof(fuse_entry_out, nodeid), &node, sizeof(node));
}
uint64_t read_node(const std::byte* place) {
  uint64_t node = 0;
  std::memcpy(&node, place + offsetof(fuse_entry_out, nodeid), sizeof(node));
  return node;
}

// What was packed before an error is delivered; the error comes again at the next call.
Status outcome(const Status& status, const DirPacker& packer) {
  if (!packer.packed().empty()) return {};
  if (!status) return status;
  return packer.full() ? Status(Error::kInvalid) : Status();  // not even one entry fits
}

}  // namespace

Status Dispatcher::readdir(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_read_in>());
  UDAX_TRY(const auto directory, handles_.acquire(in.fh, call.ino(), true));
  DirPacker packer(call.scratch().first(std::min<size_t>(in.size, call.scratch().size())), 0);
  const auto add = [&packer](const fs::DirEntry& entry) { return packer.add(entry) != nullptr; };
  const Status read = fs_.readdir(*directory, in.offset, add);
  UDAX_CHECK(outcome(read, packer));
  (void)call.send_bytes(packer.packed());
  return {};
}

Status Dispatcher::readdirplus(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_read_in>());
  UDAX_TRY(const auto directory, handles_.acquire(in.fh, call.ino(), true));
  DirPacker packer(call.scratch().first(std::min<size_t>(in.size, call.scratch().size())), sizeof(fuse_entry_out));
  const auto add = [this, &packer](const fs::DirEntry& entry) {
    std::byte* place = packer.add(entry);
    if (place == nullptr) return false;
    if (entry.name != "." && entry.name != ".." && fs_.remember(entry.ino)) write_node(place, entry.ino.value);
    return true;
  };
  const Status read = fs_.readdir(*directory, in.offset, add);
  UDAX_CHECK(outcome(read, packer));
  packer.for_each([this](std::byte* place, Ino ino) {
    if (read_node(place) == 0) return;
    fuse_entry_out out{};
    if (const auto attr = fs_.getattr(ino)) {
      fill_entry(*attr, out);
    } else {
      fs_.forget(ino, 1);
    }
    std::memcpy(place, &out, sizeof(out));
  });
  if (call.send_bytes(packer.packed()) == Delivery::kDelivered) return {};
  packer.for_each([this](const std::byte* place, Ino ino) {
    if (read_node(place) != 0) fs_.forget(ino, 1);
  });
  return {};
}

Status Dispatcher::fsyncdir(Call& call) {
  // Every change of names was durable when it returned.
  UDAX_TRY(const auto in, call.in.take<fuse_fsync_in>());
  UDAX_TRY(const auto directory, handles_.acquire(in.fh, call.ino(), true));
  (void)directory;
  return {};
}

}  // namespace udax::fuse

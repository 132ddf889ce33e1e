// SPDX-License-Identifier: BSD-3-Clause
//
// Names: lookup and forget, making and removing, links and renames.
#include "fuse/call.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

// The kernel's encoding of a device number in 32 bits.
constexpr uint32_t major_of(uint32_t rdev) { return (rdev >> 8) & 0xFFFU; }
constexpr uint32_t minor_of(uint32_t rdev) { return (rdev & 0xFFU) | ((rdev >> 12) & 0xFFF00U); }

}  // namespace

void Dispatcher::fill_entry(const fs::Attr& attr, fuse_entry_out& out) const {
  out.nodeid = attr.ino.value;
  // The kernel made its root inode before it asked, with generation 0; another one would make the root stale.
  out.generation = attr.ino == kRootIno ? 0 : attr.generation;
  out.entry_valid = options_.entry_timeout_ns / kNsPerSecond;
  out.entry_valid_nsec = static_cast<uint32_t>(options_.entry_timeout_ns % kNsPerSecond);
  out.attr_valid = options_.attr_timeout_ns / kNsPerSecond;
  out.attr_valid_nsec = static_cast<uint32_t>(options_.attr_timeout_ns % kNsPerSecond);
  fill_attr(attr, out.attr);
}

Status Dispatcher::reply_entry(Call& call, const fs::Attr& attr) {
  fuse_entry_out out{};
  fill_entry(attr, out);
  const Delivery delivery = call.send(out);
  if (delivery != Delivery::kDelivered) fs_.forget(attr.ino, 1);
  if (delivery == Delivery::kFailed) return Error::kIo;
  return {};
}

Status Dispatcher::lookup(Call& call) {
  UDAX_TRY(const std::string_view name, call.in.take_name());
  auto attr = fs_.lookup(call.ino(), name);
  if (attr) return reply_entry(call, *attr);
  const bool plain_name = name != "." && name != "..";
  if (attr.error() != Error::kNotFound || options_.negative_timeout_ns == 0 || !plain_name) return attr.error();
  // Node 0 with a validity: the kernel remembers that there is no such name.
  fuse_entry_out out{};
  out.entry_valid = options_.negative_timeout_ns / kNsPerSecond;
  out.entry_valid_nsec = static_cast<uint32_t>(options_.negative_timeout_ns % kNsPerSecond);
  (void)call.send(out);
  return {};
}

Status Dispatcher::forget(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_forget_in>());
  if (in.nlookup != 0) fs_.forget(call.ino(), in.nlookup);
  return {};
}

Status Dispatcher::batch_forget(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_batch_forget_in>());
  for (uint32_t i = 0; i < in.count; ++i) {
    UDAX_TRY(const auto one, call.in.take<fuse_forget_one>());
    if (one.nlookup != 0) fs_.forget(Ino(one.nodeid), one.nlookup);
  }
  return {};
}

Status Dispatcher::readlink(Call& call) {
  UDAX_TRY(const std::string target, fs_.readlink(call.ino()));
  (void)call.send_bytes(std::as_bytes(std::span(target)));
  return {};
}

Status Dispatcher::symlink(Call& call) {
  UDAX_TRY(const std::string_view name, call.in.take_name());
  UDAX_TRY(const std::string_view target, call.in.take_string());
  UDAX_TRY(const fs::Attr attr, fs_.symlink(call.ino(), name, target, call.caller()));
  return reply_entry(call, attr);
}

Status Dispatcher::mknod(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_mknod_in>());
  UDAX_TRY(const std::string_view name, call.in.take_name());
  UDAX_TRY(const fs::Attr attr,
           fs_.make(call.ino(), name, in.mode, major_of(in.rdev), minor_of(in.rdev), call.caller(in.umask)));
  return reply_entry(call, attr);
}

Status Dispatcher::mkdir(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_mkdir_in>());
  UDAX_TRY(const std::string_view name, call.in.take_name());
  const uint32_t mode = (in.mode & 07777U) | 0040000U;
  UDAX_TRY(const fs::Attr attr, fs_.make(call.ino(), name, mode, 0, 0, call.caller(in.umask)));
  return reply_entry(call, attr);
}

Status Dispatcher::unlink(Call& call) {
  UDAX_TRY(const std::string_view name, call.in.take_name());
  return fs_.unlink(call.ino(), name);
}

Status Dispatcher::rmdir(Call& call) {
  UDAX_TRY(const std::string_view name, call.in.take_name());
  return fs_.rmdir(call.ino(), name);
}

Status Dispatcher::rename(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_rename_in>());
  UDAX_TRY(const std::string_view name, call.in.take_name());
  UDAX_TRY(const std::string_view new_name, call.in.take_name());
  return fs_.rename(call.ino(), name, Ino(in.newdir), new_name, 0);
}

Status Dispatcher::rename2(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_rename2_in>());
  UDAX_TRY(const std::string_view name, call.in.take_name());
  UDAX_TRY(const std::string_view new_name, call.in.take_name());
  return fs_.rename(call.ino(), name, Ino(in.newdir), new_name, in.flags);
}

Status Dispatcher::link(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_link_in>());
  UDAX_TRY(const std::string_view name, call.in.take_name());
  UDAX_TRY(const fs::Attr attr, fs_.link(Ino(in.oldnodeid), call.ino(), name));
  return reply_entry(call, attr);
}

}  // namespace udax::fuse

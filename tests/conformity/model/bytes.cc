// SPDX-License-Identifier: BSD-3-Clause
//
// Descriptors and bytes.
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>

#include "tests/conformity/model/model.h"

namespace udax::vfs_model {
namespace {

constexpr int64_t kPage = 4096;

size_t page_of(int64_t offset) { return static_cast<size_t>(offset / kPage); }
size_t pages_for(int64_t size) { return static_cast<size_t>((size + kPage - 1) / kPage); }

void reach(Node& node, size_t pages) {
  if (node.pages.size() < pages) node.pages.resize(pages, Page::kHole);
}

int64_t size_of(const Node& node) { return static_cast<int64_t>(node.bytes.size()); }

/// Bytes are there now, all of whose pages are data.
void put(Node& node, int64_t offset, const std::string& bytes) {
  const int64_t end = offset + static_cast<int64_t>(bytes.size());
  if (size_of(node) < end) node.bytes.resize(static_cast<size_t>(end), '\0');
  node.bytes.replace(static_cast<size_t>(offset), bytes.size(), bytes);
  reach(node, pages_for(end));
  std::fill(node.pages.begin() + static_cast<ptrdiff_t>(page_of(offset)),
            node.pages.begin() + static_cast<ptrdiff_t>(pages_for(end)), Page::kData);
}

}  // namespace

void Model::resize(Node& node, int64_t size) const {
  const bool grows = size > size_of(node);
  node.bytes.resize(static_cast<size_t>(size), grows && lies("bytes") ? '?' : '\0');
  if (!grows) {
    node.pages.resize(std::min(node.pages.size(), pages_for(size)));
  }
  reach(node, pages_for(size));
}

Outcome Model::read(const Op& op, Slot& slot) const {
  if (!slot.reads()) return {EBADF, {}};
  if (slot.node->is_dir()) return {EISDIR, {}};
  slot.node->atime.reset();
  const std::string& bytes = slot.node->bytes;
  if (op.offset >= size_of(*slot.node)) return {};
  return {0, bytes.substr(static_cast<size_t>(op.offset), static_cast<size_t>(op.length))};
}

Outcome Model::write(const Op& op, Slot& slot) const {
  if (!slot.writes()) return {EBADF, {}};
  Node& node = *slot.node;
  put(node, slot.append ? size_of(node) : op.offset, std::string(static_cast<size_t>(op.length), op.byte));
  kill_privileges(node, op.who);
  touch(node);
  return {0, std::to_string(op.length)};
}

Outcome Model::fallocate(const Op& op, Slot& slot) const {
  if (op.length <= 0) return {EINVAL, {}};
  if (!slot.writes()) return {EBADF, {}};
  Node& node = *slot.node;
  const int64_t end = op.offset + op.length;
  const bool zeroes = (op.flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
  const bool punches = (op.flags & FALLOC_FL_PUNCH_HOLE) != 0;
  if ((op.flags & FALLOC_FL_KEEP_SIZE) == 0 && end > size_of(node)) {
    node.bytes.resize(static_cast<size_t>(end), '\0');
  }
  if (zeroes) {
    for (int64_t at = op.offset; at < std::min(end, size_of(node)); ++at)
      node.bytes[static_cast<size_t>(at)] = '\0';
  }
  reach(node, std::max(pages_for(end), pages_for(size_of(node))));
  for (size_t page = page_of(op.offset); page < pages_for(end); ++page) {
    const auto first = static_cast<int64_t>(page) * kPage;
    const bool is_whole = first >= op.offset && (first + kPage <= end || end >= size_of(node));
    Page& state = node.pages.at(page);
    if (punches) {
      if (is_whole) state = first + kPage <= end ? Page::kHole : (state == Page::kHole ? state : Page::kEither);
    } else if (state == Page::kHole || (zeroes && is_whole)) {
      state = Page::kEither;
    }
  }
  if (op.who.uid != 0 || rules_.root_loses_setuid) drop_privileges(node);
  touch(node);
  return {};
}

// Where the book leaves it open, what was given is taken if it can be right.
Outcome Model::seek(const Op& op, Slot& slot, const Outcome& real) const {
  const Node& node = *slot.node;
  const int64_t size = size_of(node);
  if (op.offset >= size) return {ENXIO, {}};
  const Page wanted = op.call == Call::kSeekData ? Page::kData : Page::kHole;
  const auto state = [&](size_t page) { return page < node.pages.size() ? node.pages[page] : Page::kHole; };
  // The first page that must, and the first that may be what is looked for.
  int64_t must = -1;
  std::string allowed;
  for (size_t page = page_of(op.offset); page < pages_for(size) && must < 0; ++page) {
    if (state(page) != wanted && state(page) != Page::kEither) continue;
    const int64_t at = std::max(op.offset, static_cast<int64_t>(page) * kPage);
    if (state(page) == wanted) must = at;
    if (real == Outcome{0, std::to_string(at)}) return real;
  }
  if (must >= 0) return {0, std::to_string(must)};
  return wanted == Page::kHole ? Outcome{0, std::to_string(size)} : Outcome{ENXIO, {}};
}

Outcome Model::copy_range(const Op& op) const {
  const Slot& from = slots_.at(static_cast<size_t>(op.slot));
  const Slot& to = slots_.at(static_cast<size_t>(op.other_slot));
  if (from.node == nullptr || to.node == nullptr) return {EBADF, {}};
  if (from.node->is_dir() || to.node->is_dir()) return {EISDIR, {}};
  if (!from.reads() || !to.writes() || to.append) return {EBADF, {}};
  const int64_t length = std::clamp<int64_t>(size_of(*from.node) - op.offset, 0, op.length);
  if (from.node == to.node && op.other_offset + length > op.offset && op.other_offset < op.offset + length) {
    return {EINVAL, {}};
  }
  if (length == 0) return {0, "0"};
  const std::string bytes = from.node->bytes.substr(static_cast<size_t>(op.offset), static_cast<size_t>(length));
  // Holes may be copied as such.
  bool is_solid = true;
  for (size_t page = page_of(op.offset); page < pages_for(op.offset + length); ++page) {
    if (from.node->pages.at(page) != Page::kData) is_solid = false;
  }
  const std::vector<Page> before = to.node->pages;
  // Only whole pages are copied by us; the rest is read and written by the kernel, which knows who root is.
  const int64_t end = op.other_offset + length;
  const bool is_whole = op.other_offset % kPage == 0 && (end % kPage == 0 || end >= size_of(*to.node));
  put(*to.node, op.other_offset, bytes);
  if (!is_solid) {
    for (size_t page = page_of(op.other_offset); page < pages_for(op.other_offset + length); ++page) {
      if (page >= before.size() || before[page] != Page::kData) to.node->pages.at(page) = Page::kEither;
    }
  }
  if (op.who.uid != 0 || (rules_.root_loses_setuid && is_whole)) drop_privileges(*to.node);
  from.node->atime.reset();
  touch(*to.node);
  return {0, std::to_string(length)};
}

// What works on a descriptor. One that is not open is EBADF; so are seeks on a folder's, by agreement.
Outcome Model::on_slot(const Op& op, const Outcome& real) {
  if (op.call == Call::kCopyRange) return copy_range(op);
  Slot& slot = slots_.at(static_cast<size_t>(op.slot));
  if (slot.node == nullptr) return {EBADF, {}};
  Node& node = *slot.node;
  switch (op.call) {
    case Call::kClose: slot = {}; return {};
    case Call::kRead: return read(op, slot);
    case Call::kWrite: return write(op, slot);
    case Call::kFtruncate:
      if (!slot.writes()) return {EINVAL, {}};
      resize(node, op.offset);
      kill_privileges(node, op.who);
      touch(node);
      return {};
    case Call::kFallocate: return fallocate(op, slot);
    case Call::kSeekData:
    case Call::kSeekHole: return node.is_dir() ? Outcome{EBADF, {}} : seek(op, slot, real);
    case Call::kLinkFd: return link(op, slot.node);
    default: return describe(node, real);
  }
}

}  // namespace udax::vfs_model

// SPDX-License-Identifier: BSD-3-Clause
#include "dir/leaf.h"

#include <algorithm>
#include <cstring>

namespace udax::dir {

BlockCopy::BlockCopy(const std::byte* image) { std::memcpy(bytes.data(), image, bytes.size()); }

bool LeafView::header_holds() const {
  const uint32_t count = header().count;
  const uint32_t heap_start = leaf_header().heap_start;
  return count <= kLeafSlotsMax && heap_start <= kBlockSize && heap_start % 8 == 0 && heap_start >= slots_end() &&
         leaf_header().heap_free <= kBlockSize - heap_start;
}

bool LeafView::slot_holds(const format::DirSlot& slot) const {
  const uint32_t offset = slot.offset;
  const uint32_t length = slot.length;
  if (offset % 8 != 0 || offset < leaf_header().heap_start || length < record_bytes(1) || length > kBlockSize ||
      offset > kBlockSize - length) {
    return false;
  }
  const format::DirName& stored = record(slot);
  return stored.name_length > 0 && record_bytes(stored.name_length) == length && stored.ino != 0 &&
         is_valid_name(name(slot));
}

bool LeafView::holds(HashRange range) const {
  if (!header_holds()) return false;
  uint32_t named = 0;
  for (uint32_t i = 0; i < count(); ++i) {
    const format::DirSlot s = slot(i);
    if (s.hash < format::kDirHashMin || !range.holds(s.hash) || !slot_holds(s)) return false;
    named += s.length;
  }
  return named + leaf_header().heap_free == kBlockSize - leaf_header().heap_start;
}

int LeafView::find(uint64_t hash, std::string_view name, format::DirSlot* found) const {
  const format::DirSlot* const all = slots();
  const uint32_t n = count();
  for (uint32_t i = 0; i < n; ++i) {
    if (all[i].hash != hash) continue;
    const format::DirSlot s = all[i];
    if (!slot_holds(s)) return kBroken;
    if (this->name(s) != name) continue;
    if (found != nullptr) *found = s;
    return static_cast<int>(i);
  }
  return kAbsent;
}

std::string_view LeafView::name(const format::DirSlot& slot) const {
  const format::DirName& stored = record(slot);
  return {reinterpret_cast<const char*>(&stored) + format::kDirNameFixed, stored.name_length};
}

Dentry LeafView::dentry(const format::DirSlot& slot) const {
  const format::DirName& stored = record(slot);
  return {Ino(stored.ino), stored.type};
}

void LeafView::sort_into(SortedSlots& sorted, uint64_t from) const {
  sorted.count = 0;
  const uint32_t n = std::min(count(), kLeafSlotsMax);
  for (uint32_t i = 0; i < n; ++i) {
    const uint64_t hash = slots()[i].hash;
    if (hash >= from) sorted.items[sorted.count++] = {hash, i};
  }
  std::sort(sorted.items.begin(), sorted.items.begin() + sorted.count,
            [](const HashedSlot& a, const HashedSlot& b) {
              return a.hash != b.hash ? a.hash < b.hash : a.index < b.index;
            });
}

void LeafEdit::clear() {
  std::memset(image_ + sizeof(format::BlockHeader), 0, kBlockSize - sizeof(format::BlockHeader));
  mutable_header().count = 0;
  mutable_leaf_header().heap_start = static_cast<uint16_t>(kBlockSize);
}

void LeafEdit::append(uint64_t hash, std::string_view name, Dentry dentry) {
  UDAX_ASSERT(!name.empty() && name.size() <= format::kNameMax);
  const auto name_length = static_cast<uint32_t>(name.size());
  UDAX_ASSERT(gap() >= entry_bytes(name_length));
  const uint32_t length = record_bytes(name_length);
  const uint32_t offset = leaf_header().heap_start - length;

  auto& stored = *reinterpret_cast<format::DirName*>(image_ + offset);
  stored.ino = dentry.ino.value;
  stored.type = dentry.type;
  stored.name_length = static_cast<uint8_t>(name_length);
  std::byte* const text = image_ + offset + format::kDirNameFixed;
  std::memcpy(text, name.data(), name_length);
  std::memset(text + name_length, 0, length - format::kDirNameFixed - name_length);

  const uint32_t i = count();
  format::DirSlot added{};
  added.hash = hash;
  added.offset = static_cast<uint16_t>(offset);
  added.length = static_cast<uint16_t>(length);
  mutable_slots()[i] = added;
  mutable_header().count = static_cast<uint16_t>(i + 1);
  mutable_leaf_header().heap_start = static_cast<uint16_t>(offset);
}

void LeafEdit::append_all(const LeafView& other) {
  for (uint32_t i = 0; i < other.count(); ++i) {
    const format::DirSlot s = other.slot(i);
    append(s.hash, other.name(s), other.dentry(s));
  }
}

bool LeafEdit::remove(uint32_t i) {
  if (i >= count() || !slot_holds(slot(i))) return false;
  const format::DirSlot gone = slot(i);
  const uint32_t heap_start = leaf_header().heap_start;
  const uint32_t heap_free = leaf_header().heap_free;
  const uint32_t length = gone.length;
  if (heap_free + length > kBlockSize - heap_start) return false;
  if (gone.offset == heap_start) {
    mutable_leaf_header().heap_start = static_cast<uint16_t>(heap_start + length);
  } else {
    mutable_leaf_header().heap_free = static_cast<uint16_t>(heap_free + length);
  }
  const uint32_t last = count() - 1;
  if (i != last) mutable_slots()[i] = slot(last);
  mutable_header().count = static_cast<uint16_t>(last);
  return true;
}

bool LeafEdit::replace(uint32_t i, Dentry dentry) {
  if (i >= count() || !slot_holds(slot(i))) return false;
  auto& stored = *reinterpret_cast<format::DirName*>(image_ + slot(i).offset);
  stored.ino = dentry.ino.value;
  stored.type = dentry.type;
  return true;
}

void LeafEdit::compact() {
  const BlockCopy old(image_);
  clear();
  append_all(LeafView(old.bytes.data()));
}

}  // namespace udax::dir

// SPDX-License-Identifier: BSD-3-Clause
#include "inode/change.h"

#include "inode/watch.h"

namespace udax::inode {

Change::~Change() {
  tx_.abort();
  while (count_ > 0) edited_[--count_].inode->extent_lock.unlock();
}

Result<format::Inode*> Change::edit(Inode& inode) {
  for (size_t i = 0; i < count_; ++i) {
    if (edited_[i].inode == &inode) return edited_[i].shadow;
  }
  UDAX_ASSERT(count_ < kEditedMax);
  inode.extent_lock.lock();
  edited_[count_++] = Edited{&inode, nullptr, false, {}};
  // Who has come here without a handle (a sync of everything) may find its slot another inode's, or no slot at all.
  if (inode.dead) return Error::kStale;
  UDAX_TRY(format::Inode * shadow, tx_.edit(inode.slot_offset()));
  edited_[count_ - 1].shadow = shadow;
  return shadow;
}

Status Change::free(Inode& inode, const format::Inode& ghost) {
  for (size_t i = 0; i < count_; ++i) {
    if (edited_[i].inode != &inode) continue;
    edited_[i].freed = true;
    edited_[i].ghost = ghost;
    return tx_.free(inode.ino());
  }
  panic(__FILE__, __LINE__, "freeing an inode that the change does not edit");
}

mapping::StateWatchers* Change::watchers_of(const Inode& inode) {
  mapping::AddressSpace* const space = inode.space();
  return space != nullptr && space->watchers.any() ? &space->watchers : nullptr;
}

Status Change::commit() {
  std::array<format::Inode, kEditedMax> images;
  for (size_t i = 0; i < count_; ++i) {
    images[i] = edited_[i].freed ? edited_[i].ghost : *edited_[i].shadow;
    mapping::StateWatchers* const watchers = watchers_of(*edited_[i].inode);
    if (watchers != nullptr && is_narrowed(edited_[i].inode->image(), images[i])) watchers->begin();
  }
  const auto done = tx_.commit();
  for (size_t i = 0; i < count_; ++i) {
    Inode& inode = *edited_[i].inode;
    if (done) inode.publish(images[i]);
    if (done && edited_[i].freed) inode.dead = true;
    if (mapping::StateWatchers* const watchers = watchers_of(inode); watchers != nullptr) {
      watchers->publish(state_of(inode.image()));
    }
  }
  return done ? Status() : Status(done.error());
}

}  // namespace udax::inode

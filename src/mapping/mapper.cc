// SPDX-License-Identifier: BSD-3-Clause
#include "mapping/mapper.h"

#include <algorithm>

namespace udax::mapping {

void MapperRegistry::add(Mapper* mapper) {
  const LockGuard guard(mappers_lock_);
  mappers_.push_back(mapper);
  mapper_count_.store(mappers_.size());
}

void MapperRegistry::remove(Mapper* mapper) {
  const LockGuard guard(mappers_lock_);
  std::erase(mappers_, mapper);
  mapper_count_.store(mappers_.size());
}

void MapperRegistry::add(CopyHolder* holder) {
  const LockGuard guard(holders_lock_);
  holders_.push_back(holder);
  if (holder->returns_late()) late_holder_count_.fetch_add(1);
}

void MapperRegistry::remove(CopyHolder* holder) {
  const LockGuard guard(holders_lock_);
  if (std::erase(holders_, holder) > 0 && holder->returns_late()) late_holder_count_.fetch_sub(1);
}

void MapperRegistry::invalidate(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->invalidate(ino, range);
}

void MapperRegistry::write_protect(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->write_protect(ino, range);
}

void MapperRegistry::collect(Ino ino, ByteRange range, Stored& stored) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->collect(ino, range, stored);
}

void MapperRegistry::hold(Ino ino, ByteRange range, Patience patience) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->hold(ino, range, patience);
}

void MapperRegistry::release(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->release(ino, range);
}

bool MapperRegistry::may_hold(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  return std::any_of(mappers_.begin(), mappers_.end(), [&](Mapper* m) { return m->may_hold(ino, range); });
}

void MapperRegistry::drop_copies(Ino ino, ByteRange range) {
  const SharedLockGuard guard(holders_lock_);
  for (CopyHolder* holder : holders_) holder->drop_copies(ino, range);
}

void MapperRegistry::drop_attributes(Ino ino) {
  const SharedLockGuard guard(holders_lock_);
  for (CopyHolder* holder : holders_) holder->drop_attributes(ino);
}

void MapperRegistry::drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes) {
  const SharedLockGuard guard(holders_lock_);
  for (CopyHolder* holder : holders_) holder->drop_copies_unlike(ino, offset, bytes);
}

}  // namespace udax::mapping

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
}

void MapperRegistry::remove(CopyHolder* holder) {
  const LockGuard guard(holders_lock_);
  std::erase(holders_, holder);
}

void MapperRegistry::invalidate(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->invalidate(ino, range);
}

void MapperRegistry::write_protect(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->write_protect(ino, range);
}

void MapperRegistry::collect(Ino ino, ByteRange range, std::vector<ByteRange>& stored) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->collect(ino, range, stored);
}

void MapperRegistry::hold(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mappers_lock_);
  for (Mapper* mapper : mappers_) mapper->hold(ino, range);
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

void MapperRegistry::drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes) {
  const SharedLockGuard guard(holders_lock_);
  for (CopyHolder* holder : holders_) holder->drop_copies_unlike(ino, offset, bytes);
}

bool MapperRegistry::return_late() {
  const SharedLockGuard guard(holders_lock_);
  return std::any_of(holders_.begin(), holders_.end(),
                     [](const CopyHolder* holder) { return holder->returns_late(); });
}

}  // namespace udax::mapping

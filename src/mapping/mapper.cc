// SPDX-License-Identifier: BSD-3-Clause
#include "mapping/mapper.h"

#include <algorithm>

namespace udax::mapping {

void MapperRegistry::add(Mapper* mapper) {
  const LockGuard guard(mutex_);
  mappers_.push_back(mapper);
}

void MapperRegistry::remove(Mapper* mapper) {
  const LockGuard guard(mutex_);
  std::erase(mappers_, mapper);
}

void MapperRegistry::add(CopyHolder* holder) {
  const LockGuard guard(mutex_);
  holders_.push_back(holder);
}

void MapperRegistry::remove(CopyHolder* holder) {
  const LockGuard guard(mutex_);
  std::erase(holders_, holder);
}

void MapperRegistry::invalidate(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mutex_);
  for (Mapper* mapper : mappers_) mapper->invalidate(ino, range);
}

void MapperRegistry::write_protect(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mutex_);
  for (Mapper* mapper : mappers_) mapper->write_protect(ino, range);
}

void MapperRegistry::drop_copies(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mutex_);
  for (CopyHolder* holder : holders_) holder->drop_copies(ino, range);
}

bool MapperRegistry::has_mappers() {
  const SharedLockGuard guard(mutex_);
  return !mappers_.empty();
}

}  // namespace udax::mapping

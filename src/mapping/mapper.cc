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

void MapperRegistry::invalidate(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mutex_);
  for (Mapper* mapper : mappers_) mapper->invalidate(ino, range);
}

void MapperRegistry::write_protect(Ino ino, ByteRange range) {
  const SharedLockGuard guard(mutex_);
  for (Mapper* mapper : mappers_) mapper->write_protect(ino, range);
}

}  // namespace udax::mapping

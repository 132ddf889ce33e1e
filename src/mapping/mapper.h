// SPDX-License-Identifier: BSD-3-Clause
//
// The mapper seam: all who may hold a view of a file's bytes (the kernel's page cache behind the FUSE mount, a
// direct-mapping client, a guest), and the registry through which the filesystem takes views back.
//
// Blocks are freed, moved or made unwritten only after every mapper has let go of the range.
//
// Locks: a call to a mapper must not be made with a lock held that the mapper's re-entry needs (FUSE's
// invalidation writes dirty pages back through us first). The registry's own lock is held shared during calls.
#pragma once

#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/types.h"

namespace udax::mapping {

/// Bytes [start, end) of a file; end ~0 is "to the end and beyond".
struct ByteRange {
  uint64_t start = 0;
  uint64_t end = ~uint64_t{0};
};

class Mapper {
 public:
  virtual ~Mapper() = default;
  /// Drops every view of the range. On return no thread can load or store through one.
  virtual void invalidate(Ino ino, ByteRange range) = 0;
  /// Makes every view of the range read-only; the next store faults.
  virtual void write_protect(Ino ino, ByteRange range) = 0;
};

/// The mappers of a filesystem.
class MapperRegistry {
 public:
  void add(Mapper* mapper);
  void remove(Mapper* mapper);
  void invalidate(Ino ino, ByteRange range);
  void write_protect(Ino ino, ByteRange range);

 private:
  SharedMutex mutex_;
  std::vector<Mapper*> mappers_ UDAX_GUARDED_BY(mutex_);
};

}  // namespace udax::mapping

// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile superblocks and journal control blocks; of the superblock the replica stays as it was.
#include "tests/fuzz/structure.h"

namespace udax::fuzz {
namespace {

const std::vector<Place>& places() {
  static const std::vector<Place> all = {{0, kBlockSize, 8},
                                         {offset_of(format::kJournalControlBlock), kBlockSize, 0}};
  return all;
}

}  // namespace
}  // namespace udax::fuzz

UDAX_FUZZ_STRUCTURES(udax::fuzz::places)

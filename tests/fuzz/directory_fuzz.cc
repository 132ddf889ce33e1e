// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile nodes and leaves of directories.
#include "tests/fuzz/structure.h"

namespace udax::fuzz {
namespace {

const std::vector<Place>& places() {
  static const std::vector<Place> all = places_of({format::kKindDirLeaf, format::kKindDirNode});
  return all;
}

}  // namespace
}  // namespace udax::fuzz

UDAX_FUZZ_STRUCTURES(udax::fuzz::places)

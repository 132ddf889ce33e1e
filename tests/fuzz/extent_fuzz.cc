// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile nodes and leaves of extent trees.
#include "tests/fuzz/structure.h"

namespace udax::fuzz {
namespace {

const std::vector<Place>& places() {
  static const std::vector<Place> all = places_of({format::kKindExtentNode});
  return all;
}

}  // namespace
}  // namespace udax::fuzz

UDAX_FUZZ_STRUCTURES(udax::fuzz::places)

// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile blocks of extended attributes, of their values, and of orphans.
#include "tests/fuzz/structure.h"

namespace udax::fuzz {
namespace {

const std::vector<Place>& places() {
  static const std::vector<Place> all =
      places_of({format::kKindXattr, format::kKindXattrValue, format::kKindOrphan});
  return all;
}

}  // namespace
}  // namespace udax::fuzz

UDAX_FUZZ_STRUCTURES(udax::fuzz::places)

// SPDX-License-Identifier: BSD-3-Clause
//
// Draws the operations of one process: the same seed, choice and trees give the same ones.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/random.h"
#include "tools/storm/model.h"
#include "tools/storm/op.h"

namespace udax::storm {

inline constexpr uint64_t kSharedDirectories = 4;

struct Choice {
  std::array<uint32_t, kKinds> weights{};
  uint64_t entries_max = 300;      // of the process's own tree; more are taken away again
  uint64_t file_size_max = 16384;  // bytes
  uint64_t xattr_size_max = 200;   // bytes
  uint32_t shared_percent = 20;    // of the operations are in the shared tree
  bool devices = false;
  bool as_root = false;  // modes that shut out others do not shut out this process

  [[nodiscard]] static Choice usual();
};

class Generator {
 public:
  Generator(uint64_t seed, const Choice& choice, std::string shared_prefix);

  /// The next one, for a tree that is as `own` says; `shared`: what this process has in the shared one.
  [[nodiscard]] Op next(Model& own, Model& shared);

 private:
  [[nodiscard]] Kind pick(bool shared);
  [[nodiscard]] std::string existing(Model& tree, bool directory);
  [[nodiscard]] std::string existing_file(Model& tree);
  [[nodiscard]] std::string maybe_new(Model& tree);
  [[nodiscard]] std::string name();
  [[nodiscard]] std::string shared_path(Model& tree, bool ours);
  [[nodiscard]] uint32_t mode(bool directory);
  void details(Op& op, Model& tree);
  void second_path(Op& op, Model& tree);

  Random random_;
  const Choice choice_;
  const std::string prefix_;
};

[[nodiscard]] uint64_t derive_seed(uint64_t seed, uint64_t number);
/// What a scan does to its directory meanwhile: kScanSteps changes. They follow from its tag alone, whatever is there.
inline constexpr uint64_t kScanSteps = 12;
[[nodiscard]] Op scan_step(const Op& scan, uint64_t number);
/// "d0": a directory of the shared tree that stays.
[[nodiscard]] std::string shared_directory(uint64_t number);

}  // namespace udax::storm

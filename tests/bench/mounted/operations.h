// SPDX-License-Identifier: BSD-3-Clause
//
// What the benchmark of mounts measures: operations of one client, each timed by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace udax::bench {

/// One client's operation, repeated. Made in the folder of a subject before the clock runs.
class Operation {
 public:
  virtual ~Operation() = default;
  /// One go. Throws std::system_error.
  virtual void run() = 0;
};

struct OperationKind {
  const char* name;         // "read 4K direct"
  const char* description;  // one line
  uint64_t bytes;           // moved by one go; 0: none
  std::function<std::unique_ptr<Operation>(const std::string& folder, uint32_t client)> make;
};

[[nodiscard]] const std::vector<OperationKind>& operation_kinds();

}  // namespace udax::bench

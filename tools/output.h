// SPDX-License-Identifier: BSD-3-Clause
//
// What the tools print, where a pool's own bytes (names, labels) are in it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace udax::tools {

/// Prints JSON on standard output; what in a string is not UTF-8 is replaced.
void print(const nlohmann::json& json);

/// Text from the pool as a terminal may see it: control bytes as \xNN.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace udax::tools

// SPDX-License-Identifier: BSD-3-Clause
//
// Operation logs: a line that says what it is, one with the setup, and one an operation. Lines that begin with # are
// comments.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/fsx/op.h"
#include "tools/fsx/session.h"

namespace udax::fsx {

struct OpLog {
  Setup setup;
  std::vector<Op> ops;
};

[[nodiscard]] std::string head_text(const Setup& setup);
/// Writes it anew. False, with errno set, if that failed.
[[nodiscard]] bool write_log(const std::string& path, const Setup& setup, std::span<const Op> ops,
                             const std::string& comment);
/// False: `error` says in one line what is wrong with it.
[[nodiscard]] bool read_log(const std::string& path, OpLog& out, std::string& error);

}  // namespace udax::fsx

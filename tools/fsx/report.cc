// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/report.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace udax::fsx {
namespace {

constexpr size_t kLineBytes = 16;
constexpr size_t kLinesMax = 8;
constexpr size_t kTouchesShown = 10;
constexpr size_t kLastShown = 12;

std::string hex_line(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte byte : bytes) {
    std::array<char, 4> text{};
    std::snprintf(text.data(), text.size(), " %02x", static_cast<unsigned>(byte));
    out += text.data();
  }
  return out;
}

void dump(const Failure& failure, std::string& out) {
  const size_t length = std::min(failure.expected.size(), failure.actual.size());
  const auto expected = std::span(failure.expected);
  const auto actual = std::span(failure.actual);
  for (size_t i = 0; i < length && i < kLinesMax * kLineBytes; i += kLineBytes) {
    const size_t n = std::min(kLineBytes, length - i);
    out += "  " + std::to_string(failure.offset + i) + ":\n    expected" + hex_line(expected.subspan(i, n)) +
           "\n    actual  " + hex_line(actual.subspan(i, n)) + '\n';
  }
  if (length <= kLinesMax * kLineBytes) return;
  out += "  (" + std::to_string(length - kLinesMax * kLineBytes) + " bytes more)\n";
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (std::all_of(actual.begin(), actual.end(), is_zero)) out += "  all that was found is zeroes\n";
  if (std::all_of(expected.begin(), expected.end(), is_zero)) out += "  only zeroes were expected\n";
}

void list(const char* title, std::span<const Op> done, std::span<const uint64_t> numbers, std::string& out) {
  out += title;
  out += '\n';
  for (const uint64_t number : numbers) {
    if (number < done.size()) out += "  #" + std::to_string(number) + " " + to_text(done[number]) + '\n';
  }
}

}  // namespace

std::string describe(const Failure& failure, const Session& session, std::span<const Op> done) {
  std::string out = failure.what + '\n';
  dump(failure, out);
  if (!failure.expected.empty()) {
    const auto touched = session.who_touched(failure.offset, failure.expected.size(), kTouchesShown);
    list("the last operations that changed these bytes:", done, touched, out);
  }
  std::vector<uint64_t> last;
  for (size_t i = done.size() - std::min(done.size(), kLastShown); i < done.size(); ++i) last.push_back(i);
  list("the last operations:", done, last, out);
  return out;
}

}  // namespace udax::fsx

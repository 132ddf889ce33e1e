// SPDX-License-Identifier: BSD-3-Clause
#include "media/deep_flush.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <memory>

namespace udax::media {
namespace {

std::string resolved(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> text(::realpath(path.c_str(), nullptr), &std::free);
  return text == nullptr ? std::string() : std::string(text.get());
}

/// The file in the nearest folder above; a device lies a few levels below its region.
std::string find_above(std::string folder) {
  constexpr int kLevelsMax = 8;
  for (int level = 0; level < kLevelsMax && folder.size() > 1; ++level) {
    std::string file = folder + "/deep_flush";
    if (::access(file.c_str(), F_OK) == 0) return file;
    folder.resize(folder.rfind('/'));
  }
  return "";
}

}  // namespace

DeepFlush DeepFlush::find(const std::string& folder) {
  DeepFlush flush;
  flush.state_ = State::kUnknown;
  flush.path_ = find_above(resolved(folder));
  if (flush.path_.empty()) return flush;
  const FileDescriptor reader(::open(flush.path_.c_str(), O_RDONLY | O_CLOEXEC));
  char answer = 0;
  if (!reader.is_open() || ::read(reader.get(), &answer, 1) != 1) return flush;
  if (answer == '0') {
    flush.state_ = State::kNotNeeded;
    return flush;
  }
  flush.fd_ = FileDescriptor(::open(flush.path_.c_str(), O_WRONLY | O_CLOEXEC));
  flush.state_ = flush.fd_.is_open() ? State::kReady : State::kRefused;
  return flush;
}

Status DeepFlush::flush() const {
  if (state_ != State::kReady) return {};
  if (::pwrite(fd_.get(), "1", 1, 0) != 1) return Error::kIo;
  return {};
}

std::string DeepFlush::note() const {
  switch (state_) {
    case State::kRefused:
      return "deep flushes are left out, as " + path_ +
             " may not be written: what is stored survives a power cut if the platform keeps its promise (ADR)";
    case State::kUnknown:
      return "deep flushes are left out, as the device's region in /sys has no deep_flush: what is stored "
             "survives a "
             "power cut if the platform keeps its promise (ADR)";
    case State::kNoDevice:
    case State::kNotNeeded:
    case State::kReady: break;
  }
  return "";
}

}  // namespace udax::media

// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>

#include <algorithm>

#include "tests/crash/engine/operation.h"

namespace udax::crash {

std::string pattern_bytes(char pattern, size_t size) {
  std::string out(size, pattern);
  for (size_t i = 0; i < size; i += 8) out[i] = static_cast<char>(i / 8);  // no two neighbouring units alike
  return out;
}

namespace {

std::span<const std::byte> bytes(const std::string& s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

}  // namespace

void Shell::note(const Status& status) {
  if (!outcome_.empty()) outcome_ += ", ";
  outcome_ += status ? "done" : to_string(status.error());
}

Shell::Place Shell::place(std::string_view path) {
  const size_t slash = path.rfind('/');
  return {slash == 0 ? kRootIno : find(path.substr(0, slash)), std::string(path.substr(slash + 1))};
}

Ino Shell::find(std::string_view path) {
  Ino at = kRootIno;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view name = path.substr(0, path.find('/'));
    if (name.empty()) return at;
    const auto attr = fs_.lookup(at, name);
    if (!attr) return kNoIno;
    at = attr->ino;
    path.remove_prefix(name.size());
  }
  return at;
}

fs::OpenFilePtr Shell::open(std::string_view path) {
  auto file = fs_.open(find(path), O_RDWR, false);
  if (!file) note(file.error());
  return file ? std::move(*file) : nullptr;
}

void Shell::make(std::string_view path, uint32_t mode) {
  const Place p = place(path);
  const auto made = fs_.make(p.dir, p.name, mode, 1, 3, kRoot);
  note(made ? Status() : Status(made.error()));
}

void Shell::symlink(std::string_view path, size_t length) {
  const Place p = place(path);
  const auto made = fs_.symlink(p.dir, p.name, std::string(length, 't'), kRoot);
  note(made ? Status() : Status(made.error()));
}

void Shell::link(std::string_view from, std::string_view to) {
  const Place p = place(to);
  const auto made = fs_.link(find(from), p.dir, p.name);
  note(made ? Status() : Status(made.error()));
}

void Shell::unlink(std::string_view path) {
  const Place p = place(path);
  note(fs_.unlink(p.dir, p.name));
}

void Shell::rmdir(std::string_view path) {
  const Place p = place(path);
  note(fs_.rmdir(p.dir, p.name));
}

void Shell::rename(std::string_view from, std::string_view to, uint32_t flags) {
  const Place a = place(from);
  const Place b = place(to);
  note(fs_.rename(a.dir, a.name, b.dir, b.name, flags));
}

std::optional<std::string> Shell::content(Ino ino) {
  const auto attr = fs_.getattr(ino);
  auto file =
      attr && attr->size <= kContentMax ? fs_.open(ino, O_RDONLY, false) : Result<fs::OpenFilePtr>(Error::kTooBig);
  if (!file) return std::nullopt;
  std::string out;
  const Status done = fs_.read(**file, 0, attr->size, [&out](std::span<const iovec> pieces, uint64_t) -> Status {
    for (const iovec& p : pieces) out.append(static_cast<const char*>(p.iov_base), p.iov_len);
    return {};
  });
  if (!done) return std::nullopt;
  return out;
}

void Shell::expect(Ino ino, const std::optional<std::string>& expected) {
  if (!expected) return;
  const auto found = content(ino);
  if (found && *found == *expected) return;
  size_t at = 0;
  while (found && at < std::min(found->size(), expected->size()) && (*found)[at] == (*expected)[at]) ++at;
  outcome_ += " " + std::string(kWrong) + " at " + std::to_string(at);
}

namespace {

/// What a file holds after `data` was written at `offset`.
void put(std::optional<std::string>& content, uint64_t offset, std::string_view data) {
  if (!content) return;
  if (content->size() < offset + data.size()) content->resize(offset + data.size());
  content->replace(offset, data.size(), data);
}

}  // namespace

void Shell::write(std::string_view path, uint64_t offset, size_t size, char pattern) {
  const auto file = open(path);
  if (file == nullptr) return;
  auto expected = content(file->ino());
  const std::string data = pattern_bytes(pattern, size);
  const auto done = fs_.write(*file, offset, bytes(data), false, true);
  note(done ? Status() : Status(done.error()));
  if (!done) return;
  put(expected, offset, std::string_view(data).substr(0, *done));
  expect(file->ino(), expected);
}

void Shell::append(std::string_view path, size_t size, char pattern) {
  const auto file = open(path);
  if (file == nullptr) return;
  auto expected = content(file->ino());
  const std::string data = pattern_bytes(pattern, size);
  const auto done = fs_.write(*file, 0, bytes(data), true, true);
  note(done ? Status() : Status(done.error()));
  if (!done || !expected) return;
  put(expected, expected->size(), std::string_view(data).substr(0, *done));
  expect(file->ino(), expected);
}

void Shell::resize(std::string_view path, uint64_t size) {
  const Ino ino = find(path);
  auto expected = content(ino);
  fs::SetAttr s;
  s.size = size;
  s.mtime_now = true;
  const auto done = fs_.setattr(ino, s, kRoot);
  note(done ? Status() : Status(done.error()));
  if (!done || !expected) return;
  expected->resize(size);
  expect(ino, expected);
}

void Shell::setattr(std::string_view path, const fs::SetAttr& changes) {
  const auto done = fs_.setattr(find(path), changes, kRoot);
  note(done ? Status() : Status(done.error()));
}

void Shell::fallocate(std::string_view path, uint32_t mode, uint64_t offset, uint64_t length) {
  const auto file = open(path);
  if (file == nullptr) return;
  auto expected = content(file->ino());
  const Status done = fs_.fallocate(*file, mode, offset, length);
  note(done);
  if (!done || !expected) return;
  if ((mode & fs::kFallocKeepSize) == 0 && expected->size() < offset + length) expected->resize(offset + length);
  if ((mode & (fs::kFallocPunchHole | fs::kFallocZeroRange)) != 0 && offset < expected->size()) {
    const size_t part = std::min<uint64_t>(length, expected->size() - offset);
    expected->replace(offset, part, part, '\0');
  }
  expect(file->ino(), expected);
}

void Shell::setxattr(std::string_view path, const std::string& name, size_t size, uint32_t flags) {
  note(fs_.setxattr(find(path), name, bytes(pattern_bytes('x', size)), flags, false, kRoot));
}

void Shell::removexattr(std::string_view path, const std::string& name) {
  note(fs_.removexattr(find(path), name, kRoot));
}

void Shell::set_flags(std::string_view path, uint32_t flags, uint32_t mask) {
  note(fs_.set_flags(find(path), flags, mask, std::nullopt, kRoot));
}

void Shell::copy_range(std::string_view from, uint64_t from_offset, std::string_view to, uint64_t to_offset,
                       uint64_t length) {
  const auto a = open(from);
  const auto b = open(to);
  if (a == nullptr || b == nullptr) return;
  const auto source = content(a->ino());
  auto expected = content(b->ino());
  const auto done = fs_.copy_range(*a, from_offset, *b, to_offset, length);
  note(done ? Status() : Status(done.error()));
  if (!done || !source) return;
  put(expected, to_offset, std::string_view(*source).substr(std::min<size_t>(from_offset, source->size()), *done));
  expect(b->ino(), expected);
}

void Shell::tmpfile(std::string_view link_to) {
  fs::Attr attr;
  auto file = fs_.tmpfile(kRootIno, 0600, O_RDWR, kRoot, &attr);
  note(file ? Status() : Status(file.error()));
  if (!file) return;
  static_cast<void>(fs_.write(**file, 0, bytes(pattern_bytes('T', 5000)), false, false));
  if (!link_to.empty()) {
    const Place p = place(link_to);
    const auto made = fs_.link(attr.ino, p.dir, p.name);
    note(made ? Status() : Status(made.error()));
  }
  handles_.push_back(std::move(*file));
}

void Shell::open_truncated(std::string_view path) {
  auto file = fs_.open(find(path), O_RDWR | O_TRUNC, true);
  note(file ? Status() : Status(file.error()));
}

void Shell::fsync(std::string_view path) {
  const auto file = open(path);
  if (file != nullptr) note(fs_.fsync(*file, false));
}

void Shell::keep_open(std::string_view path) {
  auto file = open(path);
  if (file != nullptr) handles_.push_back(std::move(file));
}

void Shell::close_all() { handles_.clear(); }

void Shell::mapped_store(std::string_view path, uint64_t offset, size_t size, char pattern) {
  const auto file = open(path);
  if (file == nullptr) return;
  const std::string data = pattern_bytes(pattern, size);
  for (size_t done = 0; done < size;) {
    const uint64_t at = offset + done;
    const size_t part = std::min<size_t>(size - done, kBlockSize - at % kBlockSize);
    const auto install = [&](const dax::View& view) -> Status {
      const uint64_t place = offset_of(view.device) + ((at >> kBlockShift) - view.start.value) * kBlockSize;
      medium_.store(place + at % kBlockSize, data.data() + done, part);
      return {};
    };
    const auto result =
        fs_.dax().fault(file->inode(), FileBlock(at >> kBlockShift), dax::Access::kWrite, 0, install);
    if (!result || *result == dax::FaultResult::kBeyondEnd) {
      note(result ? Status(Error::kInvalid) : Status(result.error()));
      return;
    }
    done += part;
  }
  note({});
}

}  // namespace udax::crash

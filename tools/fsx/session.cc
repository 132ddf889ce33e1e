// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/session.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace udax::fsx {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kChunk = 256 * 1024;
constexpr size_t kTouchesMax = 200'000;
constexpr int kSeekStepsMax = 64;  // of one operation: a file of many holes is looked at in parts

constexpr uint64_t round_down(uint64_t value, uint64_t unit) { return value / unit * unit; }
constexpr uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

Failure wrong(std::string what) {
  Failure failure;
  failure.what = std::move(what);
  return failure;
}

std::string at(uint64_t offset, uint64_t end) {
  return " of " + std::to_string(end - offset) + " bytes at " + std::to_string(offset);
}

}  // namespace

bool is_environment(const Failure& failure) {
  switch (failure.error) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EROFS: return true;
    default: return false;
  }
}

Session::Session(Target& target, const Setup& setup, uint8_t me)
    : target_(target),
      setup_(setup),
      me_(me),
      bytes_(round_up(setup.max_size, kPage)),
      size_(setup.shared_size),
      buffer_(std::max(kChunk, bytes_.size() + kPage)),
      data_(buffer_.size()) {}

std::vector<uint64_t> Session::who_touched(uint64_t offset, uint64_t length, size_t most) const {
  std::vector<uint64_t> out;
  for (auto it = touches_.rbegin(); it != touches_.rend() && out.size() < most; ++it) {
    if (it->begin < offset + length && offset < it->end && (out.empty() || out.back() != it->operation)) {
      out.push_back(it->operation);
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

Session::Verdict Session::run(const Op& op) {
  Verdict verdict = dispatch(op);
  if (!verdict) verdict = check_size(op);
  ++operations_;
  return verdict;
}

Session::Verdict Session::dispatch(const Op& op) {
  switch (op.kind) {
    case Kind::kRead: return read(op);
    case Kind::kWrite: return write(op);
    case Kind::kAppend: return append(op);
    case Kind::kDirectRead: return direct_read(op);
    case Kind::kDirectWrite: return direct_write(op);
    case Kind::kMapRead: return map_read(op, false);
    case Kind::kMapWrite: return map_write(op, false);
    case Kind::kMapPrivate: return map_private(op);
    case Kind::kHold: return no_wrong("mmap of the whole file", target_.hold(op.fd));
    case Kind::kHoldRead: return map_read(op, true);
    case Kind::kHoldWrite: return map_write(op, true);
    case Kind::kHoldPastEnd: return hold_past_end();
    case Kind::kHoldPollute: return hold_pollute(op);
    case Kind::kTruncate:
    case Kind::kTruncatePath: return truncate(op);
    case Kind::kPunch:
    case Kind::kZero:
    case Kind::kZeroKeep:
    case Kind::kAllocate:
    case Kind::kAllocateKeep: return allocate(op);
    case Kind::kCollapse: return collapse(op);
    case Kind::kInsert: return insert(op);
    case Kind::kCopy: return copy(op);
    case Kind::kCopyOut: return copy_out(op);
    case Kind::kCopyIn: return copy_in(op);
    case Kind::kFsync:
    case Kind::kFdatasync:
    case Kind::kMsync: return sync(op);
    case Kind::kDrop:
      if (Verdict verdict = no_wrong("fdatasync", target_.sync(op.fd, true))) return verdict;
      return no_wrong("posix_fadvise", target_.drop(op.fd));
    case Kind::kReopen: return no_wrong("open", target_.reopen(op.fd));
    case Kind::kRename: return no_wrong("rename", target_.rename());
    case Kind::kSeek: return seek(op);
    case Kind::kFlip: return flip(op);
    case Kind::kCheck: return check(op);
    case Kind::kAllTruncate:
    case Kind::kAllPunch:
    case Kind::kAllZero: return all(op);
    case Kind::kAllStop: return std::nullopt;
  }
  return std::nullopt;
}

// Ownership.

bool Session::owns(uint64_t offset) const {
  if (setup_.processes == 1) return true;
  if (offset >= setup_.shared_size) return me_ == 0;
  return offset / setup_.unit % setup_.processes == me_;
}

uint64_t Session::own_end(uint64_t offset, uint64_t end) const {
  if (offset >= end || !owns(offset)) return offset;
  if (setup_.processes == 1 || offset >= setup_.shared_size) return end;
  return std::min({end, (offset / setup_.unit + 1) * setup_.unit, setup_.shared_size});
}

// How far mappings may be looked at: to the end of the last page, where zeroes follow the file's end.
uint64_t Session::mapped_end(const Op& op) const {
  const uint64_t end = op.offset + op.length;
  if (!knows_size()) return std::min(end, setup_.shared_size);
  return std::min(end, setup_.past_end ? size_ : round_up(size_, kPage));
}

// The copy in memory.

std::span<std::byte> Session::buffer(uint64_t length) { return std::span(buffer_).first(length); }

void Session::touch(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  if (touches_.size() >= kTouchesMax) {
    touches_.erase(touches_.begin(), touches_.begin() + static_cast<std::ptrdiff_t>(touches_.size() / 2));
  }
  touches_.push_back({operations_, begin, end});
}

void Session::put(uint64_t offset, std::span<const std::byte> data) {
  std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  size_ = std::max(size_, offset + data.size());
  touch(offset, offset + data.size());
}

void Session::clear(uint64_t begin, uint64_t end) {
  end = std::min(end, size_);
  if (begin >= end) return;
  std::fill(bytes_.begin() + static_cast<std::ptrdiff_t>(begin), bytes_.begin() + static_cast<std::ptrdiff_t>(end),
            std::byte{0});
  touch(begin, end);
}

void Session::resize(uint64_t size) {
  const uint64_t old = size_;
  clear(size, old);
  size_ = size;
  touch(std::min(old, size), std::max(old, size));
}

// Comparing.

Session::Verdict Session::no_wrong(const std::string& what, int64_t result) {
  if (result >= 0) return std::nullopt;
  Failure failure;
  failure.error = static_cast<int>(-result);
  failure.what = what + ": " + (failure.error == EFAULT ? "SIGBUS" : std::strerror(failure.error));
  return failure;
}

Session::Verdict Session::compare(const std::string& by, uint64_t offset, std::span<const std::byte> actual) {
  uint64_t first = UINT64_MAX;
  uint64_t last = 0;
  uint64_t count = 0;
  for (uint64_t i = 0; i < actual.size();) {
    const uint64_t end = own_end(offset + i, offset + actual.size());
    if (end == offset + i) {  // another's, up to the end of its unit
      i = round_down(offset + i, setup_.unit) + setup_.unit - offset;
      continue;
    }
    const uint64_t length = end - offset - i;
    if (std::memcmp(&actual[i], &bytes_[offset + i], length) != 0) {
      for (uint64_t k = i; k < i + length; ++k) {
        if (actual[k] == bytes_[offset + k]) continue;
        first = std::min(first, k);
        last = k;
        ++count;
      }
    }
    i += length;
  }
  if (count == 0) return std::nullopt;
  Failure failure;
  failure.what = by + at(offset, offset + actual.size()) + ": " + std::to_string(count) + " wrong bytes from " +
                 std::to_string(offset + first) + " to " + std::to_string(offset + last);
  failure.offset = offset + first;
  failure.actual.assign(actual.begin() + static_cast<std::ptrdiff_t>(first),
                        actual.begin() + static_cast<std::ptrdiff_t>(last + 1));
  const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(offset);
  failure.expected.assign(begin + static_cast<std::ptrdiff_t>(first),
                          begin + static_cast<std::ptrdiff_t>(last + 1));
  return failure;
}

Session::Verdict Session::check_size(const Op& op) {
  const int64_t found = target_.size(op.fd);
  if (Verdict verdict = no_wrong("statx", found)) return verdict;
  const auto size = static_cast<uint64_t>(found);
  if (knows_size() ? size == size_ : size >= setup_.shared_size) return std::nullopt;
  Failure failure = wrong("after " + std::string(info(op.kind).name) + " the file's size is " +
                          std::to_string(size) + " instead of " + std::to_string(size_));
  failure.offset = std::min(size, size_);
  return failure;
}

// Reading and writing.

Session::Verdict Session::read(const Op& op) {
  const uint64_t end = std::min(op.offset + op.length, knows_size() ? setup_.max_size : setup_.shared_size);
  if (op.offset >= end) return std::nullopt;
  const int64_t got = target_.read(op.fd, op.offset, buffer(end - op.offset));
  if (Verdict verdict = no_wrong("read" + at(op.offset, end), got)) return verdict;
  const uint64_t wanted = std::min(end, std::max(size_, op.offset)) - op.offset;
  if (static_cast<uint64_t>(got) != wanted) {
    return wrong("read" + at(op.offset, end) + " gave " + std::to_string(got) + " of " + std::to_string(wanted));
  }
  return compare("read", op.offset, buffer(wanted));
}

Session::Verdict Session::write(const Op& op) {
  const uint64_t end = own_end(op.offset, std::min(op.offset + op.length, setup_.max_size));
  if (op.offset >= end) return std::nullopt;
  const auto data = std::span(data_).first(end - op.offset);
  fill_pattern(op.tag, op.offset, data);
  const int64_t wrote = target_.write(op.fd, op.offset, data);
  if (Verdict verdict = no_wrong("write" + at(op.offset, end), wrote)) return verdict;
  if (static_cast<uint64_t>(wrote) != data.size()) {
    return wrong("write" + at(op.offset, end) + " wrote " + std::to_string(wrote));
  }
  put(op.offset, data);
  return std::nullopt;
}

Session::Verdict Session::append(const Op& op) {
  if (!knows_size()) return std::nullopt;
  const uint64_t end = std::min(size_ + op.length, setup_.max_size);
  if (size_ >= end) return std::nullopt;
  const uint64_t begin = size_;
  const auto data = std::span(data_).first(end - begin);
  fill_pattern(op.tag, begin, data);
  const int64_t wrote = target_.write(kAppendFd, begin, data);
  if (Verdict verdict = no_wrong("append" + at(begin, end), wrote)) return verdict;
  if (static_cast<uint64_t>(wrote) != data.size()) {
    return wrong("append" + at(begin, end) + " wrote " + std::to_string(wrote));
  }
  put(begin, data);
  return std::nullopt;
}

Session::Verdict Session::direct_read(const Op& op) {
  const uint64_t align = setup_.direct_align;
  const uint64_t begin = round_down(op.offset, align);
  const uint64_t limit = round_down(knows_size() ? setup_.max_size : setup_.shared_size, align);
  const uint64_t end = std::min(round_up(op.offset + op.length, align), limit);
  if (begin >= end) return std::nullopt;
  const int64_t got = target_.read(kDirectFd, begin, buffer(end - begin));
  if (Verdict verdict = no_wrong("O_DIRECT read" + at(begin, end), got)) return verdict;
  const uint64_t wanted = std::min(end, std::max(size_, begin)) - begin;
  if (static_cast<uint64_t>(got) != wanted) {
    return wrong("O_DIRECT read" + at(begin, end) + " gave " + std::to_string(got) + " of " +
                 std::to_string(wanted));
  }
  return compare("O_DIRECT read", begin, buffer(wanted));
}

Session::Verdict Session::direct_write(const Op& op) {
  const uint64_t align = setup_.direct_align;
  const uint64_t begin = round_down(op.offset, align);
  const uint64_t end = std::min(round_up(op.offset + op.length, align), round_down(setup_.max_size, align));
  if (begin >= end || own_end(begin, end) != end) return std::nullopt;
  const auto data = std::span(data_).first(end - begin);
  fill_pattern(op.tag, begin, data);
  const int64_t wrote = target_.write(kDirectFd, begin, data);
  if (Verdict verdict = no_wrong("O_DIRECT write" + at(begin, end), wrote)) return verdict;
  if (static_cast<uint64_t>(wrote) != data.size()) {
    return wrong("O_DIRECT write" + at(begin, end) + " wrote " + std::to_string(wrote));
  }
  put(begin, data);
  return std::nullopt;
}

// Mappings.

Session::Verdict Session::map_read(const Op& op, bool held) {
  const uint64_t end = mapped_end(op);
  if (op.offset >= end) return std::nullopt;
  const auto out = buffer(end - op.offset);
  const std::string name = held ? "load through the held mapping" : "mapped load";
  const int64_t got = held ? target_.hold_load(op.offset, out) : target_.map_load(op.fd, op.offset, out);
  if (Verdict verdict = no_wrong(name + at(op.offset, end), got)) return verdict;
  return compare(name, op.offset, out);
}

Session::Verdict Session::map_write(const Op& op, bool held) {
  const uint64_t end = own_end(op.offset, std::min(op.offset + op.length, size_));
  if (op.offset >= end) return std::nullopt;
  const auto data = std::span(data_).first(end - op.offset);
  fill_pattern(op.tag, op.offset, data);
  const int64_t done = held ? target_.hold_store(op.offset, data) : target_.map_store(op.fd, op.offset, data);
  const std::string name = held ? "store through the held mapping" : "mapped store";
  if (Verdict verdict = no_wrong(name + at(op.offset, end), done)) return verdict;
  put(op.offset, data);
  return std::nullopt;
}

Session::Verdict Session::map_private(const Op& op) {
  const uint64_t end = mapped_end(op);
  if (op.offset >= end) return std::nullopt;
  const uint64_t length = end - op.offset;
  const auto before = buffer(length);
  const auto data = std::span(data_).first(length);
  std::vector<std::byte> after(length);
  fill_pattern(op.tag, op.offset, data);
  const int64_t done = target_.map_private(op.fd, op.offset, before, data, after);
  if (Verdict verdict = no_wrong("private mapping" + at(op.offset, end), done)) return verdict;
  if (Verdict verdict = compare("load through a private mapping", op.offset, before)) return verdict;
  if (!std::equal(data.begin(), data.end(), after.begin())) {
    return wrong("a private mapping" + at(op.offset, end) + " does not have what was stored into it");
  }
  return read(op);  // the file has not changed
}

Session::Verdict Session::hold_past_end() {
  if (!knows_size()) return std::nullopt;
  std::byte byte{};
  const int64_t got = target_.hold_load(round_up(size_, kPage), std::span(&byte, 1));
  if (got == -EFAULT) return std::nullopt;
  if (got >= 0) return wrong("a load from the first page past the file's end gave a byte instead of SIGBUS");
  return no_wrong("load past the end", got);
}

Session::Verdict Session::hold_pollute(const Op& op) {
  const uint64_t end = std::min(size_ + op.length, round_up(size_, kPage));
  if (!knows_size() || size_ >= end) return std::nullopt;
  const auto data = std::span(data_).first(end - size_);
  fill_pattern(op.tag, size_, data);
  return no_wrong("store past the end" + at(size_, end), target_.hold_store(size_, data));
}

// Sizes, holes and allocation.

Session::Verdict Session::truncate(const Op& op) {
  if (!knows_size()) return std::nullopt;
  const uint64_t size = std::max(std::min(op.offset, setup_.max_size), setup_.shared_size);
  const bool by_path = op.kind == Kind::kTruncatePath;
  const int64_t done = by_path ? target_.truncate_path(size) : target_.truncate(op.fd, size);
  if (Verdict verdict = no_wrong("truncate to " + std::to_string(size), done)) return verdict;
  resize(size);
  return std::nullopt;
}

Session::Verdict Session::allocate(const Op& op) {
  uint64_t end = std::min(op.offset + op.length, knows_size() ? setup_.max_size : setup_.shared_size);
  const bool only_allocates = op.kind == Kind::kAllocate || op.kind == Kind::kAllocateKeep;
  if (!only_allocates) end = own_end(op.offset, end);
  if (op.offset >= end) return std::nullopt;
  int mode = 0;
  if (op.kind == Kind::kPunch) mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (op.kind == Kind::kZero) mode = FALLOC_FL_ZERO_RANGE;
  if (op.kind == Kind::kZeroKeep) mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  if (op.kind == Kind::kAllocateKeep) mode = FALLOC_FL_KEEP_SIZE;
  const int64_t done = target_.fallocate(op.fd, mode, op.offset, end - op.offset);
  if (Verdict verdict = no_wrong(std::string(info(op.kind).name) + at(op.offset, end), done)) return verdict;
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && end > size_) resize(end);
  if (!only_allocates) clear(op.offset, end);
  return std::nullopt;
}

Session::Verdict Session::collapse(const Op& op) {
  const uint64_t begin = round_down(op.offset, kPage);
  const uint64_t length = std::max(round_down(op.length, kPage), kPage);
  if (setup_.processes != 1 || begin + length >= size_) return std::nullopt;
  const int64_t done = target_.fallocate(op.fd, FALLOC_FL_COLLAPSE_RANGE, begin, length);
  if (Verdict verdict = no_wrong("collapse" + at(begin, begin + length), done)) return verdict;
  const auto place = [this](uint64_t offset) { return bytes_.begin() + static_cast<std::ptrdiff_t>(offset); };
  std::copy(place(begin + length), place(size_), place(begin));
  touch(begin, size_);
  resize(size_ - length);
  return std::nullopt;
}

Session::Verdict Session::insert(const Op& op) {
  const uint64_t begin = round_down(op.offset, kPage);
  const uint64_t length = std::max(round_down(op.length, kPage), kPage);
  if (setup_.processes != 1 || begin >= size_ || size_ + length > setup_.max_size) return std::nullopt;
  const int64_t done = target_.fallocate(op.fd, FALLOC_FL_INSERT_RANGE, begin, length);
  if (Verdict verdict = no_wrong("insert" + at(begin, begin + length), done)) return verdict;
  const auto place = [this](uint64_t offset) { return bytes_.begin() + static_cast<std::ptrdiff_t>(offset); };
  const uint64_t old = size_;
  resize(size_ + length);
  std::copy_backward(place(begin), place(old), place(size_));
  clear(begin, begin + length);
  touch(begin, size_);
  return std::nullopt;
}

// Copies.

Session::Verdict Session::copy_bytes(bool from_second, int fd, uint64_t from, bool to_second, uint64_t to,
                                     uint64_t length) {
  const std::string name = "copy_file_range" + at(from, from + length) + " to " + std::to_string(to);
  for (uint64_t done = 0; done < length;) {
    const int64_t copied = target_.copy(from_second, fd, from + done, to_second, to + done, length - done);
    if (Verdict verdict = no_wrong(name, copied)) return verdict;
    if (copied == 0 || static_cast<uint64_t>(copied) > length - done) {
      return wrong(name + " gave " + std::to_string(copied) + " after " + std::to_string(done));
    }
    done += static_cast<uint64_t>(copied);
  }
  return std::nullopt;
}

Session::Verdict Session::copy(const Op& op) {
  const uint64_t from_end = own_end(op.offset, std::min(op.offset + op.length, size_));
  const uint64_t to_end = own_end(op.to, std::min(op.to + op.length, setup_.max_size));
  if (op.offset >= from_end || op.to >= to_end) return std::nullopt;
  const uint64_t length = std::min(from_end - op.offset, to_end - op.to);
  if (op.offset < op.to + length && op.to < op.offset + length) return std::nullopt;  // overlapping: EINVAL
  if (Verdict verdict = copy_bytes(false, op.fd, op.offset, false, op.to, length)) return verdict;
  const auto data = std::span(data_).first(length);
  std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(op.offset), length, data.begin());
  put(op.to, data);
  return std::nullopt;
}

Session::Verdict Session::copy_out(const Op& op) {
  const uint64_t end = own_end(op.offset, std::min(op.offset + op.length, size_));
  const uint64_t length =
      op.offset < end ? std::min(end - op.offset, setup_.max_size - std::min(op.to, setup_.max_size)) : 0;
  if (length == 0) return std::nullopt;
  if (Verdict verdict = copy_bytes(false, op.fd, op.offset, true, op.to, length)) return verdict;
  if (second_.size() < op.to + length) second_.resize(op.to + length);
  const auto source = std::span(bytes_).subspan(op.offset, length);
  std::copy(source.begin(), source.end(), second_.begin() + static_cast<std::ptrdiff_t>(op.to));
  const auto found = buffer(length);
  const int64_t got = target_.read_second(op.to, found);
  if (Verdict verdict = no_wrong("read of the second file", got)) return verdict;
  if (static_cast<uint64_t>(got) == length) return compare("copy to the second file", op.offset, found);
  return wrong("read of the second file" + at(op.to, op.to + length) + " gave " + std::to_string(got));
}

Session::Verdict Session::copy_in(const Op& op) {
  const uint64_t from_end = std::min<uint64_t>(op.offset + op.length, second_.size());
  const uint64_t to_end = own_end(op.to, std::min(op.to + op.length, setup_.max_size));
  if (op.offset >= from_end || op.to >= to_end) return std::nullopt;
  const uint64_t length = std::min(from_end - op.offset, to_end - op.to);
  if (Verdict verdict = copy_bytes(true, op.fd, op.offset, false, op.to, length)) return verdict;
  put(op.to, std::span(second_).subspan(op.offset, length));
  return std::nullopt;
}

// The rest.

Session::Verdict Session::sync(const Op& op) {
  if (op.kind != Kind::kMsync) {
    return no_wrong(std::string(info(op.kind).name), target_.sync(op.fd, op.kind == Kind::kFdatasync));
  }
  const uint64_t begin = round_down(op.offset, kPage);
  const uint64_t end = std::min<uint64_t>(round_up(op.offset + op.length, kPage), bytes_.size());
  if (begin >= end) return std::nullopt;
  return no_wrong("msync" + at(begin, end), target_.hold_sync(begin, end - begin));
}

Session::Verdict Session::seek(const Op& op) {
  const uint64_t end = knows_size() ? size_ : setup_.shared_size;
  uint64_t place = op.offset;
  if (setup_.msync_seek && setup_.mmap) {
    if (Verdict verdict = no_wrong("msync", target_.hold_sync(0, bytes_.size()))) return verdict;
  }
  for (int step = 0; step < kSeekStepsMax && place < end; ++step) {
    if (Verdict verdict = seek_step(op.fd, place)) return verdict;
  }
  if (!knows_size() || place < size_) return std::nullopt;
  const int64_t data = target_.seek(op.fd, size_, SEEK_DATA);
  if (data == -ENXIO) return std::nullopt;
  return wrong("SEEK_DATA at the file's end gave " + std::to_string(data) + " instead of ENXIO");
}

// From `place` over a hole and data to the next hole.
Session::Verdict Session::seek_step(int fd, uint64_t& place) {
  const int64_t data = target_.seek(fd, place, SEEK_DATA);
  const uint64_t end = knows_size() ? size_ : setup_.shared_size;
  if (data < 0 && data != -ENXIO) return no_wrong("SEEK_DATA from " + std::to_string(place), data);
  const uint64_t hole_end = data == -ENXIO ? end : std::min(static_cast<uint64_t>(data), end);
  if (data >= 0 &&
      (static_cast<uint64_t>(data) < place || (knows_size() && static_cast<uint64_t>(data) >= size_))) {
    return wrong("SEEK_DATA from " + std::to_string(place) + " gave " + std::to_string(data));
  }
  if (place < hole_end) {  // what is said to be a hole reads as zeroes
    const auto zeroes = buffer(hole_end - place);
    std::fill(zeroes.begin(), zeroes.end(), std::byte{0});
    if (Verdict verdict = compare("hole by SEEK_DATA", place, zeroes)) return verdict;
  }
  place = hole_end;
  if (place >= end) return std::nullopt;
  const int64_t hole = target_.seek(fd, place, SEEK_HOLE);
  if (Verdict verdict = no_wrong("SEEK_HOLE from " + std::to_string(place), hole)) return verdict;
  const auto next = static_cast<uint64_t>(hole);
  // Another process may have punched it since.
  const bool moves = setup_.processes == 1 ? next > place : next >= place;
  if (!moves || (knows_size() && next > size_)) {
    return wrong("SEEK_HOLE from " + std::to_string(place) + " gave " + std::to_string(next));
  }
  place = next;
  return std::nullopt;
}

Session::Verdict Session::flip(const Op& op) {
  const FlipResult done = target_.flip(op.fd, op.tag != 0);
  if (done.result == -EBUSY) {  // refused by name
    ++flips_refused_;
    return std::nullopt;
  }
  if (Verdict verdict = no_wrong("flip of the DAX flag", done.result)) return verdict;
  if (!done.complaint.empty()) return wrong("after a flip of the DAX flag " + done.complaint);
  ++flips_;
  return std::nullopt;
}

Session::Verdict Session::check(const Op& op) {
  const uint64_t end = knows_size() ? size_ : setup_.shared_size;
  for (uint64_t offset = 0; offset < end; offset += kChunk) {
    Op part = op;
    part.offset = offset;
    part.length = std::min(kChunk, end - offset);
    if (Verdict verdict = read(part)) return verdict;
    if (!setup_.mmap) continue;
    if (Verdict verdict = map_read(part, true)) return verdict;
  }
  return std::nullopt;
}

Session::Verdict Session::all(const Op& op) {
  const uint64_t end = op.kind == Kind::kAllTruncate ? size_ : std::min(op.offset + op.length, size_);
  if (op.offset >= end) return std::nullopt;
  if (me_ == 0) {
    int64_t done = 0;
    if (op.kind == Kind::kAllTruncate) {
      done = target_.truncate(op.fd, op.offset);
      if (done >= 0) done = target_.truncate(op.fd, size_);
    } else {
      const int what = op.kind == Kind::kAllPunch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
      done = target_.fallocate(op.fd, what | FALLOC_FL_KEEP_SIZE, op.offset, end - op.offset);
    }
    if (Verdict verdict = no_wrong(std::string(info(op.kind).name) + at(op.offset, end), done)) return verdict;
  }
  clear(op.offset, end);
  return std::nullopt;
}

}  // namespace udax::fsx

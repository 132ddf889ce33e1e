// SPDX-License-Identifier: BSD-3-Clause
//
// mremap(2): shorter, longer in its place, or elsewhere.
#include "client/client.h"
#include "client/kernel.h"

namespace udax::client {

using direct::Reply;
using direct::Request;
using direct::RequestType;

int Client::request_remap(uint64_t begin, uint64_t old_end, uint64_t to, uint64_t to_end) {
  Request request = range_request(RequestType::kRemap, begin, old_end - begin);
  request.new_offset = to - memory_.base;
  request.new_length = to_end - to;
  Reply reply;
  return call(request, &reply);
}

// Only what is new is asked for, so that other threads may go on using what is there. EEXIST: it cannot grow in its place.
int Client::grow(uint64_t begin, uint64_t old_end, uint64_t new_end) {
  if (!in_span(begin, new_end - begin)) return EEXIST;
  uint64_t first = 0;
  View tail = *views_.find(begin, &first);
  tail.end = new_end;
  tail.file_offset += old_end - begin;
  if (kernel::map(old_end, new_end - old_end, tail.prot,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
    return errno;
  }
  int error = adopt(old_end, new_end - old_end);
  try {
    kernels_.remove(old_end, new_end);
    views_.insert(old_end, tail);
    if (error == 0) error = request_map(old_end, tail, false);
  } catch (...) {
    kernel::unmap(old_end, new_end - old_end);
    throw;
  }
  if (error != 0) {
    views_.erase(old_end, new_end);
    kernel::unmap(old_end, new_end - old_end);
    // No longer DAX: what is mapped may move still.
    return error == EOPNOTSUPP ? EEXIST : error;
  }
  // Meanwhile what was there before may have become the kernel's: then they are two.
  if (!views_.is_one(begin, new_end)) return 0;
  views_.erase(old_end, new_end);
  views_.set_end(begin, old_end, new_end);
  return 0;
}

int Client::move(uint64_t begin, uint64_t old_end, uint64_t new_length, uint64_t* moved) {
  uint64_t first = 0;
  View view = *views_.find(begin, &first);
  MapWish wish;
  wish.length = new_length;
  wish.prot = view.prot;
  wish.file_offset = view.file_offset;
  uint64_t to = 0;
  if (const int error = find_place(wish, &to); error != 0) return error;
  view.end = to + new_length;
  int error = 0;
  try {
    kernels_.remove(to, view.end);
    views_.insert(to, view);
    error = request_remap(begin, old_end, to, view.end);
  } catch (...) {
    kernel::unmap(to, new_length);
    throw;
  }
  if (error != 0) {
    views_.erase(to, view.end);
    kernel::unmap(to, new_length);
    return error;
  }
  kernel::unmap(begin, old_end - begin);
  views_.erase(begin, old_end);
  *moved = to;
  return 0;
}

int Client::remap(uint64_t address, uint64_t old_length, uint64_t new_length, bool may_move, uint64_t* moved) {
  const LockGuard lock(mutex_);
  settle();
  const uint64_t old_end = address + old_length;
  if (!views_.is_one(address, old_end)) return unless_moved(EFAULT, address, old_end);
  if (is_dead()) return ECONNRESET;
  views_.split_at(address);
  views_.split_at(old_end);
  *moved = address;
  int error = 0;
  if (new_length < old_length) {
    error = unmap_locked(address + new_length, old_end, false);
  } else if (new_length > old_length) {
    error = grow(address, old_end, address + new_length);
    if (error == EEXIST) error = may_move ? move(address, old_end, new_length, moved) : ENOMEM;
  }
  update_bounds();
  return unless_moved(error, address, old_end);
}

}  // namespace udax::client

// SPDX-License-Identifier: BSD-3-Clause
//
// Mappings that have become the kernel's, since their files are DAX files no more (handover.h). The table of views forgets them, so
// that whatever is done to them is the kernel's to do; which they are is remembered for those who ask by udax_*().
//
// Invariant: what the mapper hands over before the daemon replies to a request is taken note of right after the reply. So a
// range that is mapped anew afterwards is not forgotten by mistake.
#include <new>

#include "client/client.h"
#include "client/kernel.h"

namespace udax::client {

using direct::Reply;
using direct::Request;

void Client::settle() {
  HandedOver::Range range;
  bool any = false;
  while (handed_over_.peek(&range)) {
    try {
      views_.split_at(range.begin);
      views_.split_at(range.end);
      kernels_.add(range.begin, range.end);
    } catch (const std::bad_alloc&) {
      break;  // the next time, then
    }
    views_.erase(range.begin, range.end);
    handed_over_.pop();
    any = true;
  }
  if (!any) return;
  update_bounds();
  close_unused_files();
}

int Client::call(const Request& request, Reply* reply) {
  const int error = control_.call(request, reply);
  settle();
  return error;
}

// `error`: what was said of the range.
int Client::unless_moved(int error, uint64_t begin, uint64_t end) const {
  return error != 0 && !views_.covers(begin, end) ? kHandedOver : error;
}

bool Client::is_kernels(uint64_t address, uint64_t* end) {
  const LockGuard lock(mutex_);
  settle();
  return kernels_.find(address, end);
}

int Client::unmap_kernels(uint64_t address, uint64_t length) {
  const LockGuard lock(mutex_);
  if (kernel::unmap(address, length) != 0) return errno;
  kernels_.remove(address, address + length);
  return 0;
}

int Client::remap_kernels(uint64_t address, uint64_t old_length, uint64_t new_length, bool may_move,
                          uint64_t* moved) {
  const LockGuard lock(mutex_);
  kernels_.add(address, address + old_length);  // one range, whatever fails below
  const void* const got =
      kernel::remap(address, old_length, new_length, may_move ? MREMAP_MAYMOVE : 0, uint64_t{0});
  if (got == MAP_FAILED) return errno;
  *moved = kernel::to_address(got);
  kernels_.remove(address, address + old_length);
  kernels_.add(*moved, *moved + new_length);
  return 0;
}

}  // namespace udax::client

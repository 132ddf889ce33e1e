// SPDX-License-Identifier: BSD-3-Clause
#include "client/client.h"

#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "client/kernel.h"
#include "client/vault.h"

namespace udax::client {

using direct::Reply;
using direct::Request;
using direct::RequestType;

bool Client::in_span(uint64_t address, uint64_t length) const {
  return address >= memory_.base && length <= memory_.size && address - memory_.base <= memory_.size - length;
}

Request Client::range_request(RequestType type, uint64_t address, uint64_t length) const {
  Request request;
  request.type = static_cast<uint32_t>(type);
  request.offset = address - memory_.base;
  request.length = length;
  return request;
}

int Client::ask(RequestType type, uint64_t address, uint64_t length, Reply* reply) {
  return call(range_request(type, address, length), reply);
}

void Client::update_bounds() {
  low_.store(views_.low(), std::memory_order_release);
  high_.store(views_.high(), std::memory_order_release);
}

// ---- files

int identify(int fd, FileId* id) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  // Not a device's ioctl: what ours means there nobody knows.
  if (!S_ISREG(status.st_mode)) return ENOSYS;
  const int mode = ::fcntl(fd, F_GETFL);
  if (mode < 0) return errno;
  if ((mode & O_PATH) != 0) return EBADF;
  if ((mode & O_ACCMODE) == O_WRONLY) return EACCES;
  *id = {status.st_dev, status.st_ino, (mode & O_ACCMODE) == O_RDWR};
  return 0;
}

int Client::open_file(int fd, const udax_ioc_direct* leave, File* file) {
  udax_ioc_direct own{};
  if (leave == nullptr) {
    if (const int error = ask_leave(fd, &own); error != 0) return error;
    leave = &own;
  }
  Reply reply;
  return open_by(*leave, 0, file, &reply);
}

int Client::open_by(const udax_ioc_direct& leave, uint32_t flags, File* file, Reply* reply) {
  Request request;
  request.type = static_cast<uint32_t>(RequestType::kOpen);
  request.flags = flags;
  static_assert(sizeof request.cookie == sizeof leave.cookie);
  std::memcpy(request.cookie, leave.cookie, sizeof request.cookie);
  if (const int error = control_.call(request, reply); error != 0) return error;
  file->handle = static_cast<uint32_t>(reply->value[0]);
  file->is_open = true;
  return 0;
}

std::shared_ptr<File> Client::find_file(const FileId& id) const {
  const auto same = [&](const std::shared_ptr<File>& file) { return file->id == id && file->is_open; };
  const auto it = std::find_if(files_.begin(), files_.end(), same);
  return it == files_.end() ? nullptr : *it;
}

bool Client::knows(const FileId& id) {
  const LockGuard lock(mutex_);
  return !is_dead() && find_file(id) != nullptr;
}

int Client::file_for(int fd, const udax_ioc_direct* leave, std::shared_ptr<File>* out) {
  FileId id;
  if (const int error = identify(fd, &id); error != 0) return error;
  *out = find_file(id);
  if (*out != nullptr) return 0;
  auto file = std::make_shared<File>();
  file->id = id;
  files_.reserve(files_.size() + 1);
  if (const int error = open_file(fd, leave, file.get()); error != 0) return error;
  file->vault = seal(fd);
  shelf_.put(file->handle, file->vault.get());
  files_.push_back(file);
  *out = std::move(file);
  return 0;
}

// A file is held, here and by the daemon, as long as a view of it is there: its space must come back when it is removed.
void Client::close_unused_files() {
  std::erase_if(files_, [this](const std::shared_ptr<File>& file) UDAX_NO_THREAD_SAFETY_ANALYSIS {
    if (file.use_count() != 1) return false;
    if (!file->is_open) return true;
    Request request;
    request.type = static_cast<uint32_t>(RequestType::kClose);
    request.handle = file->handle;
    Reply reply;
    static_cast<void>(control_.call(request, &reply));
    shelf_.remove(file->handle);
    return true;
  });
}

// ---- places

// Registers empty memory, and keeps it from children. It has its view's protection from the start: the daemon's PROT may come
// after its reply.
int Client::adopt(uint64_t address, uint64_t length) {
  if (kernel::uffd_register(fault_.get(), address, length,
                            UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP) != 0) {
    return errno == EINVAL ? ENOMEM : errno;
  }
  return kernel::advise(address, length, MADV_DONTFORK) == 0 && kernel::advise(address, length, MADV_DONTDUMP) == 0
             ? 0
             : errno;
}

int Client::find_place(const MapWish& wish, uint64_t* address) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (wish.fixed) {
    if (!in_span(wish.address, wish.length)) return EOPNOTSUPP;
    if (kernel::map(wish.address, wish.length, wish.prot, kFlags | MAP_FIXED, -1, 0) == MAP_FAILED) return errno;
    *address = wish.address;
  } else {
    // Where 2 MiB of the file may be mapped as one, address and offset agree in their lower bits.
    const uint64_t slack = wish.length >= kernel::kHugePage ? kernel::kHugePage : 0;
    void* const got = kernel::map(wish.address, wish.length + slack, wish.prot, kFlags, -1, 0);
    if (got == MAP_FAILED) return errno;
    const uint64_t begin = kernel::to_address(got);
    uint64_t place = begin;
    if (slack != 0) {
      place += (wish.file_offset - begin) % kernel::kHugePage;
      if (place > begin) kernel::unmap(begin, place - begin);
      if (const uint64_t tail = begin + slack - place; tail != 0) kernel::unmap(place + wish.length, tail);
    }
    if (!in_span(place, wish.length)) {
      kernel::unmap(place, wish.length);
      return ENOMEM;
    }
    *address = place;
  }
  const int error = adopt(*address, wish.length);
  if (error != 0) kernel::unmap(*address, wish.length);
  return error;
}

// ---- mapping

int Client::request_map(uint64_t begin, const View& view, bool populate) {
  Request request = range_request(RequestType::kMap, begin, view.end - begin);
  request.handle = view.file->handle;
  request.file_offset = view.file_offset;
  request.prot = static_cast<uint32_t>(view.prot);
  request.flags = (view.sync ? direct::kMapSync : 0) | (populate ? direct::kMapPopulate : 0);
  Reply reply;
  return call(request, &reply);
}

int Client::map(const MapWish& wish, const udax_ioc_direct* leave, uint64_t* address) {
  const LockGuard lock(mutex_);
  settle();
  if (is_dead()) return ECONNRESET;
  if (wish.fixed && !in_span(wish.address, wish.length)) return EOPNOTSUPP;
  View view;
  view.prot = wish.prot;
  view.sync = wish.sync;
  view.file_offset = wish.file_offset;
  int error = file_for(wish.fd, leave, &view.file);
  if (error == 0) error = map_view(wish, &view, address);
  view.file.reset();
  if (error != 0) close_unused_files();
  return error;
}

int Client::map_view(const MapWish& wish, View* view, uint64_t* address) {
  if ((wish.prot & PROT_WRITE) != 0 && !view->file->id.writable) return EACCES;
  if (wish.fixed) {
    if (const int error = unmap_locked(wish.address, wish.address + wish.length, true); error != 0) return error;
  }
  uint64_t begin = 0;
  if (const int error = find_place(wish, &begin); error != 0) return error;
  view->end = begin + wish.length;
  try {
    kernels_.remove(begin, view->end);
    views_.insert(begin, *view);
  } catch (...) {
    kernel::unmap(begin, wish.length);
    throw;
  }
  const int error = request_map(begin, *view, wish.populate);
  if (error != 0) {
    views_.erase(begin, view->end);
    // With the place of a MAP_FIXED the caller may want to do something else.
    if (!wish.fixed) kernel::unmap(begin, wish.length);
    return error;
  }
  update_bounds();
  *address = begin;
  return 0;
}

int Client::unmap_locked(uint64_t begin, uint64_t end, bool keep) {
  if (!views_.overlaps(begin, end)) return 0;
  views_.split_at(begin);
  views_.split_at(end);
  // One request for each run without a gap: what lies in the gaps is not ours.
  int result = 0;
  for (uint64_t first = views_.next(begin); first < end && result == 0;) {
    uint64_t last = first;
    while (last < end && views_.next(last) == last) last = views_.all().at(last).end;
    Reply reply;
    // A daemon that is dead maps nothing any more.
    result = is_dead() ? 0 : ask(RequestType::kUnmap, first, last - first, &reply);
    if (result == ECONNRESET) result = 0;
    if (result != 0) break;
    if (!keep) kernel::unmap(first, last - first);
    views_.erase(first, last);
    kernels_.remove(first, last);
    first = views_.next(last);
  }
  update_bounds();
  close_unused_files();
  return result;
}

int Client::unmap(uint64_t address, uint64_t length, bool keep) {
  const LockGuard lock(mutex_);
  settle();
  return unmap_locked(address, address + length, keep);
}

int Client::covered(uint64_t address, uint64_t length) {
  const LockGuard lock(mutex_);
  settle();
  return views_.covers(address, address + length) ? 0 : kHandedOver;
}

int Client::sync(uint64_t address, uint64_t length) {
  const LockGuard lock(mutex_);
  settle();
  if (!views_.covers(address, address + length)) return kHandedOver;
  if (is_dead()) return ECONNRESET;
  Reply reply;
  return unless_moved(ask(RequestType::kSync, address, length, &reply), address, address + length);
}

int Client::protect(uint64_t address, uint64_t length, int prot) {
  const LockGuard lock(mutex_);
  settle();
  const uint64_t end = address + length;
  if (!views_.covers(address, end)) return kHandedOver;
  if (is_dead()) return ECONNRESET;
  views_.split_at(address);
  views_.split_at(end);
  if ((prot & PROT_WRITE) != 0) {
    for (auto it = views_.all().find(address); it != views_.all().end() && it->first < end; ++it) {
      if (!it->second.file->id.writable) return EACCES;
    }
  }
  Request request = range_request(RequestType::kProtect, address, length);
  request.prot = static_cast<uint32_t>(prot);
  Reply reply;
  const int error = call(request, &reply);
  if (error == 0) views_.set_prot(address, end, prot);
  return unless_moved(error, address, end);
}

int Client::advise(uint64_t address, uint64_t length, int advice) {
  const LockGuard lock(mutex_);
  settle();
  if (!views_.covers(address, address + length)) return kHandedOver;
  if (is_dead()) return ECONNRESET;
  if (!kernel::asks_ahead(advice)) return 0;
  Request request = range_request(RequestType::kAdvise, address, length);
  request.flags = direct::kAdviseWillNeed;
  Reply reply;
  return unless_moved(call(request, &reply), address, address + length);
}

int Client::punch(uint64_t address, uint64_t length) {
  struct Part {
    std::shared_ptr<File> file;
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  std::vector<Part> parts;
  {
    const LockGuard lock(mutex_);
    settle();
    const uint64_t end = address + length;
    if (!views_.covers(address, end)) return kHandedOver;
    for (uint64_t at = address; at < end;) {
      uint64_t first = 0;
      const View& view = *views_.find(at, &first);
      if ((view.prot & PROT_WRITE) == 0) return EACCES;
      const uint64_t to = std::min(end, view.end);
      parts.push_back({view.file, view.file_offset + (at - first), to - at});
      at = to;
    }
  }
  // The daemon takes the views back for it, as for anybody's.
  const auto stack = std::make_unique<ErrandStack>();
  for (const Part& part : parts) {
    const int error = punch_by_mount(part.file->vault.get(), part.offset, part.length, *stack);
    if (error != 0) return error;
  }
  return 0;
}

int Client::query(uint64_t address, uint64_t length, udax_mapping* mapping) {
  const LockGuard lock(mutex_);
  settle();
  if (is_dead()) return ECONNRESET;
  if (!in_span(address, length)) return EINVAL;
  Reply reply;
  if (const int error = ask(RequestType::kQuery, address, length, &reply); error != 0) return error;
  mapping->direct_bytes = reply.value[0];
  mapping->zero_bytes = reply.value[1];
  mapping->unmapped_bytes = reply.value[2];
  mapping->mappings = reply.value[3];
  mapping->mappings_max = mappings_max_;
  mapping->granularity = granularity_;
  mapping->tracking = memory_.tracking >= 0 ? 1 : 0;
  return 0;
}

bool Client::overlaps(uint64_t address, uint64_t end) {
  if (!may_overlap(address, end)) return false;
  const LockGuard lock(mutex_);
  settle();
  return views_.overlaps(address, end);
}

bool Client::piece(uint64_t address, uint64_t* end) {
  const LockGuard lock(mutex_);
  settle();
  uint64_t begin = 0;
  if (const View* const view = views_.find(address, &begin); view != nullptr) {
    *end = view->end;
    return true;
  }
  *end = views_.next(address);
  return false;
}

}  // namespace udax::client

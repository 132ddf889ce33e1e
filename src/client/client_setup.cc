// SPDX-License-Identifier: BSD-3-Clause
//
// How a client comes to be: connection, span, staging, userfaultfds, threads.

#include <algorithm>
#include <array>

#include "base/sync_point.h"
#include "client/blocked_signals.h"
#include "client/client.h"
#include "client/kernel.h"

namespace udax::client {
namespace {

using direct::Reply;
using direct::Request;
using direct::RequestType;

// The end of what x86-64 programs get without asking for more, in whole 2 MiB.
constexpr uint64_t kAddressTop = 0x7fff'ffe0'0000;
constexpr uint64_t kSpanMin = uint64_t{1} << 36;
constexpr size_t kStackSize = size_t{256} << 10;

Descriptor new_userfaultfd(const Descriptor& device) {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;
  if (device) {
    if (const int fd = kernel::control(device.get(), USERFAULTFD_IOC_NEW, static_cast<unsigned long>(kFlags));
        fd >= 0) {
      return Descriptor(fd);
    }
  }
  return Descriptor(static_cast<int>(::syscall(SYS_userfaultfd, kFlags)));
}

int negotiate(const Descriptor& fd, uint64_t features) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  return kernel::control(fd.get(), UFFDIO_API, &api) == 0 ? 0 : errno;
}

// A range of `size` bytes below `end`, at an address that nothing has; 0: none.
uint64_t make_staging(uint64_t size, uint64_t end) {
  constexpr uint64_t kStep = uint64_t{1} << 42;
  for (uint64_t at = end - size; at >= kStep && at < end; at -= kStep) {
    const void* const got = kernel::map(at, size, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != MAP_FAILED) return at;
    if (errno != EEXIST) return 0;
  }
  return 0;
}

}  // namespace

int Client::open(const udax_ioc_direct& leave, std::unique_ptr<Client>* out) {
  std::unique_ptr<Client> client(new Client);
  const LockGuard lock(client->mutex_);
  const int error = client->start(leave);
  if (error != 0) {
    client->close_all();
  } else {
    *out = std::move(client);
  }
  return error;
}

// Only of one whose set-up failed: it has no threads.
Client::~Client() = default;

Descriptor Client::make_empty_file() {
  Descriptor fd(static_cast<int>(::syscall(SYS_memfd_create, "udax-empty", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (fd) static_cast<void>(::syscall(SYS_fcntl, fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL));
  return fd;
}

int Client::start(const udax_ioc_direct& leave) {
  pool_[0] = leave.pool[0];
  pool_[1] = leave.pool[1];
  if (const int error = control_.connect(leave); error != 0) return error;
  Request hello;
  hello.type = static_cast<uint32_t>(RequestType::kHello);
  hello.version = direct::kProtocolVersion;
  Reply welcome;
  std::array<Descriptor, 3> given;
  if (const int error = control_.call(hello, &welcome, {}, given); error != 0) return error;
  const bool has_device = (welcome.value[direct::kWelcomeFlags] & direct::kWelcomeHasUffdDevice) != 0;
  if (welcome.value[direct::kWelcomeVersion] != direct::kProtocolVersion || !given[0] || !given[1] ||
      static_cast<bool>(given[2]) != has_device) {
    return ECONNRESET;
  }
  stream_ = std::move(given[0]);
  life_ = std::move(given[1]);
  granularity_ = static_cast<uint32_t>(welcome.value[direct::kWelcomeGranularity]);
  mappings_max_ = welcome.value[direct::kWelcomeMappingsMax];
  memory_ = {};
  memory_.pool_size = welcome.value[direct::kWelcomePoolSize];
  memory_.is_for_io = is_for_io_;
  if (const int error = handed_over_.start(); error != 0) return error;
  memory_.shelf = &shelf_;
  memory_.handed_over = &handed_over_;
  memory_.stack = &errand_stack_;
  if (const int error = make_fault_descriptors(given[2]); error != 0) return error;
  if (const int error = make_span(welcome.value[direct::kWelcomeReservationMax]); error != 0) return error;
  if (const int error = set_up(welcome); error != 0) return error;
  return start_threads();
}

int Client::make_fault_descriptors(const Descriptor& device) {
  fault_ = new_userfaultfd(device);
  if (!fault_) return errno == ENOSYS || errno == EMFILE || errno == ENFILE ? errno : EPERM;
  if (negotiate(fault_, UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP) != 0) return EOPNOTSUPP;
  memory_.fault = fault_.get();
  if (!UDAX_KNOB("client.no_tracking")) {
    tracking_ = new_userfaultfd(device);
    // A kernel before 6.7: what is mapped writable counts as stored to.
    if (tracking_ && negotiate(tracking_, kernel::kFeatureWpAsync | kernel::kFeatureWpUnpopulated |
                                              kernel::kFeatureWpHugetlbfsShmem) != 0) {
      tracking_.reset();
    }
  }
  memory_.tracking = tracking_.get();
  return 0;
}

int Client::make_span(uint64_t size_max) {
  uint64_t size = std::min(size_max, direct::kReservationMax);
  size -= size % direct::kReservationAlign;
  for (; size >= kSpanMin; size = size / 2 / direct::kReservationAlign * direct::kReservationAlign) {
    const uint64_t base = kAddressTop - size;
    const uint64_t staging = make_staging(size, base);
    if (staging == 0) continue;
    memory_.base = base;
    memory_.size = size;
    memory_.staging = staging;
    return adopt(staging, size);
  }
  return ENOMEM;
}

int Client::set_up(const Reply& welcome) {
  empty_ = make_empty_file();
  if (!empty_) return errno;
  memory_.empty = empty_.get();
  const Descriptor pagemap(kernel::open_file("/proc/self/pagemap", O_RDONLY));
  if (!pagemap) return errno == ENOENT ? EOPNOTSUPP : errno;
  Request request;
  request.type = static_cast<uint32_t>(RequestType::kSetup);
  request.offset = memory_.base;
  request.length = memory_.size;
  request.file_offset = memory_.staging;
  request.flags = (tracking_ ? 0 : direct::kSetupNoTracking) | (is_for_io_ ? direct::kSetupBoard : 0);
  const std::array<int, 3> passed{fault_.get(), pagemap.get(), tracking_.get()};
  Reply reply;
  std::array<Descriptor, 2> given;
  if (const int error = control_.call(request, &reply, std::span(passed).first(tracking_ ? 3 : 2), given);
      error != 0) {
    return error;
  }
  if (!given[0] || memory_.pool_size != welcome.value[direct::kWelcomePoolSize]) return ECONNRESET;
  pool_file_ = std::move(given[0]);
  memory_.pool = pool_file_.get();
  return is_for_io_ ? take_board(given[1]) : 0;
}

int Client::start_threads() {
  pthread_attr_t attributes;
  if (const int error = ::pthread_attr_init(&attributes); error != 0) return error;
  ::pthread_attr_setstacksize(&attributes, kStackSize);
  // The program's signals are for its own threads.
  const BlockedSignals blocked;
  int error = ::pthread_create(&mapper_, &attributes, &Client::mapper_main, this);
  if (error == 0) {
    error = ::pthread_create(&watchdog_, &attributes, &Client::watchdog_main, this);
    if (error == 0) {
      ::pthread_detach(mapper_);
      ::pthread_detach(watchdog_);
    } else {
      ::shutdown(stream_.get(), SHUT_RDWR);
      ::pthread_join(mapper_, nullptr);
      memory_.staging = 0;
    }
  }
  ::pthread_attr_destroy(&attributes);
  return error;
}

void Client::close_all() {
  control_.close();
  for (Descriptor* const fd : {&stream_, &life_, &fault_, &tracking_, &pool_file_, &empty_}) fd->reset();
  if (memory_.staging != 0) kernel::unmap(memory_.staging, memory_.size);
  memory_ = {};
}

void* Client::mapper_main(void* self) {
  const auto* const client = static_cast<Client*>(self);
  ::pthread_setname_np(::pthread_self(), "udax-mapper");
  run_mapper(client->memory_, client->stream_.get(), client->dead_);
  // Nobody else looks at it, and there is not room for many: daemons may come and go while this process runs.
  kernel::unmap(client->memory_.staging, client->memory_.size);
  return nullptr;
}

void* Client::watchdog_main(void* self) {
  ::pthread_setname_np(::pthread_self(), "udax-watchdog");
  static_cast<Client*>(self)->watch();
  return nullptr;
}

}  // namespace udax::client

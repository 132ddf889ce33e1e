// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/dispatcher.h"

#include <array>
#include <exception>
#include <new>

#include "base/clock.h"
#include "base/log.h"
#include "fuse/call.h"

namespace udax::fuse {
namespace {

thread_local bool serving = false;

class ServingScope {
 public:
  ServingScope() { serving = true; }
  ~ServingScope() { serving = false; }
  ServingScope(const ServingScope&) = delete;
  ServingScope& operator=(const ServingScope&) = delete;
};

}  // namespace

bool in_fuse_request() { return serving; }

Dispatcher::Dispatcher(fs::Filesystem& fs, DispatcherOptions options)
    : fs_(fs), options_(std::move(options)), mounted_ns_(monotonic_ns()) {}

Dispatcher::~Dispatcher() = default;

Result<OpStats*> Dispatcher::add_stats() {
  try {
    const LockGuard guard(stats_mutex_);
    stats_.push_back(std::make_unique<OpStats>());
    return stats_.back().get();
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
}

const Dispatcher::Entry* Dispatcher::find(uint32_t opcode) {
  using D = Dispatcher;
  static const auto table = [] {
    std::array<Entry, wire::kOpcodeCount> t{};
    t[FUSE_INIT] = {&D::init};
    t[FUSE_DESTROY] = {&D::destroy};
    t[FUSE_STATFS] = {&D::statfs};
    t[FUSE_SYNCFS] = {&D::syncfs};
    t[FUSE_INTERRUPT] = {&D::nothing, false};
    t[FUSE_NOTIFY_REPLY] = {&D::notify_reply, false};
    t[FUSE_LOOKUP] = {&D::lookup};
    t[FUSE_FORGET] = {&D::forget, false};
    t[FUSE_BATCH_FORGET] = {&D::batch_forget, false};
    t[FUSE_READLINK] = {&D::readlink};
    t[FUSE_SYMLINK] = {&D::symlink};
    t[FUSE_MKNOD] = {&D::mknod};
    t[FUSE_MKDIR] = {&D::mkdir};
    t[FUSE_UNLINK] = {&D::unlink};
    t[FUSE_RMDIR] = {&D::rmdir};
    t[FUSE_RENAME] = {&D::rename};
    t[FUSE_RENAME2] = {&D::rename2};
    t[FUSE_LINK] = {&D::link};
    t[FUSE_GETATTR] = {&D::getattr};
    t[wire::kOpStatx] = {&D::statx};
    t[FUSE_SETATTR] = {&D::setattr};
    t[FUSE_SETXATTR] = {&D::setxattr};
    t[FUSE_GETXATTR] = {&D::getxattr};
    t[FUSE_LISTXATTR] = {&D::listxattr};
    t[FUSE_REMOVEXATTR] = {&D::removexattr};
    t[FUSE_OPEN] = {&D::open};
    t[FUSE_CREATE] = {&D::create};
    t[FUSE_TMPFILE] = {&D::tmpfile};
    t[FUSE_RELEASE] = {&D::release};
    t[FUSE_OPENDIR] = {&D::opendir};
    t[FUSE_RELEASEDIR] = {&D::releasedir};
    t[FUSE_READ] = {&D::read};
    t[FUSE_WRITE] = {&D::write};
    t[FUSE_FLUSH] = {&D::flush};
    t[FUSE_FSYNC] = {&D::fsync};
    t[FUSE_FALLOCATE] = {&D::fallocate};
    t[FUSE_LSEEK] = {&D::lseek};
    t[FUSE_COPY_FILE_RANGE] = {&D::copy_file_range};
    t[wire::kOpCopyFileRange64] = {&D::copy_file_range_64};
    t[FUSE_READDIR] = {&D::readdir};
    t[FUSE_READDIRPLUS] = {&D::readdirplus};
    t[FUSE_FSYNCDIR] = {&D::fsyncdir};
    t[FUSE_IOCTL] = {&D::ioctl};
    for (const uint32_t no : {FUSE_ACCESS, FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW, FUSE_BMAP, FUSE_POLL,
                              FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING}) {
      t[no] = {&D::not_implemented};
    }
    return t;
  }();
  if (opcode >= table.size() || table[opcode].handler == nullptr) return nullptr;
  return &table[opcode];
}

bool Dispatcher::replies_to(uint32_t opcode) {
  const Entry* const entry = find(opcode);
  return entry == nullptr || entry->replies;
}

void Dispatcher::handle(const Request& request, ReplyChannel& channel) noexcept {
  const ServingScope scope;
  Call call(request, channel);
  const fuse_in_header& header = call.header();
  const Entry* entry = find(header.opcode);
  const Status status = serve(call, entry);
  if ((entry == nullptr || entry->replies) && !call.replied()) {
    if (!status) {
      (void)call.send_error(status.error());
    } else if (call.attempted() || call.send_empty() == Delivery::kFailed) {
      (void)call.send_error(Error::kIo);
    }
  }
  const uint64_t now = monotonic_ns();
  if (request.stats != nullptr) {
    request.stats->record(header.opcode, now - request.started_ns, call.failed() || !status);
  }
  if (log::is_on(LogLevel::kTrace)) [[unlikely]] {
    log::trace("fuse: {} unique {} node {} uid {} pid {}: {}, {} us", opcode_name(header.opcode), header.unique,
               header.nodeid, header.uid, header.pid, status ? "done" : to_string(status.error()),
               (now - request.started_ns) / 1000);
  }
}

Status Dispatcher::serve(Call& call, const Entry* entry) noexcept {
  if (entry == nullptr) return Error::kNotImplemented;
  if (!initialized() && call.header().opcode != FUSE_INIT && entry->replies) return Error::kIo;
  try {
    // Security contexts and groups of the caller may follow the arguments; none was asked for, so none is understood.
    if (call.header().total_extlen != 0) return Error::kInvalid;
    return (this->*entry->handler)(call);
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  } catch (const std::exception& e) {
    log::error("fuse: {}: {}", opcode_name(call.header().opcode), e.what());
    return Error::kIo;
  }
}

Status Dispatcher::finish_later(Call& call, Deferrer* who, LaterJob job) {
  if (who == nullptr) {
    job(call.channel());
  } else if (!who->defer_job([channel = call.channel().detach(), job = std::move(job)] { job(*channel); })) {
    return Error::kBusy;
  }
  call.set_replied();
  return {};
}

Status Dispatcher::change_later(Call& call, std::function<Status()> change, bool with_ioctl_out) {
  const auto job = [this, ino = call.ino(), unique = call.header().unique, change = std::move(change),
                    with_ioctl_out](ReplyChannel& channel) {
    Status changed;
    try {
      changed = change();
    } catch (const std::bad_alloc&) {
      changed = Error::kNoMemory;
    }
    if (changed) invalidate_attributes(ino);
    const fuse_ioctl_out out{};
    Call::send_to(channel, unique, changed,
                  with_ioctl_out ? std::as_bytes(std::span(&out, 1)) : std::span<const std::byte>());
  };
  return finish_later(call, recalls_, job);
}

void invalidate_attributes(Notifier& notifier, Ino ino) {
  // A negative offset leaves the pages alone: the kernel then only marks the attributes stale, without taking the
  // inode's lock, which the process whose request this is may hold.
  const fuse_notify_inval_inode_out out{ino.value, -1, 0};
  const iovec piece = Call::piece_of(std::as_bytes(std::span(&out, 1)));
  (void)notifier.notify(FUSE_NOTIFY_INVAL_INODE, std::span(&piece, 1));
}

void Dispatcher::invalidate_attributes(Ino ino) {
  if (notifier_ != nullptr) fuse::invalidate_attributes(*notifier_, ino);
}

const char* opcode_name(uint32_t opcode) {
  static constexpr std::array<const char*, wire::kOpcodeCount> kNames{
      nullptr,        "lookup",        "forget",      "getattr",  "setattr",  "readlink",
      "symlink",      nullptr,         "mknod",       "mkdir",    "unlink",   "rmdir",
      "rename",       "link",          "open",        "read",     "write",    "statfs",
      "release",      nullptr,         "fsync",       "setxattr", "getxattr", "listxattr",
      "removexattr",  "flush",         "init",        "opendir",  "readdir",  "releasedir",
      "fsyncdir",     "getlk",         "setlk",       "setlkw",   "access",   "create",
      "interrupt",    "bmap",          "destroy",     "ioctl",    "poll",     "notify_reply",
      "batch_forget", "fallocate",     "readdirplus", "rename2",  "lseek",    "copy_file_range",
      "setupmapping", "removemapping", "syncfs",      "tmpfile",  "statx",    "copy_file_range_64"};
  if (opcode >= kNames.size() || kNames[opcode] == nullptr) return "?";
  return kNames[opcode];
}

}  // namespace udax::fuse

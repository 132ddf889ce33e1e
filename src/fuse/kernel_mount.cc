// SPDX-License-Identifier: BSD-3-Clause
#define FUSE_USE_VERSION 314
#include "fuse/kernel_mount.h"

#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/log.h"

namespace udax::fuse {
namespace {

// What libfuse has to say goes into the sentence for the user. It calls on the thread that called it.
thread_local std::string* libfuse_says = nullptr;

void take_message(enum fuse_log_level level, const char* format, va_list args) {
  std::array<char, 512> text{};
  (void)std::vsnprintf(text.data(), text.size(), format, args);
  std::string line(text.data());
  while (!line.empty() && line.back() == '\n') line.pop_back();
  if (libfuse_says == nullptr) {
    log::message(level <= FUSE_LOG_ERR ? LogLevel::kError : LogLevel::kDebug, "libfuse: {}", line);
    return;
  }
  if (!libfuse_says->empty()) *libfuse_says += "; ";
  *libfuse_says += line;
}

class Listening {
 public:
  explicit Listening(std::string* to) {
    libfuse_says = to;
    fuse_set_log_func(take_message);
  }
  ~Listening() { libfuse_says = nullptr; }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
};

std::string joined(const std::vector<std::string>& options) {
  std::string out;
  for (const std::string& option : options) {
    if (!out.empty()) out += ',';
    for (const char c : option) {
      if (c == ',' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out;
}

constexpr const char* kDevice = "/dev/fuse";
constexpr const char* kFusermount = "fusermount3";

Status fail(std::string* why, Error error, std::string text) {
  if (why != nullptr) *why = std::move(text);
  return error;
}

Status check_mountpoint(const std::string& mountpoint, std::string* why) {
  struct stat st {};
  if (::stat(mountpoint.c_str(), &st) != 0) {
    const int error = errno;
    if (error == ENOTCONN) {
      return fail(why, Error::kBusy,
                  mountpoint + " is a mount whose daemon is gone; unmount it first (umount " + mountpoint + ")");
    }
    if (error == ENOENT) return fail(why, Error::kNotFound, "the mount point " + mountpoint + " does not exist");
    return fail(why, from_errno(error), "the mount point " + mountpoint + ": " + std::strerror(error));
  }
  if (!S_ISDIR(st.st_mode)) {
    return fail(why, Error::kNotDirectory, "the mount point " + mountpoint + " is not a directory");
  }
  return {};
}

Status check_device(std::string* why) {
  const int fd = ::open(kDevice, O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    ::close(fd);
    return {};
  }
  const int error = errno;
  if (error == ENOENT || error == ENODEV || error == ENXIO) {
    return fail(why, Error::kNotFound, std::string(kDevice) + " is missing: load the fuse module (modprobe fuse)");
  }
  if (error == EACCES || error == EPERM) {
    return fail(why, Error::kAccess,
                std::string(kDevice) + ": permission denied; mount as root, or let users have it (chmod 0666)");
  }
  return fail(why, from_errno(error), std::string(kDevice) + ": " + std::strerror(error));
}

bool can_execute_fusermount() {
  const char* path = std::getenv("PATH");
  std::string places = "/usr/bin:/bin:/usr/local/bin";
  if (path != nullptr) places = places + ":" + path;
  for (size_t at = 0; at <= places.size();) {
    const size_t end = std::min(places.find(':', at), places.size());
    const std::string candidate = places.substr(at, end - at) + "/" + kFusermount;
    if (::access(candidate.c_str(), X_OK) == 0) return true;
    at = end + 1;
  }
  return false;
}

fuse_session* as_session(void* session) { return static_cast<fuse_session*>(session); }

Status run_fusermount(const std::string& mountpoint, bool detach) {
  std::string path = mountpoint;
  std::vector<char*> argv;
  std::array<std::string, 5> words{kFusermount, "-u", "-q", "-z", "--"};
  for (std::string& word : words) {
    if (word != "-z" || detach) argv.push_back(word.data());
  }
  argv.push_back(path.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  if (const int error = ::posix_spawnp(&child, kFusermount, nullptr, nullptr, argv.data(), environ); error != 0) {
    return from_errno(error);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return from_errno(errno);
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? Status() : Status(Error::kBusy);
}

}  // namespace

KernelMount::KernelMount(void* session, std::string mountpoint)
    : session_(session), mountpoint_(std::move(mountpoint)) {}

Status KernelMount::check(const std::string& mountpoint, std::string* why) {
  UDAX_CHECK(check_mountpoint(mountpoint, why));
  UDAX_CHECK(check_device(why));
  if (::geteuid() != 0 && !can_execute_fusermount()) {
    return fail(why, Error::kNotFound, "fusermount3 not found: install the package fuse3, or mount as root");
  }
  return {};
}

Result<std::unique_ptr<KernelMount>> KernelMount::mount(const std::string& mountpoint,
                                                        const std::vector<std::string>& options,
                                                        std::string* why) {
  UDAX_CHECK(check(mountpoint, why));
  std::string said;
  const Listening listening(&said);
  std::string program = "udaxfs";
  std::string dash_o = "-o";
  std::string text = joined(options);
  std::array<char*, 4> argv{program.data(), dash_o.data(), text.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, argv.data());
  const fuse_lowlevel_ops none{};
  fuse_session* session = fuse_session_new(&args, &none, sizeof(none), nullptr);
  fuse_opt_free_args(&args);
  if (session == nullptr) {
    return fail(why, Error::kInvalid, "libfuse does not take the options " + text + ": " + said).error();
  }
  if (fuse_session_mount(session, mountpoint.c_str()) != 0) {
    const int error = errno;
    fuse_session_destroy(session);
    std::string reason = "cannot mount on " + mountpoint;
    if (!said.empty()) reason += ": " + said;
    return fail(why, error == EACCES || error == EPERM ? Error::kAccess : Error::kIo, std::move(reason)).error();
  }
  (void)::fcntl(fuse_session_fd(session), F_SETFD, FD_CLOEXEC);
  return std::unique_ptr<KernelMount>(new KernelMount(session, mountpoint));
}

KernelMount::~KernelMount() {
  fuse_session* session = as_session(session_);
  // Closes the descriptor, then unmounts by name, unless the descriptor polls as broken, which that of an ended
  // connection does. What was detached must not be unmounted by name: another mount may be there by now. So a
  // descriptor that does poll as broken is put in its place, which ends the connection, too.
  std::array<int, 2> ends{-1, -1};
  if (gone_ && ::pipe2(ends.data(), O_CLOEXEC) == 0) {
    ::close(ends[0]);
    (void)::dup3(ends[1], fuse_session_fd(session), O_CLOEXEC);
    ::close(ends[1]);
  }
  if (!gone_ || ends[0] >= 0) fuse_session_unmount(session);
  fuse_session_destroy(session);
}

int KernelMount::fd() const { return fuse_session_fd(as_session(session_)); }

Status KernelMount::unmount(bool detach) {
  Status done;
  if (::geteuid() == 0) {
    if (::umount2(mountpoint_.c_str(), UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) != 0) done = from_errno(errno);
  } else {
    done = run_fusermount(mountpoint_, detach);
  }
  if (done) gone_ = true;
  return done;
}

}  // namespace udax::fuse

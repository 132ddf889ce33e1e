// SPDX-License-Identifier: BSD-3-Clause
//
// Workers that change their folders and log every operation outside of the pool: a line before it, a line when it was
// acknowledged. When the filesystem is taken away they end; after a re-mount, `verify` demands every acknowledged
// operation, byte by byte, and lets the one in flight have happened or not.
//
//   ack_writer run FOLDER LOGS WORKERS SEED [OPERATIONS]   to the end of the filesystem, or of OPERATIONS a worker
//   ack_writer verify FOLDER LOGS WORKERS SEED
//
// Log of worker w: LOGS/w. "I <operation>" intended, "A <seq>" acknowledged. Exit status: 0 as it must be, 1 not.
// Workers of odd numbers work in a folder whose files are DAX files, if the filesystem knows of such.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/stress/ack_writer_model.h"

namespace udax::stress {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

int errno_of(int64_t result) { return result < 0 ? errno : 0; }

// ---- doing an operation; each gives an errno ---------------------------------------------------------------------

class Doer {
 public:
  Doer(std::string top, uint64_t seed) : top_(std::move(top)), seed_(seed) {}

  int run(const Op& op) {
    const std::string a = top_ + "/" + op.a;
    const std::string b = top_ + "/" + op.b;
    const auto& n = op.numbers;
    switch (op.kind) {
      case Kind::kCreate: {
        const Fd fd(::open(a.c_str(), O_WRONLY | O_CREAT | O_EXCL, static_cast<mode_t>(n[0])));
        return fd.ok() ? 0 : errno;
      }
      case Kind::kWrite:
      case Kind::kAppend: return write(op, a);
      case Kind::kMapWrite: return map_write(op, a);
      case Kind::kTruncate: return errno_of(::truncate(a.c_str(), static_cast<off_t>(n[0])));
      case Kind::kFallocate: {
        const Fd fd(::open(a.c_str(), O_RDWR));
        if (!fd.ok()) return errno;
        return errno_of(
            ::fallocate(fd.get(), static_cast<int>(n[0]), static_cast<off_t>(n[1]), static_cast<off_t>(n[2])));
      }
      case Kind::kCopy: return copy(op, a, b);
      case Kind::kTmpFile: return tmpfile(op, a, b);
      case Kind::kRename:
        return errno_of(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), static_cast<unsigned>(n[0])));
      case Kind::kLink: return errno_of(::link(a.c_str(), b.c_str()));
      case Kind::kSymlink: return errno_of(::symlink(op.a.c_str(), b.c_str()));
      case Kind::kUnlink: return errno_of(::unlink(a.c_str()));
      case Kind::kMkdir: return errno_of(::mkdir(a.c_str(), static_cast<mode_t>(n[0])));
      case Kind::kRmdir: return errno_of(::rmdir(a.c_str()));
      case Kind::kChmod: return errno_of(::chmod(a.c_str(), static_cast<mode_t>(n[0])));
      case Kind::kSetXattr: {
        const std::string value = bytes_of(seed_, op.seq, 0, n[0]);
        return errno_of(::setxattr(a.c_str(), op.b.c_str(), value.data(), value.size(), 0));
      }
      case Kind::kRemoveXattr: return errno_of(::removexattr(a.c_str(), op.b.c_str()));
    }
    return EINVAL;
  }

 private:
  static int write_at(int fd, const std::string& data, uint64_t offset, bool append) {
    for (size_t done = 0; done < data.size();) {
      const char* from = data.data() + done;
      const size_t left = data.size() - done;
      const ssize_t wrote =
          append ? ::write(fd, from, left) : ::pwrite(fd, from, left, static_cast<off_t>(offset + done));
      if (wrote < 0) return errno;
      done += static_cast<size_t>(wrote);
    }
    return 0;
  }

  // In turn: fsync, fdatasync, and files opened to be synchronous.
  static int make_durable(const Op& op, int fd) {
    if (op.seq % 3 == 0) return errno_of(::fsync(fd));
    return op.seq % 3 == 1 ? errno_of(::fdatasync(fd)) : 0;
  }

  int write(const Op& op, const std::string& path) const {
    const bool append = op.kind == Kind::kAppend;
    const Fd fd(::open(path.c_str(), O_WRONLY | (append ? O_APPEND : 0) | (op.seq % 3 == 2 ? O_SYNC : 0)));
    if (!fd.ok()) return errno;
    const auto& n = op.numbers;
    if (append) {
      if (const int error = write_at(fd.get(), bytes_of(seed_, op.seq, 0, n[0]), 0, true); error != 0)
        return error;
    }
    for (size_t i = 0; !append && i + 1 < n.size(); i += 2) {
      if (const int error = write_at(fd.get(), bytes_of(seed_, op.seq, i, n[i + 1]), n[i], false); error != 0)
        return error;
    }
    return make_durable(op, fd.get());
  }

  int map_write(const Op& op, const std::string& path) const {
    const Fd fd(::open(path.c_str(), O_RDWR));
    if (!fd.ok()) return errno;
    const uint64_t end = op.numbers[0] + op.numbers[1];
    void* map = ::mmap(nullptr, end, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    const std::string data = bytes_of(seed_, op.seq, 0, op.numbers[1]);
    if (map == MAP_FAILED && errno == ENODEV) {  // a DAX file, on a kernel before 6.6
      if (const int error = write_at(fd.get(), data, op.numbers[0], false); error != 0) return error;
      return errno_of(::fsync(fd.get()));
    }
    if (map == MAP_FAILED) return errno;
    std::memcpy(static_cast<char*>(map) + op.numbers[0], data.data(), data.size());
    const int error = op.seq % 2 == 0 ? errno_of(::msync(map, end, MS_SYNC)) : errno_of(::fsync(fd.get()));
    ::munmap(map, end);
    return error;
  }

  static int copy(const Op& op, const std::string& a, const std::string& b) {
    const Fd from(::open(a.c_str(), O_RDONLY));
    const Fd to(::open(b.c_str(), O_WRONLY));
    if (!from.ok() || !to.ok()) return errno;
    auto in = static_cast<off_t>(op.numbers[0]);
    auto out = static_cast<off_t>(op.numbers[1]);
    for (uint64_t left = op.numbers[2]; left > 0;) {
      const ssize_t copied = ::copy_file_range(from.get(), &in, to.get(), &out, left, 0);
      if (copied <= 0) return copied < 0 ? errno : EIO;
      left -= static_cast<uint64_t>(copied);
    }
    return errno_of(::fsync(to.get()));
  }

  int tmpfile(const Op& op, const std::string& folder, const std::string& name) const {
    const Fd fd(::open(folder.c_str(), O_TMPFILE | O_WRONLY, 0600));
    if (!fd.ok()) return errno;
    if (const int error = write_at(fd.get(), bytes_of(seed_, op.seq, 0, op.numbers[0]), 0, false); error != 0)
      return error;
    if (::fsync(fd.get()) != 0) return errno;
    const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
    return errno_of(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW));
  }

  std::string top_;
  uint64_t seed_;
};

// ---- the worker --------------------------------------------------------------------------------------------------

uint64_t seed_of(uint64_t seed, uint64_t worker) { return seed * 1000003 + worker; }
std::string folder_name(const std::string& top, uint64_t worker) { return top + "/w" + std::to_string(worker); }

/// The filesystem has been taken away: the daemon is dead, or the mount is off and its mount point shows what is below it.
bool is_gone(int error, const std::string& top) {
  // ECANCELED: what was under way by io_uring.
  if (error == ENOTCONN || error == ECONNABORTED || error == ECANCELED) return true;
  return error == ENOENT && ::access(top.c_str(), F_OK) != 0;
}

/// Live coherence: a file that nobody else writes must read as the model says.
std::string check_one(const State& state, const std::string& top, Random& random) {
  if (state.names.empty()) return "";
  auto it = state.names.begin();
  std::advance(it, static_cast<ptrdiff_t>(random.below(state.names.size())));
  if (it->second->type != Type::kFile) return "";
  const Fd fd(::open((top + "/" + it->first).c_str(), O_RDONLY));
  if (!fd.ok()) return is_gone(errno, top) ? "" : it->first + ": open: " + std::strerror(errno);
  std::string found(it->second->content.size() + 1, '\1');
  size_t done = 0;
  while (done < found.size()) {
    const ssize_t got = ::pread(fd.get(), found.data() + done, found.size() - done, static_cast<off_t>(done));
    if (got < 0) return is_gone(errno, top) ? "" : it->first + ": read: " + std::strerror(errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  found.resize(done);
  return found == it->second->content ? "" : it->first + ": read other bytes than were written";
}

[[noreturn]] void on_sigbus(int) { ::_exit(0); }  // a mapped page, and nobody there to give it

int work(const std::string& mount, const std::string& logs, uint64_t worker, uint64_t seed, uint64_t operations) {
  ::signal(SIGBUS, on_sigbus);
  ::umask(0);
  const std::string top = folder_name(mount, worker);
  const Fd log(
      ::open((logs + "/" + std::to_string(worker)).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_EXCL, 0644));
  if (!log.ok() || ::mkdir(top.c_str(), 0755) != 0) {
    std::perror("ack_writer: log or folder");
    return 1;
  }
  if (worker % 2 == 1 && ::setxattr(top.c_str(), "user.udax.dax", "1", 1, 0) != 0 && worker == 1) {
    std::printf("no DAX files here: %s\n", std::strerror(errno));
  }
  const auto write_line = [&](const std::string& line) {
    if (::write(log.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::abort();
  };
  State state;
  Random random(seed);
  Doer doer(top, seed);
  for (uint64_t seq = 1; seq <= operations; ++seq) {
    const Op op = draw(state, random, seq);
    write_line("I " + op.to_line() + "\n");
    if (const int error = doer.run(op); error != 0) {
      if (is_gone(error, top)) return 0;
      std::fprintf(stderr, "ack_writer: worker %lu: operation %s: %s\n", worker, op.to_line().c_str(),
                   std::strerror(error));
      return 1;
    }
    write_line("A " + std::to_string(seq) + "\n");
    state = stages(state, op, seed).back();
    if (!random.one_in(6)) continue;
    if (const std::string wrong = check_one(state, top, random); !wrong.empty()) {
      std::fprintf(stderr, "ack_writer: worker %lu after operation %lu: %s\n", worker, seq, wrong.c_str());
      return 1;
    }
  }
  return 0;
}

int run(const std::string& mount, const std::string& logs, uint64_t workers, uint64_t seed, uint64_t operations) {
  std::vector<pid_t> pids;
  for (uint64_t w = 0; w < workers; ++w) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      const int status = work(mount, logs, w, seed_of(seed, w), operations);
      std::fflush(nullptr);
      ::_exit(status);
    }
    pids.push_back(pid);
  }
  int result = 0;
  for (const pid_t pid : pids) {
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) result = 1;
  }
  return result;
}

// ---- after the crash ---------------------------------------------------------------------------------------------

struct Replayed {
  State state;
  std::optional<Op> in_flight;
  uint64_t acknowledged = 0;
};

std::optional<Replayed> replay(const std::string& path, uint64_t seed) {
  Replayed r;
  std::ifstream log(path);
  for (std::string line; std::getline(log, line);) {
    if (line.starts_with("I ")) {
      r.in_flight = Op::from_line(line.substr(2));
      if (!r.in_flight) return {};
    } else {
      if (!r.in_flight || line != "A " + std::to_string(r.in_flight->seq)) return {};
      auto after = stages(r.state, *r.in_flight, seed);
      if (after.empty()) return {};
      r.state = std::move(after.back());
      r.in_flight.reset();
      ++r.acknowledged;
    }
  }
  return r;
}

int verify(const std::string& mount, const std::string& logs, uint64_t workers, uint64_t seed) {
  int result = 0;
  uint64_t acknowledged = 0;
  uint64_t files = 0;
  for (uint64_t w = 0; w < workers; ++w) {
    const std::string log = logs + "/" + std::to_string(w);
    if (!std::filesystem::exists(log)) continue;  // killed before it began
    const auto wanted = replay(log, seed_of(seed, w));
    std::string wrong;
    if (!wanted) {
      wrong = "the log makes no sense";
    } else if (wanted->acknowledged > 0 || std::filesystem::exists(folder_name(mount, w))) {
      const auto found = read_folder(folder_name(mount, w), &wrong);
      if (found) {
        wrong = wanted->in_flight
                    ? difference_in_flight(wanted->state, *wanted->in_flight, seed_of(seed, w), *found)
                    : difference(wanted->state, *found);
        files += found->names.size();
      }
      acknowledged += wanted->acknowledged;
    }
    if (!wrong.empty()) {
      std::fprintf(stderr, "ack_writer: seed %lu, worker %lu: %s\n", seed, w, wrong.c_str());
      result = 1;
    }
  }
  std::printf("%lu acknowledged operations of %lu workers, %lu files: %s\n", acknowledged, workers, files,
              result == 0 ? "all as they must be" : "WRONG");
  return result;
}

}  // namespace
}  // namespace udax::stress

int main(int argc, char** argv) {
  using namespace udax::stress;
  const std::string what = argc >= 6 ? argv[1] : "";
  if (what != "run" && what != "verify") {
    std::fprintf(stderr, "usage: ack_writer run|verify FOLDER LOGS WORKERS SEED [OPERATIONS]\n");
    return 2;
  }
  const uint64_t workers = std::strtoull(argv[4], nullptr, 10);
  const uint64_t seed = std::strtoull(argv[5], nullptr, 10);
  if (what == "verify") return verify(argv[2], argv[3], workers, seed);
  const uint64_t operations = argc > 6 ? std::strtoull(argv[6], nullptr, 10) : UINT64_MAX;
  return run(argv[2], argv[3], workers, seed, operations);
}

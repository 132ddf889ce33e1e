// SPDX-License-Identifier: BSD-3-Clause
//
// Latency of single system calls on several mounts at once: a client that knows nothing of what it talks to. Rounds go
// over all folders in turn, so that a busy moment of the machine falls on all; the first folder is the one that the
// others are compared with.
//
// Attributes and names are kept by the kernel between calls: what is measured as "stat" is a hit there, "statx, asked
// anew" goes to the filesystem every time. Files with the DAX flag bypass the page cache; where the flag cannot be
// set (a peer), the same calls go to a file without it.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/bench/side_by_side.h"

namespace udax::bench {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 4096;  // 16 MiB
constexpr unsigned kFiles = 1000;

struct Arguments {
  unsigned rounds = 20;
  unsigned batch = 200;
  std::string csv;
  Folders folders;
};

class Fd {
 public:
  Fd(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    must(fd_ >= 0, path);
  }
  ~Fd() { ::close(fd_); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

bool set_dax(int fd) {
  constexpr int kDaxFlag = 0x02000000;             // FS_DAX_FL
  constexpr unsigned long kSetFlags = 0x40086602;  // FS_IOC_SETFLAGS
  int flags = kDaxFlag;
  return ::ioctl(fd, kSetFlags, &flags) == 0;
}

/// One folder under test, with its files.
class Subject {
 public:
  Subject(std::string label, const std::string& folder) : label_(std::move(label)), top_(folder + "/latency") {
    must(::mkdir(top_.c_str(), 0755) == 0, top_);
    for (unsigned i = 0; i < kFiles; ++i) Fd(name(i), O_CREAT | O_EXCL | O_WRONLY);
    std::array<char, kBlock> block{};
    for (const char* kind : {"cached", "dax"}) {
      const std::string path = top_ + "/" + kind;
      {
        const Fd made(path, O_CREAT | O_EXCL | O_RDWR);
        if (std::string(kind) == "dax") has_dax_ = set_dax(made.get());
      }
      // Opened anew: how a descriptor is cached is settled when it is opened.
      auto file = std::make_unique<Fd>(path, O_RDWR);
      for (uint64_t b = 0; b < kBlocks; ++b) {
        must(::pwrite(file->get(), block.data(), kBlock, static_cast<off_t>(b * kBlock)) == kBlock, path);
      }
      must(::fsync(file->get()) == 0, path);
      (std::string(kind) == "dax" ? dax_ : cached_) = std::move(file);
    }
  }

  [[nodiscard]] const std::string& label() const { return label_; }
  [[nodiscard]] const std::string& top() const { return top_; }
  [[nodiscard]] std::string name(uint64_t i) const { return top_ + "/file" + std::to_string(i); }
  [[nodiscard]] int cached() const { return cached_->get(); }
  [[nodiscard]] int dax() const { return dax_->get(); }
  [[nodiscard]] bool has_dax() const { return has_dax_; }

 private:
  std::string label_;
  std::string top_;
  std::unique_ptr<Fd> cached_;
  std::unique_ptr<Fd> dax_;
  bool has_dax_ = false;
};

struct Operation {
  const char* name;
  std::function<void(Subject&, Random&)> run;
};

off_t any_block(Random& random) { return static_cast<off_t>(random.below(kBlocks) * kBlock); }

void read_at(int fd, Random& random) {
  std::array<char, kBlock> block{};
  must(::pread(fd, block.data(), kBlock, any_block(random)) == kBlock, "pread");
}

void write_at(int fd, Random& random) {
  const std::array<char, kBlock> block{};
  must(::pwrite(fd, block.data(), kBlock, any_block(random)) == kBlock, "pwrite");
}

void stat_anew(Subject& s, Random& random) {
  struct statx st {};
  must(::statx(AT_FDCWD, s.name(random.below(kFiles)).c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) == 0,
       "statx");
}

std::vector<Operation> operations() {
  return {
      {"stat",
       [](Subject& s, Random& r) {
         struct stat st {};
         must(::stat(s.name(r.below(kFiles)).c_str(), &st) == 0, "stat");
       }},
      {"statx, asked anew", stat_anew},
      {"stat of no file",
       [](Subject& s, Random&) {
         struct stat st {};
         must(::stat((s.top() + "/none").c_str(), &st) != 0, "stat of no file");
       }},
      {"open + close", [](Subject& s, Random& r) { const Fd file(s.name(r.below(kFiles)), O_RDONLY); }},
      {"create + close + unlink",
       [](Subject& s, Random&) {
         const std::string path = s.top() + "/new";
         { const Fd file(path, O_CREAT | O_EXCL | O_WRONLY); }
         must(::unlink(path.c_str()) == 0, "unlink");
       }},
      {"mkdir + rmdir",
       [](Subject& s, Random&) {
         const std::string path = s.top() + "/new";
         must(::mkdir(path.c_str(), 0755) == 0, "mkdir");
         must(::rmdir(path.c_str()) == 0, "rmdir");
       }},
      {"rename there and back",
       [](Subject& s, Random&) {
         const std::string there = s.top() + "/moved";
         must(::rename(s.name(0).c_str(), there.c_str()) == 0, "rename");
         must(::rename(there.c_str(), s.name(0).c_str()) == 0, "rename");
       }},
      {"chmod",
       [](Subject& s, Random& r) {
         must(::chmod(s.name(r.below(kFiles)).c_str(), 0600U + static_cast<mode_t>(r.below(8))) == 0, "chmod");
       }},
      {"pread 4 KiB, cached", [](Subject& s, Random& r) { read_at(s.cached(), r); }},
      {"pread 4 KiB, DAX", [](Subject& s, Random& r) { read_at(s.dax(), r); }},
      {"pwrite 4 KiB, cached", [](Subject& s, Random& r) { write_at(s.cached(), r); }},
      {"pwrite 4 KiB, DAX", [](Subject& s, Random& r) { write_at(s.dax(), r); }},
      {"pwrite 4 KiB + fsync, cached",
       [](Subject& s, Random& r) {
         write_at(s.cached(), r);
         must(::fsync(s.cached()) == 0, "fsync");
       }},
      {"pwrite 4 KiB + fsync, DAX",
       [](Subject& s, Random& r) {
         write_at(s.dax(), r);
         must(::fsync(s.dax()) == 0, "fsync");
       }},
      {"fsync, nothing to do", [](Subject& s, Random&) { must(::fsync(s.dax()) == 0, "fsync"); }},
  };
}

bool parse(int argc, char** argv, Arguments& out) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : ""; };
    if (word == "--rounds") {
      out.rounds = static_cast<unsigned>(std::strtoul(value(), nullptr, 0));
    } else if (word == "--batch") {
      out.batch = static_cast<unsigned>(std::strtoul(value(), nullptr, 0));
    } else if (word == "--csv") {
      out.csv = value();
    } else if (!take_folder(word, out.folders)) {
      return false;
    }
  }
  return out.rounds > 0 && out.batch > 0 && !out.folders.empty();
}

void measure(const Arguments& arguments, std::FILE* csv) {
  std::vector<std::unique_ptr<Subject>> subjects;
  for (const auto& [label, path] : arguments.folders) subjects.push_back(std::make_unique<Subject>(label, path));
  std::vector<std::string> labels;
  for (const auto& s : subjects) labels.push_back(s->label() + (s->has_dax() ? "" : " (no DAX)"));
  tell_heads(labels, csv);
  Random random(1);
  for (const Operation& op : operations()) {
    std::vector<Samples> samples(subjects.size());
    for (unsigned round = 0; round < arguments.rounds; ++round) {
      for (size_t i = 0; i < subjects.size(); ++i) {
        for (unsigned n = 0; n < arguments.batch; ++n) {
          const uint64_t start = now_ns();
          op.run(*subjects[i], random);
          samples[i].push_back(static_cast<double>(now_ns() - start));
        }
      }
    }
    tell(op.name, labels, samples, csv);
  }
}

}  // namespace
}  // namespace udax::bench

int main(int argc, char** argv) {
  using namespace udax::bench;
  Arguments arguments;
  if (!parse(argc, argv, arguments)) {
    std::fputs(
        "Usage: bench_latency [--rounds N] [--batch N] [--csv FILE] LABEL=FOLDER...\n"
        "The first folder is what the others are compared with.\n",
        stderr);
    return 2;
  }
  return run_and_tell("bench_latency", arguments.csv, [&](std::FILE* csv) { measure(arguments, csv); });
}

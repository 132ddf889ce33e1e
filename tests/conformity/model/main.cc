// SPDX-License-Identifier: BSD-3-Clause
//
// vfs_model DIR: random calls on DIR, an empty folder, and on a model in memory that says what each must give.
//
// UDAX_SEED   the seed to take instead of a new one; it is printed
// UDAX_OPS    how many calls (20000)
// UDAX_PEER   set: DIR is on another filesystem than ours
// UDAX_MODEL_LIE  a rule that the model gets wrong on purpose: "sticky", "setuid", "errno" or "bytes"
//
// As root, calls are made on behalf of root and of two users; as a user, on the user's.
// Exit status: 0 they agree; 1 they do not, the calls that led to it are printed; 2 it could not be tried.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/conformity/model/model.h"
#include "tests/conformity/model/real.h"

namespace udax::vfs_model {
namespace {

constexpr size_t kHistory = 40;        // calls that are printed
constexpr uint64_t kCheckEvery = 250;  // calls

uint64_t number_of(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string in(std::string path, const std::string& name) {
  path += '/';
  path += name;
  return path;
}

int protection(const char* name) {
  int value = 0;
  std::ifstream(std::string("/proc/sys/fs/protected_") + name) >> value;
  return value;
}

/// Compares the trees; says what differs, or nothing. Looks without changing times, as far as the one who runs this may.
class TreeCheck {
 public:
  TreeCheck(const Model& model, const Who& who) : model_(model), who_(who) {}
  std::string run() { return folder(model_.top(), "."); }

 private:
  std::string folder(const Node& node, const std::string& path) {
    if (model_.may_see(node, who_, 4)) {
      std::string expected;
      for (const auto& [name, child] : node.entries) {
        expected += name;
        expected += '\n';
      }
      if (const Outcome found = Real::list(path, O_NOATIME); found != Outcome{0, expected}) {
        return path + " has the names\n" + to_string(found) + "\nand not\n" + expected;
      }
    }
    if (!model_.may_see(node, who_, 1)) return {};
    for (const auto& [name, child] : node.entries) {
      if (std::string wrong = one(*child, in(path, name)); !wrong.empty()) return wrong;
    }
    return {};
  }

  std::string one(const Node& node, const std::string& path) {
    const Outcome found = Real::describe(path);
    if (const Outcome expected = Model::describe(node, found); found != expected) {
      return path + " is " + to_string(found) + ", and should be " + to_string(expected);
    }
    if (node.is_symlink()) return {};
    if (node.is_dir()) return folder(node, path);
    if (!node.is_file() || !model_.may_see(node, who_, 4)) return {};
    if (bytes(path, node.bytes.size() + 1) != node.bytes) return path + " has other bytes";
    for (const auto& [name, value] : node.xattrs) {
      std::string buffer(4096, '\0');
      const ssize_t length = ::getxattr(path.c_str(), name.c_str(), buffer.data(), buffer.size());
      if (length < 0 || buffer.substr(0, static_cast<size_t>(length)) != value)
        return in(path, name) + ": another value of the xattr";
    }
    return {};
  }

  static std::string bytes(const std::string& path, size_t most) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_NOATIME);
    std::string buffer(most, '\0');
    const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), 0);
    ::close(fd);
    return got < 0 ? "not readable" : buffer.substr(0, static_cast<size_t>(got));
  }

  const Model& model_;
  const Who who_;
};

/// So that a user can remove what is there.
void open_up(const Node& node, const std::string& path) {
  for (const auto& [name, child] : node.entries) {
    if (!child->is_dir()) continue;
    const std::string inner = in(path, name);
    ::chmod(inner.c_str(), 0700);
    open_up(*child, inner);
  }
}

void collect(const Node& node, const std::string& path, std::vector<std::string>& paths) {
  for (const auto& [name, child] : node.entries) {
    paths.push_back(path + name);
    collect(*child, path + name + "/", paths);
  }
}

class Run {
 public:
  Run(uint64_t seed, const Who& me, const std::vector<Who>& users, const Rules& rules)
      : generator_(seed, users), model_(me, rules), real_(me.uid == 0), me_(me) {}

  bool step() {
    std::vector<std::string> existing;
    collect(model_.top(), "", existing);
    const Op op = generator_.next(existing);
    if (model_.leaves(op)) return true;
    const Outcome found = real_.apply(op);
    const Outcome expected = model_.apply(op, found);
    history_.push_back(to_string(op) + " = " + to_string(expected));
    if (history_.size() > kHistory) history_.pop_front();
    ++done_;
    ++(found.error == 0 ? successes_ : refusals_).at(static_cast<size_t>(op.call));
    if (found == expected) return true;
    complain("the call gave " + to_string(found));
    return false;
  }

  bool check() {
    const std::string wrong = TreeCheck(model_, me_).run();
    if (!wrong.empty()) complain(wrong);
    return wrong.empty();
  }

  void clean() const { open_up(model_.top(), "."); }
  [[nodiscard]] uint64_t done() const { return done_; }
  /// Successes and refusals of each call.
  void tell_coverage() const {
    for (size_t i = 0; i < successes_.size(); ++i) {
      std::printf(" %s %u+%u", name_of(static_cast<Call>(i)), successes_.at(i), refusals_.at(i));
    }
    std::printf("\n");
  }

 private:
  void complain(const std::string& what) const {
    for (const std::string& line : history_) std::printf("  %s\n", line.c_str());
    std::printf("after %llu calls: %s\n", static_cast<unsigned long long>(done_), what.c_str());  // NOLINT
  }

  Generator generator_;
  Model model_;
  Real real_;
  const Who me_;
  std::deque<std::string> history_;
  uint64_t done_ = 0;
  std::array<unsigned, static_cast<size_t>(Call::kCount)> successes_{};
  std::array<unsigned, static_cast<size_t>(Call::kCount)> refusals_{};
};

int run(const char* dir) {
  const Who me{::geteuid(), ::getegid(), ::getegid()};
  std::vector<Who> users{me};
  if (me.uid == 0) users = {me, me, {1001, 1001, 2001}, {1001, 1001, 2001}, {1002, 1002, 2001}};
  const char* const lie = std::getenv("UDAX_MODEL_LIE");
  Rules rules{protection("hardlinks"),
              protection("symlinks"),
              protection("regular"),
              protection("fifos"),
              std::getenv("UDAX_PEER") == nullptr,
              lie == nullptr ? "" : lie};
  const uint64_t seed = number_of("UDAX_SEED", std::random_device()());
  const uint64_t ops = number_of("UDAX_OPS", 20000);
  std::printf("UDAX_SEED=%llu UDAX_OPS=%llu\n", static_cast<unsigned long long>(seed),  // NOLINT: printf's type
              static_cast<unsigned long long>(ops));                                    // NOLINT
  ::umask(0);
  const std::string work = std::string(dir) + "/model";
  if (::mkdir(work.c_str(), 0777) != 0 || ::chdir(work.c_str()) != 0) {
    std::perror(work.c_str());
    return 2;
  }
  bool agree = true;
  {
    Run run(seed, me, users, rules);
    for (uint64_t i = 1; i <= ops && agree; ++i) agree = run.step() && (i % kCheckEvery != 0 || run.check());
    agree = agree && run.check();
    run.clean();
    run.tell_coverage();
    std::printf("%llu calls: %s\n", static_cast<unsigned long long>(run.done()),  // NOLINT: printf's type
                agree ? "as the model says" : "NOT as the model says");
  }
  std::error_code error;
  if (::chdir("/") != 0 || std::filesystem::remove_all(work, error) == 0 || error) {
    std::printf("%s cannot be removed: %s\n", work.c_str(), error.message().c_str());
    return 2;
  }
  return agree ? 0 : 1;
}

}  // namespace
}  // namespace udax::vfs_model

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: vfs_model DIR\n");
    return 2;
  }
  return udax::vfs_model::run(argv[1]);
}

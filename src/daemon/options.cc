// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

namespace udax::daemon {
namespace {

constexpr uint32_t kThreadsMax = 64;
constexpr double kTimeoutMaxSeconds = 1e9;

// What is collected before it becomes the kernel's options.
struct Collected {
  Options options;
  bool root = false;
  bool sloppy = false;  // mount(8)'s -s: pass over what is not understood
  bool suid = true;
  bool dev = true;
  bool exec = true;
  bool sync = false;
  bool dirsync = false;
  bool allow_other = false;
};

class Failure {
 public:
  explicit Failure(std::string* why) : why_(why) {}
  Error operator()(std::string text) const {
    if (why_ != nullptr) *why_ = std::move(text);
    return Error::kInvalid;
  }

 private:
  std::string* why_;
};

Result<uint64_t> parse_timeout(std::string_view text) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) return Error::kInvalid;
  if (!(seconds >= 0 && seconds <= kTimeoutMaxSeconds)) return Error::kInvalid;
  return static_cast<uint64_t>(seconds * 1e9);
}

// fstab(5) and mount(8) deal with these; mount.fuse3 passes some of them on.
bool is_of_fstab(std::string_view key) {
  static constexpr std::array kKeys{"defaults", "auto",  "noauto", "nofail",  "user",     "nouser",    "users",
                                    "nousers",  "owner", "group",  "_netdev", "comment",  "uhelper",   "helper",
                                    "silent",   "loud",  "mand",   "nomand",  "iversion", "noiversion"};
  return key.starts_with("x-") || key.starts_with("X-") ||
         std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

// Options without a value. False: not one of them.
bool take_flag(Collected& c, std::string_view key) {
  fs::MountOptions& fs = c.options.fs;
  if (key == "ro")
    fs.read_only = true;
  else if (key == "rw")
    fs.read_only = false;
  else if (key == "dax")
    fs.dax = fs::DaxMode::kAlways;
  else if (key == "relatime" || key == "atime" || key == "nostrictatime")
    fs.atime = fs::AtimeMode::kRelative;
  else if (key == "noatime")
    fs.atime = fs::AtimeMode::kNever;
  else if (key == "strictatime" || key == "norelatime")
    fs.atime = fs::AtimeMode::kStrict;
  else if (key == "suid" || key == "nosuid")
    c.suid = key == "suid";
  else if (key == "dev" || key == "nodev")
    c.dev = key == "dev";
  else if (key == "exec" || key == "noexec")
    c.exec = key == "exec";
  else if (key == "sync" || key == "async")
    c.sync = key == "sync";
  else if (key == "dirsync")
    c.dirsync = true;
  else if (key == "allow_other")
    c.allow_other = true;
  else if (key == "noallow_other")
    c.allow_other = false;
  // Always so: permissions are checked by the kernel; reading a directory does not change it here.
  else
    return key == "default_permissions" || key == "diratime" || key == "nodiratime" || key == "lazytime" ||
           key == "nolazytime";
  return true;
}

// Options with a value. Empty: not one of them.
/// Sets `to` to what `value` stands for. `whole`: the option as given.
template <typename T>
Status choose(T& to, const std::string& whole, std::string_view value, const Failure& fail,
              std::initializer_list<std::pair<const char*, T>> choices) {
  std::string known;
  for (const auto& [name, meaning] : choices) {
    if (value == name) {
      to = meaning;
      return {};
    }
    if (!known.empty()) known += name == (choices.end() - 1)->first ? " or " : ", ";
    known += whole.substr(0, whole.find('=') + 1) + name;
  }
  return fail("option '" + whole + "': it is " + known);
}

std::optional<Status> take_value(Collected& c, std::string_view key, std::string_view value, const Failure& fail) {
  Options& o = c.options;
  const std::string whole = std::string(key) + "=" + std::string(value);
  const auto timeout = [&](uint64_t& to) -> Status {
    const auto ns = parse_timeout(value);
    if (!ns) return fail("option '" + whole + "': a time in seconds is needed, such as 1.5");
    to = *ns;
    return {};
  };
  if (key == "entry_timeout") return timeout(o.entry_timeout_ns);
  if (key == "attr_timeout") return timeout(o.attr_timeout_ns);
  if (key == "negative_timeout") return timeout(o.negative_timeout_ns);
  if (key == "dax") {
    return choose(
        o.fs.dax, whole, value, fail,
        {{"inode", fs::DaxMode::kInode}, {"always", fs::DaxMode::kAlways}, {"never", fs::DaxMode::kNever}});
  }
  if (key == "data") {
    return choose(o.fs.data, whole, value, fail,
                  {{"inplace", fs::DataMode::kInPlace}, {"atomic", fs::DataMode::kAtomic}});
  }
  if (key == "transport") {
    using fuse::Transport;
    return choose(o.transport, whole, value, fail,
                  {{"auto", Transport::kAuto}, {"uring", Transport::kUring}, {"dev", Transport::kDevice}});
  }
  if (key == "direct") {
    auto policy = direct::Policy::parse(value);
    if (!policy) return fail("option '" + whole + "': it is direct=off, direct=owner or direct=uid:N[:N...]");
    o.direct = std::move(*policy);
    return Status();
  }
  if (key == "threads") {
    uint32_t n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size() || n < 1 || n > kThreadsMax) {
      return fail("option '" + whole + "': a number from 1 to " + std::to_string(kThreadsMax) + " is needed");
    }
    o.threads = n;
    return Status();
  }
  if (key == "loglevel") {
    const auto level = parse_log_level(value);
    if (!level) return fail("option '" + whole + "': it is trace, debug, info, warning or error");
    o.log_level = *level;
    return Status();
  }
  if (key == "fsname") {
    if (value.empty()) return fail("option 'fsname=': a name is needed");
    o.fsname = value;
    return Status();
  }
  if (key == "subtype") {
    if (value == "udaxfs") return Status();
    return fail("option '" + whole + "': the subtype is always udaxfs");
  }
  return std::nullopt;
}

Status take_option(Collected& c, std::string_view word, const Failure& fail) {
  const size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  if (key == "remount") {
    return fail("option 'remount': a mounted pool cannot be remounted; unmount it and mount it again");
  }
  if (key == "allow_root") {
    return fail("option 'allow_root' is not supported; allow_other is (and is the default for root)");
  }
  if (is_of_fstab(key)) return {};
  if (equals == std::string_view::npos) {
    if (take_flag(c, key)) return {};
  } else if (const auto taken = take_value(c, key, word.substr(equals + 1), fail)) {
    return *taken;
  }
  if (c.sloppy) return {};
  return fail("unknown option '" + std::string(word) + "'");
}

Status take_list(Collected& c, std::string_view list, const Failure& fail) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view word = list.substr(0, comma);
    if (!word.empty()) UDAX_CHECK(take_option(c, word, fail));
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return {};
}

void finish(Collected& c) {
  Options& o = c.options;
  auto& to = o.mount_options;
  to.push_back("subtype=udaxfs");
  to.push_back("default_permissions");
  if (c.allow_other) to.push_back("allow_other");
  to.push_back(o.fs.read_only ? "ro" : "rw");
  // mount(8) does not pass the defaults suid and dev on, and libfuse takes their absence for nosuid and nodev. Users
  // other than root always get those two.
  if (c.root) {
    to.push_back(c.suid ? "suid" : "nosuid");
    to.push_back(c.dev ? "dev" : "nodev");
  }
  if (!c.exec) to.push_back("noexec");
  if (c.sync) to.push_back("sync");
  if (c.dirsync) to.push_back("dirsync");
  if (o.fs.atime == fs::AtimeMode::kNever) to.push_back("noatime");
  o.fs.count_lookups = true;
}

class Parser {
 public:
  Parser(std::span<const char* const> argv, bool root, std::string* why) : argv_(argv), fail_(why) {
    c_.root = root;
    c_.allow_other = root;
    std::string_view program = argv.empty() ? "" : argv[0];
    program = program.substr(program.rfind('/') + 1);
    helper_ = program.starts_with("mount.");
  }

  Result<Options> run() {
    for (at_ = 1; at_ < argv_.size(); ++at_) {
      const std::string_view word = argv_[at_];
      if (only_operands_ || word.size() < 2 || word[0] != '-') {
        operands_.emplace_back(word);
      } else if (word == "--") {
        only_operands_ = true;
      } else if (word.starts_with("--")) {
        UDAX_CHECK(long_option(word));
      } else {
        UDAX_CHECK(letters(word.substr(1)));
      }
    }
    return conclude();
  }

 private:
  Result<Options> conclude() {
    Options& o = c_.options;
    if (o.action == Options::Action::kHelp || o.action == Options::Action::kVersion) return std::move(o);
    // Lists last: -s may stand behind -o.
    for (const std::string_view list : lists_) UDAX_CHECK(take_list(c_, list, fail_));
    if (operands_.empty()) return fail_("a pool and a mount point are needed");
    if (operands_.size() == 1) return fail_("a mount point is needed after the pool '" + operands_[0] + "'");
    if (operands_.size() > 2) return fail_("unexpected argument '" + operands_[2] + "'");
    if (operands_[0].empty()) return fail_("the pool's path is empty");
    if (operands_[1].empty()) return fail_("the mount point's path is empty");
    o.pool = operands_[0];
    o.mountpoint = operands_[1];
    finish(c_);
    return std::move(o);
  }

  Status long_option(std::string_view word) {
    if (word == "--help")
      c_.options.action = Options::Action::kHelp;
    else if (word == "--version")
      c_.options.action = Options::Action::kVersion;
    else
      return fail_("unknown option '" + std::string(word) + "'");
    return {};
  }

  // A word of option letters, the dash taken off.
  Status letters(std::string_view word) {
    for (size_t i = 0; i < word.size(); ++i) {
      const char letter = word[i];
      if (letter == 'o' || (helper_ && (letter == 't' || letter == 'N'))) {
        std::string_view value = word.substr(i + 1);
        if (value.empty()) {
          if (at_ + 1 >= argv_.size()) return fail_(std::string("option -") + letter + " needs an argument");
          value = argv_[++at_];
        }
        if (letter == 'N') return fail_("option -N: mounting in another namespace is not supported");
        if (letter == 'o') lists_.push_back(value);
        return {};
      }
      if (!take_letter(letter)) return fail_(std::string("unknown option -") + letter);
    }
    return {};
  }

  bool take_letter(char letter) {
    Options& o = c_.options;
    switch (letter) {
      case 'h': o.action = Options::Action::kHelp; return true;
      case 'V': o.action = Options::Action::kVersion; return true;
      case 'd':
        o.foreground = true;
        o.log_level = LogLevel::kTrace;
        return true;
      case 'f':  // mount(8) means "fake" by it
        if (helper_) {
          o.action = Options::Action::kNothing;
        } else {
          o.foreground = true;
        }
        return true;
      case 's': c_.sloppy = true; return helper_;
      case 'n':  // do not write /etc/mtab
      case 'v': return helper_;
      default: return false;
    }
  }

  std::span<const char* const> argv_;
  Failure fail_;
  Collected c_;
  bool helper_ = false;
  bool only_operands_ = false;
  size_t at_ = 0;
  std::vector<std::string> operands_;
  std::vector<std::string_view> lists_;
};

}  // namespace

Result<Options> parse_options(std::span<const char* const> argv, bool root, std::string* why) {
  return Parser(argv, root, why).run();
}

const char* usage() {
  return "usage: udaxfs POOL MOUNTPOINT [-o option,...] [-f] [-d]\n"
         "\n"
         "Mounts the udaxfs pool POOL (a file, or /dev/daxX.Y) on MOUNTPOINT.\n"
         "\n"
         "  -f                    stay in the foreground, log to standard error\n"
         "  -d                    like -f, and log every request\n"
         "  -h, --help            print this\n"
         "  -V, --version         print the version\n"
         "\n"
         "options of -o:\n"
         "  dax=inode|always|never  which files bypass the page cache (inode: those with the flag)\n"
         "  ro, rw                  read-only; read-write (default)\n"
         "  relatime, noatime, strictatime\n"
         "  allow_other, noallow_other  let other users in (default for root), or not\n"
         "  nosuid, nodev, noexec, sync, dirsync\n"
         "  fsname=NAME             what mount(8) shows as the source (default: POOL)\n"
         "  threads=N               threads that serve the mount (default 4)\n"
         "  transport=auto|uring|dev  how requests come: by io_uring where the kernel has it, or by /dev/fuse\n"
         "  entry_timeout=S, attr_timeout=S, negative_timeout=S\n"
         "                          seconds that the kernel keeps names, attributes, absences (default 86400)\n"
         "  loglevel=trace|debug|info|warning|error\n"
         "  data=inplace|atomic     overwrites are in place (default), or each write(2) up to 1 MiB is all or "
         "nothing\n"
         "  direct=off|owner|uid:N[:N...]\n"
         "                          who may map files as the pool's own memory, and so read and write all of it\n";
}

}  // namespace udax::daemon

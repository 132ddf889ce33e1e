// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/session.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tools/storm/generator.h"

namespace udax::storm {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kClockSlack = 2 * kSecond;  // a filesystem's clock is coarser than ours
constexpr uint64_t kScanChanges = 2;          // of the directory, after each piece of a listing
constexpr uint64_t kScanPieces = kScanSteps / kScanChanges;

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

std::string error_name(int result) { return result == 0 ? "success" : std::strerror(-result); }

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string last_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string join(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + '/' + name;
}

std::string shown(const std::string& path) { return '"' + escape(path) + '"'; }

std::optional<Failure> wrong(std::string what) { return Failure{std::move(what), 0}; }

bool is_environment(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EROFS: return true;
    default: return false;
  }
}

std::optional<Failure> failed(const std::string& what, int result) {
  return Failure{what + ": " + std::strerror(-result), is_environment(-result) ? -result : 0};
}

// Such that a file's bytes are meant, not whatever a fifo or device would do.
bool opens_file(Kind kind) {
  return kind == Kind::kWrite || kind == Kind::kTruncate || kind == Kind::kOpen || kind == Kind::kRead ||
         kind == Kind::kFsync;
}

// POSIX lets these be either.
bool are_alike(Kind kind, int a, int b) {
  const auto are = [a, b](int x, int y) { return (a == x && b == y) || (a == y && b == x); };
  return are(-ENOTEMPTY, -EEXIST) || (kind == Kind::kUnlink && are(-EISDIR, -EPERM));
}

bool same_entry(const Entry& a, const Entry& b) {
  return a.name == b.name && (a.type == b.type || a.type == DT_UNKNOWN || b.type == DT_UNKNOWN);
}

}  // namespace

Session::Session(Namespace& real, Model& model, const Traits& traits, std::string shared_prefix)
    : real_(real), model_(model), traits_(traits), prefix_(std::move(shared_prefix)), begin_ns_(now_ns()) {}

bool Session::is_ours(const std::string& path) const {
  return !in_shared() || path.find('/') == std::string::npos || last_of(path).starts_with(prefix_);
}

// What follows symbolic links, or does other things than meant here, is left undone: the same whoever runs the log.
bool Session::makes_sense(const Op& op) {
  if (model_.crosses_symlink(op.path) || (has_two_paths(op.kind) && model_.crosses_symlink(op.to))) return false;
  const Model::Node* const node = model_.find(op.path);
  const bool special = node != nullptr && !node->is_dir() && !node->is_file() && !node->is_symlink();
  if (special && opens_file(op.kind)) return false;
  switch (op.kind) {
    case Kind::kCreate:
    case Kind::kMkdir:
    case Kind::kMknod:
    case Kind::kUnlink:
    case Kind::kRmdir: return !op.path.empty();
    case Kind::kSymlink:
    case Kind::kLink:
    case Kind::kRename:
    case Kind::kNoReplace:
    case Kind::kExchange: return !op.path.empty() && !op.to.empty();
    // A refused one may have touched the directory's times already (ext4).
    case Kind::kWhiteout:
      return node != nullptr && !op.path.empty() && !op.to.empty() && model_.find(op.to) == nullptr;
    case Kind::kChmod:
    case Kind::kTmpfile: return node == nullptr || !node->is_symlink();
    case Kind::kTruncate: return node == nullptr || !node->is_file() || node->bytes.size() != op.offset;
    case Kind::kSetxattr:
    case Kind::kRemovexattr: return op.to.starts_with("user.") && op.to.size() < 200;
    case Kind::kFlip: return node != nullptr && (node->is_file() || node->is_dir());
    case Kind::kList:
    case Kind::kScan: return node != nullptr && node->is_dir();
    case Kind::kSlotWrite:
    case Kind::kSlotLink:
    case Kind::kSlotCheck:
      return model_.slot(op.slot) != nullptr && (op.kind != Kind::kSlotLink || !op.path.empty());
    default: return true;
  }
}

Session::Verdict Session::run(const Op& op) {
  if (!makes_sense(op)) return std::nullopt;
  ++counters_.operations;
  if (only_looks(op.kind)) return look(op);
  if (in_shared()) {
    const bool ours = is_ours(op.path);
    if (has_two_paths(op.kind) && ours != is_ours(op.to)) return std::nullopt;
    if (!ours) return contend(op);
  }
  return change(op);
}

// Changes.

Session::Verdict Session::compare_result(const Op& op, int expected, int actual) {
  if (expected != 0) ++counters_.refused;
  if (expected == actual || are_alike(op.kind, expected, actual)) return std::nullopt;
  const std::string name = to_text(op);
  if (actual != 0 && is_environment(-actual)) return failed(name, actual);
  return wrong(name + " gave \"" + error_name(actual) + "\" instead of \"" + error_name(expected) + '"');
}

Session::Verdict Session::change(const Op& op) {
  const int actual = apply(real_, op);
  if (op.kind == Kind::kFlip && actual == -EBUSY) return std::nullopt;  // refused by name
  const int expected = apply(model_, op);
  if (Verdict verdict = compare_result(op, expected, actual)) return verdict;
  if (op.kind == Kind::kFlip) ++counters_.flips;
  const bool has_slot = op.kind >= Kind::kOpen && op.kind <= Kind::kSlotClose;
  if (has_slot && model_.slot(op.slot) != nullptr) {
    if (Verdict verdict = verify_slot(op.slot)) return verdict;
  }
  if (op.kind == Kind::kSlotWrite || op.kind == Kind::kSlotClose) return std::nullopt;
  if (Verdict verdict = verify_around(op.path)) return verdict;
  return has_two_paths(op.kind) ? verify_around(op.to) : std::nullopt;
}

// Names that everybody uses: what may happen, may.
Session::Verdict Session::contend(const Op& op) {
  static const std::map<Kind, std::set<int>> kAllowed = {
      {Kind::kCreate, {0, -EEXIST}},
      {Kind::kMkdir, {0, -EEXIST}},
      {Kind::kUnlink, {0, -ENOENT, -EISDIR, -EPERM}},
      {Kind::kRmdir, {0, -ENOENT, -ENOTDIR, -ENOTEMPTY}},
      {Kind::kRename, {0, -ENOENT, -EISDIR, -ENOTDIR, -ENOTEMPTY, -EEXIST}},
      {Kind::kNoReplace, {0, -ENOENT, -EEXIST}},
      {Kind::kExchange, {0, -ENOENT}},
      {Kind::kLink, {0, -ENOENT, -EEXIST, -EPERM}},
  };
  const auto allowed = kAllowed.find(op.kind);
  if (allowed == kAllowed.end()) return std::nullopt;
  const int actual = apply(real_, op);
  if (allowed->second.contains(actual)) return std::nullopt;
  if (is_environment(-actual)) return failed(to_text(op), actual);
  return wrong(to_text(op) + " gave \"" + error_name(actual) + "\", which nobody can have caused");
}

// Comparing.

Session::Verdict Session::verify_around(const std::string& path) {
  if (Verdict verdict = verify(path)) return verdict;
  if (path.empty() || in_shared()) return std::nullopt;
  const std::string parent = parent_of(path);
  return model_.crosses_symlink(parent) ? std::nullopt : verify(parent);
}

Session::Verdict Session::verify(const std::string& path) {
  Attributes expected;
  Attributes actual;
  const int wanted = model_.stat(path, expected);
  const int got = real_.stat(path, actual);
  if (wanted != got) {
    return wrong("stat of " + shown(path) + " gave \"" + error_name(got) + "\" instead of \"" +
                 error_name(wanted) + '"');
  }
  if (wanted != 0) return std::nullopt;
  if (in_shared() && S_ISDIR(expected.mode)) return std::nullopt;  // others change it
  return compare_attributes(shown(path), expected, actual);
}

Session::Verdict Session::compare_attributes(const std::string& what, const Attributes& expected,
                                             const Attributes& actual) {
  std::string difference;
  const auto compare = [&difference](const char* name, uint64_t wanted, uint64_t found, bool octal = false) {
    if (wanted == found) return;
    char text[96];
    std::snprintf(text, sizeof(text), octal ? " %s is %llo instead of %llo" : " %s is %llu instead of %llu", name,
                  static_cast<unsigned long long>(found), static_cast<unsigned long long>(wanted));
    difference += text;
  };
  compare("mode", expected.mode, actual.mode, true);
  if (!S_ISDIR(expected.mode) || traits_.counts_subdirs) compare("nlink", expected.nlink, actual.nlink);
  compare("uid", expected.uid, actual.uid);
  compare("gid", expected.gid, actual.gid);
  compare("size", expected.size, actual.size);
  compare("rdev", expected.rdev, actual.rdev);
  const auto [place, is_new] = seen_.try_emplace(expected.ino);
  Seen& seen = place->second;
  if (!is_new) compare("ino", seen.ino, actual.ino);
  if (!difference.empty()) return wrong(what + ':' + difference);
  if (is_new) {
    seen = {.ino = actual.ino, .mtime_ns = begin_ns_ - kClockSlack, .ctime_ns = begin_ns_ - kClockSlack};
    seen.mtime_version = UINT64_MAX;
  }
  return compare_times(what, expected, actual, seen);
}

// An mtime that nothing set since it was last seen is the same; one that an operation set is from then to now; ctime
// never goes back.
Session::Verdict Session::compare_times(const std::string& what, const Attributes& expected,
                                        const Attributes& actual, Seen& seen) {
  const bool changed = seen.mtime_version != expected.mtime_version;
  const int64_t latest = now_ns() + kClockSlack;
  int64_t low = seen.mtime_ns;
  int64_t high = seen.mtime_ns;
  if (expected.mtime_known) {
    low = high = expected.mtime_ns / traits_.time_unit_ns * traits_.time_unit_ns;
  } else if (changed) {
    low = seen.mtime_was_set ? begin_ns_ - kClockSlack : seen.mtime_ns;
    high = latest;
  }
  if (actual.mtime_ns < low || actual.mtime_ns > high) {
    return wrong(what + ": mtime is " + std::to_string(actual.mtime_ns) + ", which is not from " +
                 std::to_string(low) + " to " + std::to_string(high));
  }
  if (actual.ctime_ns < seen.ctime_ns || actual.ctime_ns > latest) {
    return wrong(what + ": ctime is " + std::to_string(actual.ctime_ns) + " after " +
                 std::to_string(seen.ctime_ns));
  }
  seen.mtime_ns = actual.mtime_ns;
  seen.ctime_ns = actual.ctime_ns;
  seen.mtime_version = expected.mtime_version;
  seen.mtime_was_set = expected.mtime_known;
  return std::nullopt;
}

namespace {

std::optional<Failure> compare_bytes(const std::string& what, const std::vector<std::byte>& expected,
                                     const std::vector<std::byte>& actual) {
  if (expected == actual) return std::nullopt;
  if (expected.size() != actual.size()) {
    return wrong(what + " has " + std::to_string(actual.size()) + " bytes instead of " +
                 std::to_string(expected.size()));
  }
  const auto place = std::ranges::mismatch(expected, actual);
  return wrong(what + " has another byte at " + std::to_string(place.in1 - expected.begin()) + ": " +
               std::to_string(static_cast<unsigned>(*place.in2)) + " instead of " +
               std::to_string(static_cast<unsigned>(*place.in1)));
}

}  // namespace

// What the type of it holds: bytes, a target, xattrs, the DAX flag.
Session::Verdict Session::verify_content(const std::string& path) {
  const Model::Node& node = *model_.find(path);
  if (node.is_symlink()) {
    std::string target;
    const int got = real_.readlink(path, target);
    if (got != 0) return failed("readlink of " + shown(path), got);
    if (target == node.target) return std::nullopt;
    return wrong(shown(path) + " points to " + shown(target) + " instead of " + shown(node.target));
  }
  if (!node.is_file() && !node.is_dir()) return std::nullopt;
  if (node.is_file()) {
    std::vector<std::byte> bytes;
    const int got = real_.read(path, bytes);
    if (got != 0) return failed("read of " + shown(path), got);
    if (Verdict verdict = compare_bytes(shown(path), node.bytes, bytes)) return verdict;
  }
  Xattrs xattrs;
  const int got = real_.xattrs(path, xattrs);
  if (got != 0 && got != -EOPNOTSUPP) return failed("xattrs of " + shown(path), got);
  if (xattrs != node.xattrs) {
    return wrong(shown(path) + " has other xattrs: " + std::to_string(xattrs.size()) + ", of " +
                 std::to_string(node.xattrs.size()));
  }
  if (!traits_.dax) return std::nullopt;
  const int dax = real_.get_dax(path);
  if (dax < 0) return failed("DAX flag of " + shown(path), dax);
  return dax == (node.dax ? 1 : 0) ? std::nullopt
                                   : wrong(shown(path) + " has the DAX flag " + std::to_string(dax));
}

Session::Verdict Session::verify_slot(uint8_t slot) {
  const std::string what = "the open file in slot " + std::to_string(slot);
  Attributes expected;
  Attributes actual;
  static_cast<void>(model_.slot_stat(slot, expected));
  const int got = real_.slot_stat(slot, actual);
  if (got != 0) return failed("fstat of " + what, got);
  return compare_attributes(what, expected, actual);
}

// Looking.

Session::Verdict Session::look(const Op& op) {
  switch (op.kind) {
    case Kind::kSlotCheck: {
      if (Verdict verdict = verify_slot(op.slot)) return verdict;
      std::vector<std::byte> expected;
      std::vector<std::byte> actual;
      static_cast<void>(model_.slot_read(op.slot, expected));
      const int got = real_.slot_read(op.slot, actual);
      if (got != 0) return failed("read of slot " + std::to_string(op.slot), got);
      return compare_bytes("slot " + std::to_string(op.slot), expected, actual);
    }
    case Kind::kStat: return is_ours(op.path) ? verify_around(op.path) : std::nullopt;
    case Kind::kRead: {
      const Model::Node* const node = model_.find(op.path);
      if (node != nullptr && (node->is_file() || node->is_symlink() || node->is_dir()))
        return verify_content(op.path);
      std::vector<std::byte> bytes;
      return compare_result(op, model_.read(op.path, bytes), real_.read(op.path, bytes));
    }
    case Kind::kList: return list(op.path);
    case Kind::kScan: return in_shared() ? list(op.path) : scan(op);
    default: return check_all();
  }
}

// In the shared tree: our names, each once; others come and go while we read.
Session::Verdict Session::list(const std::string& path) {
  std::vector<Entry> expected;
  std::vector<Entry> actual;
  static_cast<void>(model_.list(path, expected));
  const int got = real_.list(path, actual);
  if (got != 0) return failed("listing of " + shown(path), got);
  if (in_shared()) {
    std::erase_if(actual, [this, &path](const Entry& entry) { return !is_ours(join(path, entry.name)); });
  }
  std::ranges::sort(actual, {}, &Entry::name);
  if (!std::ranges::equal(expected, actual, same_entry)) {
    const auto place = std::ranges::mismatch(expected, actual, same_entry);
    return wrong("the listing of " + shown(path) + " has " + std::to_string(actual.size()) + " entries, of " +
                 std::to_string(expected.size()) +
                 "; the first that differs: " + (place.in2 == actual.end() ? "none" : shown(place.in2->name)) +
                 " instead of " + (place.in1 == expected.end() ? "none" : shown(place.in1->name)));
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto seen = seen_.find(expected[i].ino);
    if (seen != seen_.end() && seen->second.ino != actual[i].ino) {
      return wrong("the listing of " + shown(path) + " has another inode number for " + shown(actual[i].name));
    }
  }
  return std::nullopt;
}

// Names that are there from beginning to end come exactly once, whatever else changes.
Session::Verdict Session::scan(const Op& op) {
  std::vector<Entry> entries;
  static_cast<void>(model_.list(op.path, entries));
  std::set<std::string> stable;
  for (const Entry& entry : entries) stable.insert(entry.name);
  int got = real_.scan_begin(op.path);
  std::map<std::string, int> times;
  Verdict verdict;
  std::vector<Entry> piece;
  uint64_t number = 0;
  for (; got == 0 && !verdict; ++number) {
    got = real_.scan_next(piece);
    if (got != 0 || piece.empty()) break;
    for (const Entry& entry : piece) ++times[entry.name];
    if (number < kScanPieces) verdict = change_in_scan(op, number, stable);
  }
  real_.scan_end();
  if (verdict) return verdict;
  if (got != 0) return failed("scan of " + shown(op.path), got);
  for (const std::string& name : stable) {
    if (times[name] == 1) continue;
    return wrong("a scan of " + shown(op.path) + " gave " + shown(name) + ' ' + std::to_string(times[name]) +
                 " times; it was there all the while");
  }
  // However short the directory was, the operation makes the same changes: a log can then be shortened.
  for (; number < kScanPieces; ++number) {
    if ((verdict = change_in_scan(op, number, stable))) return verdict;
  }
  return list(op.path);
}

Session::Verdict Session::change_in_scan(const Op& op, uint64_t piece, std::set<std::string>& stable) {
  for (uint64_t n = 0; n < kScanChanges; ++n) {
    const Op step = scan_step(op, piece * kScanChanges + n);
    const Model::Node* const node = model_.find(step.path);
    if (step.kind != Kind::kCreate && (node == nullptr || (step.kind == Kind::kUnlink && node->is_dir())))
      continue;
    stable.erase(last_of(step.path));
    stable.erase(last_of(step.to));
    if (!makes_sense(step)) continue;
    if (Verdict verdict = change(step)) return verdict;
  }
  return std::nullopt;
}

// The whole.

Session::Verdict Session::check_all() {
  std::map<uint64_t, uint64_t> inodes;  // the real one's number -> the model's
  if (Verdict verdict = check_directory("", inodes)) return verdict;
  for (uint8_t slot = 0; slot < kSlots; ++slot) {
    if (model_.slot(slot) == nullptr) continue;
    if (Verdict verdict = verify_slot(slot)) return verdict;
  }
  return std::nullopt;
}

// REQUIRES: the model has it, as a directory.
Session::Verdict Session::check_directory(const std::string& path, std::map<uint64_t, uint64_t>& inodes) {
  if (Verdict verdict = list(path)) return verdict;
  std::vector<Entry> entries;
  static_cast<void>(model_.list(path, entries));
  if (Verdict verdict = verify(path)) return verdict;
  if (!in_shared()) {
    if (Verdict verdict = verify_content(path)) return verdict;
  }
  for (const Entry& entry : entries) {
    const std::string child = join(path, entry.name);
    if (entry.type == DT_DIR) {
      if (Verdict verdict = check_directory(child, inodes)) return verdict;
      continue;
    }
    if (Verdict verdict = verify(child)) return verdict;
    if (Verdict verdict = verify_content(child)) return verdict;
    const uint64_t ino = seen_[entry.ino].ino;
    if (inodes.try_emplace(ino, entry.ino).first->second != entry.ino) {
      return wrong(shown(child) + " has the inode number of another file, " + std::to_string(ino));
    }
  }
  return std::nullopt;
}

}  // namespace udax::storm

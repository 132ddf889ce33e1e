// SPDX-License-Identifier: BSD-3-Clause
//
// Every operation, cut off anywhere: what a mount finds is the tree before it or after it, and once it was
// acknowledged, after it. A tree is compared as a whole: names, types, links, owners, modes, sizes, bytes, xattrs.
//
// Negative control: the same with a drain taken away from the journal must find a violation.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "base/sync_point.h"
#include "tests/crash/crash_images.h"
#include "tests/support/check.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::kRoot;

constexpr uint64_t kPoolSize = 8 << 20;

void describe(fs::Filesystem& fs, Ino dir, const std::string& path, std::string& out) {
  std::vector<std::pair<std::string, Ino>> names;
  {
    auto open = fs.open(dir, O_RDONLY, false);
    if (!open) {
      out += path + " cannot be opened\n";
      return;
    }
    const Status done = fs.readdir(**open, 0, [&names](const fs::DirEntry& e) {
      if (e.name != "." && e.name != "..") names.emplace_back(std::string(e.name), e.ino);
      return true;
    });
    if (!done) out += path + " cannot be listed\n";
  }
  std::sort(names.begin(), names.end());
  for (const auto& [name, ino] : names) {
    const auto attr = fs.lookup(dir, name);
    const std::string full = path + "/" + name.substr(0, 20);
    if (!attr) {
      out += full + " error: " + std::string(to_string(attr.error())) + "\n";
      continue;
    }
    out += full + " ino " + std::to_string(attr->ino.value) + " mode " + std::to_string(attr->mode) + " nlink " +
           std::to_string(attr->nlink) + " size " + std::to_string(attr->size) + " uid " +
           std::to_string(attr->uid) + " flags " + std::to_string(attr->flags);
    const auto xattrs = fs.listxattr(ino, kRoot);
    if (xattrs) out += " xattrs " + std::to_string(std::hash<std::string>{}(*xattrs));
    if ((attr->mode & 0170000U) == 0100000U) {
      auto open = fs.open(ino, O_RDONLY, false);
      const auto content = open ? test::read_file(fs, **open, 0, attr->size) : Result<std::string>(Error::kIo);
      out += content ? " bytes " + std::to_string(std::hash<std::string>{}(*content)) : " unreadable";
    }
    if ((attr->mode & 0170000U) == 0120000U) {
      const auto target = fs.readlink(ino);
      out += target ? " -> " + std::to_string(std::hash<std::string>{}(*target)) : " unreadable";
    }
    out += "\n";
    if ((attr->mode & 0170000U) == 0040000U) describe(fs, ino, full, out);
  }
}

std::string describe(fs::Filesystem& fs) {
  std::string out;
  describe(fs, kRootIno, "", out);
  return out;
}

struct Operation {
  const char* name;
  std::function<void(fs::Filesystem&)> run;
};

Ino find(fs::Filesystem& fs, Ino dir, std::string_view name) {
  const auto attr = fs.lookup(dir, name);
  return attr ? attr->ino : kNoIno;
}

fs::OpenFilePtr open(fs::Filesystem& fs, std::string_view name) {
  auto file = fs.open(find(fs, kRootIno, name), O_RDWR, false);
  return file ? std::move(*file) : nullptr;
}

void write(fs::Filesystem& fs, std::string_view name, uint64_t offset, size_t size, char c) {
  const auto file = open(fs, name);
  static_cast<void>(fs.write(*file, offset, test::bytes(std::string(size, c)), false, false));
}

void set_size(fs::Filesystem& fs, std::string_view name, uint64_t size) {
  fs::SetAttr s;
  s.size = size;
  static_cast<void>(fs.setattr(find(fs, kRootIno, name), s, kRoot));
}

/// What is there before: d/ with a file and a directory, e/, files f (three blocks and a bit), g, a link to g, a hole.
void prepare(fs::Filesystem& fs) {
  const Ino d = fs.make(kRootIno, "d", 0040755, 0, 0, kRoot)->ino;
  static_cast<void>(fs.make(kRootIno, "e", 0040755, 0, 0, kRoot));
  static_cast<void>(fs.make(d, "inner", 0100644, 0, 0, kRoot));
  static_cast<void>(fs.make(d, "sub", 0040755, 0, 0, kRoot));
  for (const char* name : {"f", "g", "hole"}) static_cast<void>(fs.make(kRootIno, name, 0100644, 0, 0, kRoot));
  write(fs, "f", 0, 13000, 'f');
  write(fs, "g", 0, 5000, 'g');
  write(fs, "hole", 40000, 100, 'h');
  static_cast<void>(fs.link(find(fs, kRootIno, "g"), kRootIno, "g2"));
  static_cast<void>(fs.setxattr(find(fs, kRootIno, "f"), "user.old", test::bytes("value"), 0, false, kRoot));
}

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = {
      {"create", [](auto& fs) { static_cast<void>(fs.make(kRootIno, "new", 0100644, 0, 0, kRoot)); }},
      {"create long name",
       [](auto& fs) { static_cast<void>(fs.make(kRootIno, std::string(255, 'n'), 0100644, 0, 0, kRoot)); }},
      {"mkdir", [](auto& fs) { static_cast<void>(fs.make(kRootIno, "newdir", 0040755, 0, 0, kRoot)); }},
      {"mknod", [](auto& fs) { static_cast<void>(fs.make(kRootIno, "dev", 0020644, 1, 3, kRoot)); }},
      {"symlink", [](auto& fs) { static_cast<void>(fs.symlink(kRootIno, "s", "target", kRoot)); }},
      {"symlink long",
       [](auto& fs) { static_cast<void>(fs.symlink(kRootIno, "s", std::string(3000, 't'), kRoot)); }},
      {"link", [](auto& fs) { static_cast<void>(fs.link(find(fs, kRootIno, "f"), kRootIno, "f2")); }},
      {"unlink", [](auto& fs) { static_cast<void>(fs.unlink(kRootIno, "f")); }},
      {"unlink one of two", [](auto& fs) { static_cast<void>(fs.unlink(kRootIno, "g")); }},
      {"rmdir", [](auto& fs) { static_cast<void>(fs.rmdir(kRootIno, "e")); }},
      {"rename", [](auto& fs) { static_cast<void>(fs.rename(kRootIno, "f", kRootIno, "moved", 0)); }},
      {"rename onto file", [](auto& fs) { static_cast<void>(fs.rename(kRootIno, "f", kRootIno, "hole", 0)); }},
      {"rename into directory",
       [](auto& fs) { static_cast<void>(fs.rename(kRootIno, "f", find(fs, kRootIno, "d"), "f", 0)); }},
      {"rename directory onto empty directory",
       [](auto& fs) { static_cast<void>(fs.rename(kRootIno, "d", kRootIno, "e", 0)); }},
      {"rename directory into directory",
       [](auto& fs) { static_cast<void>(fs.rename(kRootIno, "d", find(fs, kRootIno, "e"), "d", 0)); }},
      {"exchange",
       [](auto& fs) {
         static_cast<void>(fs.rename(kRootIno, "f", find(fs, kRootIno, "d"), "sub", fs::kRenameExchange));
       }},
      {"append", [](auto& fs) { write(fs, "f", 13000, 9000, 'a'); }},
      {"write behind the end", [](auto& fs) { write(fs, "f", 30000, 100, 'b'); }},
      {"write into a hole", [](auto& fs) { write(fs, "hole", 10000, 5000, 'c'); }},
      {"truncate down", [](auto& fs) { set_size(fs, "f", 5000); }},
      {"truncate to nothing", [](auto& fs) { set_size(fs, "f", 0); }},
      {"truncate up", [](auto& fs) { set_size(fs, "f", 50000); }},
      {"preallocate", [](auto& fs) { static_cast<void>(fs.fallocate(*open(fs, "f"), 0, 0, 60000)); }},
      {"preallocate, size kept",
       [](auto& fs) { static_cast<void>(fs.fallocate(*open(fs, "f"), fs::kFallocKeepSize, 0, 60000)); }},
      {"punch whole blocks",
       [](auto& fs) {
         static_cast<void>(fs.fallocate(*open(fs, "f"), fs::kFallocPunchHole | fs::kFallocKeepSize, 4096, 4096));
       }},
      {"zero whole blocks",
       [](auto& fs) { static_cast<void>(fs.fallocate(*open(fs, "f"), fs::kFallocZeroRange, 4096, 8192)); }},
      {"chmod",
       [](auto& fs) {
         fs::SetAttr s;
         s.mode = 0600;
         static_cast<void>(fs.setattr(find(fs, kRootIno, "f"), s, kRoot));
       }},
      {"chown",
       [](auto& fs) {
         fs::SetAttr s;
         s.uid = 7;
         s.gid = 8;
         static_cast<void>(fs.setattr(find(fs, kRootIno, "f"), s, kRoot));
       }},
      {"setxattr",
       [](auto& fs) {
         static_cast<void>(fs.setxattr(find(fs, kRootIno, "f"), "user.new", test::bytes("x"), 0, false, kRoot));
       }},
      {"setxattr long",
       [](auto& fs) {
         static_cast<void>(fs.setxattr(find(fs, kRootIno, "f"), "user.old", test::bytes(std::string(9000, 'x')), 0,
                                       false, kRoot));
       }},
      {"removexattr",
       [](auto& fs) { static_cast<void>(fs.removexattr(find(fs, kRootIno, "f"), "user.old", kRoot)); }},
      {"set flag",
       [](auto& fs) {
         static_cast<void>(
             fs.set_flags(find(fs, kRootIno, "f"), format::kFlagDax, format::kFlagDax, std::nullopt, kRoot));
       }},
      {"tmpfile and link",
       [](auto& fs) {
         fs::Attr attr;
         auto file = fs.tmpfile(kRootIno, 0600, O_RDWR, kRoot, &attr);
         static_cast<void>(fs.link(attr.ino, kRootIno, "t"));
       }},
      {"unlink while open",
       [](auto& fs) {
         const auto file = open(fs, "f");
         static_cast<void>(fs.unlink(kRootIno, "f"));
       }},
  };
  return all;
}

struct Outcome {
  uint64_t images = 0;
  std::string violation;  // empty: none
};

/// Runs the operations one after another on a recorded pool, then explores.
Outcome explore(const std::vector<const Operation*>& sequence, uint64_t seed, bool whole_check) {
  fs::MountOptions options;
  options.atime = fs::AtimeMode::kNever;
  auto recording = std::make_shared<media::RecordingMedium>(kPoolSize);
  std::vector<std::string> trees;
  {
    test::TestPool pool(recording, true, options);
    prepare(pool.fs());
    trees.push_back(describe(pool.fs()));
    recording->start();
    for (size_t i = 0; i < sequence.size(); ++i) {
      sequence[i]->run(pool.fs());
      recording->mark(i + 1);
      trees.push_back(describe(pool.fs()));
    }
    // Unmounting, too: it says that everything is in place.
    pool.unmount();
    recording->stop();
  }
  Outcome outcome;
  test::CrashImages images(*recording, seed);
  outcome.images =
      images.explore(7, 12, 4, [&](media::MemoryMedium& image, const test::CrashImages::Point& point) {
        const auto where = [&point] {
          return " at event " + std::to_string(point.event) + ", " + std::to_string(point.pending) + " pending, " +
                 point.subset;
        };
        std::string why;
        // The image outlives the filesystem; nobody owns it here.
        const std::shared_ptr<media::Medium> medium(&image, [](media::Medium*) {});
        auto mounted = fs::Filesystem::mount(medium, options, &why);
        if (!mounted) {
          outcome.violation = "cannot be mounted: " + why + where();
          return false;
        }
        const std::string tree = describe(**mounted);
        const std::string& before = trees[point.mark];
        const std::string& after = trees[std::min<size_t>(point.mark + 1, trees.size() - 1)];
        if (tree != before && tree != after) {
          outcome.violation = "neither before nor after" + where() + "\nfound:\n" + tree + "before:\n" + before +
                              "after:\n" + after;
          return false;
        }
        // The first change after recovery must work.
        const auto made = (*mounted)->make(kRootIno, "after recovery", 0100644, 0, 0, kRoot);
        if (!made) {
          outcome.violation = "the first change after recovery fails" + where();
          return false;
        }
        static_cast<void>((*mounted)->unmount());
        mounted->reset();
        if (whole_check) test::expect_clean(image);
        return !testing::Test::HasFailure();
      });
  return outcome;
}

class QuietLog {
 public:
  QuietLog() { static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr)); }
  ~QuietLog() { static_cast<void>(log_init(LogLevel::kInfo, LogTarget::kStderr)); }
};

TEST(CrashStates, EveryOperationIsBeforeOrAfter) {
  const QuietLog quiet;
  uint64_t images = 0;
  for (const Operation& op : operations()) {
    const Outcome outcome = explore({&op}, 1, true);
    EXPECT_EQ(outcome.violation, "") << op.name;
    images += outcome.images;
  }
  RecordProperty("images", static_cast<int>(images));
  std::printf("%zu operations, %lu crash images\n", operations().size(), static_cast<unsigned long>(images));
}

TEST(CrashStates, SequencesAreBeforeOrAfter) {
  const QuietLog quiet;
  Random random(20);
  uint64_t images = 0;
  for (int i = 0; i < 12; ++i) {
    std::vector<const Operation*> sequence;
    std::string names;
    for (int k = 0; k < 4; ++k) {
      sequence.push_back(&operations()[random.below(operations().size())]);
      names += std::string(sequence.back()->name) + "; ";
    }
    // An operation whose file an earlier one took away does nothing, or fails: also a case.
    bool uses_missing = false;
    for (size_t a = 0; a + 1 < sequence.size(); ++a) {
      const std::string_view name = sequence[a]->name;
      uses_missing |= name.starts_with("unlink") || name.starts_with("rename") || name == "exchange";
    }
    if (uses_missing) continue;
    const Outcome outcome = explore(sequence, static_cast<uint64_t>(i), false);
    EXPECT_EQ(outcome.violation, "") << names;
    images += outcome.images;
  }
  std::printf("%lu crash images\n", static_cast<unsigned long>(images));
}

#ifdef UDAX_SYNC_POINTS
TEST(CrashStates, AMissingDrainIsFound) {
  const QuietLog quiet;
  for (const char* knob : {"journal.skip_record_drain", "journal.skip_fresh_drain", "journal.skip_apply_flush"}) {
    const sync_point::ScopedKnob taken_away(knob);
    bool found = false;
    for (const Operation& op : operations()) {
      if (!explore({&op, &op}, 1, false).violation.empty()) {
        found = true;
        break;
      }
    }
    EXPECT_TRUE(found) << knob;
  }
}
#endif

}  // namespace
}  // namespace udax

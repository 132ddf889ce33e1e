// SPDX-License-Identifier: BSD-3-Clause
//
// Random operations against a model in memory: names, types, links, bytes, sizes, blocks. Every few hundred
// operations the pool is unmounted and checked, or dropped as by kill -9, and compared as a whole.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::kRoot;
using test::TestPool;

struct Node {
  bool is_dir = false;
  std::string content;
  std::map<std::string, uint64_t> names;  // directories: name -> inode number
  uint64_t parent = 1;
  uint32_t nlink = 0;
};

class Model {
 public:
  Model(uint64_t seed, uint64_t pool_size, fs::MountOptions options) : random_(seed), pool_(pool_size, options) {
    nodes_[1].is_dir = true;
    nodes_[1].nlink = 2;
  }

  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1: make_file(); break;
      case 2: make_dir(); break;
      case 3: remove(); break;
      case 4: link(); break;
      case 5:
      case 6: rename(); break;
      case 7:
      case 8:
      case 9: write(); break;
      case 10: truncate(); break;
      case 11: punch_or_zero(); break;
      case 12: copy(); break;
      case 13: preallocate(); break;
      default: read(); break;
    }
  }

  void compare() {
    for (const auto& [ino, node] : nodes_) {
      const auto attr = pool_->getattr(Ino(ino));
      ASSERT_TRUE(attr) << ino;
      EXPECT_EQ(attr->nlink, node.nlink) << ino;
      if (node.is_dir) {
        std::vector<std::string> names;
        for (const auto& [name, child] : node.names) {
          names.push_back(name);
          const auto found = pool_->lookup(Ino(ino), name);
          ASSERT_TRUE(found) << name;
          EXPECT_EQ(found->ino.value, child) << name;
        }
        EXPECT_EQ(pool_.list(Ino(ino)), names);
        EXPECT_EQ(pool_->lookup(Ino(ino), "..")->ino.value, node.parent);
      } else {
        ASSERT_EQ(attr->size, node.content.size()) << ino;
        EXPECT_TRUE(pool_.content(Ino(ino)) == node.content) << "bytes of inode " << ino;
      }
    }
  }

  TestPool& pool() { return pool_; }

 private:
  uint64_t any_dir() {
    std::vector<uint64_t> dirs;
    for (const auto& [ino, node] : nodes_) {
      if (node.is_dir) dirs.push_back(ino);
    }
    return dirs[random_.below(dirs.size())];
  }
  uint64_t any_file() {
    std::vector<uint64_t> files;
    for (const auto& [ino, node] : nodes_) {
      if (!node.is_dir) files.push_back(ino);
    }
    return files.empty() ? 0 : files[random_.below(files.size())];
  }
  std::string any_name() {
    std::string name = "n" + std::to_string(random_.below(60));
    if (random_.below(8) == 0) name += std::string(random_.below(240), 'x');
    return name;
  }

  void make_file() {
    const uint64_t dir = any_dir();
    const std::string name = any_name();
    const auto made = pool_->make(Ino(dir), name, 0100644, 0, 0, kRoot);
    if (nodes_[dir].names.count(name) != 0) {
      EXPECT_TRUE(!made && made.error() == Error::kExists);
      return;
    }
    ASSERT_TRUE(made) << to_string(made.error());
    nodes_[dir].names[name] = made->ino.value;
    ASSERT_EQ(nodes_.count(made->ino.value), 0U) << "number given twice";
    nodes_[made->ino.value].nlink = 1;
  }

  void make_dir() {
    const uint64_t dir = any_dir();
    const std::string name = any_name();
    const auto made = pool_->make(Ino(dir), name, 0040755, 0, 0, kRoot);
    if (nodes_[dir].names.count(name) != 0) {
      EXPECT_TRUE(!made && made.error() == Error::kExists);
      return;
    }
    ASSERT_TRUE(made) << to_string(made.error());
    nodes_[dir].names[name] = made->ino.value;
    nodes_[dir].nlink++;
    Node& node = nodes_[made->ino.value];
    node.is_dir = true;
    node.nlink = 2;
    node.parent = dir;
  }

  void drop(uint64_t ino) {
    Node& node = nodes_[ino];
    if (node.is_dir || --node.nlink == 0) nodes_.erase(ino);
  }

  void remove() {
    const uint64_t dir = any_dir();
    if (nodes_[dir].names.empty()) return;
    auto it = nodes_[dir].names.begin();
    std::advance(it, static_cast<long>(random_.below(nodes_[dir].names.size())));
    const auto [name, child] = *it;
    if (nodes_[child].is_dir) {
      const Status done = pool_->rmdir(Ino(dir), name);
      if (!nodes_[child].names.empty()) {
        EXPECT_TRUE(!done && done.error() == Error::kNotEmpty);
        return;
      }
      ASSERT_TRUE(done) << to_string(done.error());
      nodes_[dir].nlink--;
    } else {
      const Status done = pool_->unlink(Ino(dir), name);
      ASSERT_TRUE(done) << to_string(done.error());
    }
    nodes_[dir].names.erase(it);
    drop(child);
  }

  void link() {
    const uint64_t file = any_file();
    if (file == 0) return;
    const uint64_t dir = any_dir();
    const std::string name = any_name();
    const auto done = pool_->link(Ino(file), Ino(dir), name);
    if (nodes_[dir].names.count(name) != 0) {
      EXPECT_FALSE(done);
      return;
    }
    ASSERT_TRUE(done) << to_string(done.error());
    nodes_[dir].names[name] = file;
    nodes_[file].nlink++;
  }

  bool is_above(uint64_t ancestor, uint64_t ino) {
    for (;; ino = nodes_[ino].parent) {
      if (ino == ancestor) return true;
      if (ino == 1) return false;
    }
  }

  void rename() {
    const uint64_t from = any_dir();
    const uint64_t to = any_dir();
    if (nodes_[from].names.empty()) return;
    auto it = nodes_[from].names.begin();
    std::advance(it, static_cast<long>(random_.below(nodes_[from].names.size())));
    const auto [name, child] = *it;
    const std::string new_name = any_name();
    const bool exchange = random_.below(4) == 0;
    const Status done = pool_->rename(Ino(from), name, Ino(to), new_name, exchange ? fs::kRenameExchange : 0);
    const auto there = nodes_[to].names.find(new_name);
    const uint64_t other = there == nodes_[to].names.end() ? 0 : there->second;
    bool may = !(nodes_[child].is_dir && is_above(child, to));
    if (exchange) {
      may = may && other != 0 && !(nodes_[other].is_dir && is_above(other, from));
    } else if (other != 0 && other != child) {
      may = may && nodes_[other].is_dir == nodes_[child].is_dir && nodes_[other].names.empty() &&
            !(nodes_[other].is_dir && is_above(other, from));
    }
    ASSERT_EQ(done.has_value(), may) << name << " -> " << new_name;
    if (!may || other == child) return;
    const bool child_is_dir = nodes_[child].is_dir;
    nodes_[to].names[new_name] = child;
    if (child_is_dir) {
      nodes_[from].nlink--;
      nodes_[to].nlink++;
      nodes_[child].parent = to;
    }
    if (exchange) {
      nodes_[from].names[name] = other;
      if (nodes_[other].is_dir) {
        nodes_[to].nlink--;
        nodes_[from].nlink++;
        nodes_[other].parent = from;
      }
      return;
    }
    nodes_[from].names.erase(name);
    if (other != 0) {
      if (nodes_[other].is_dir) nodes_[to].nlink--;
      drop(other);
    }
  }

  uint64_t any_offset() { return random_.below(4) == 0 ? random_.below(400000) : random_.below(20000); }

  void write() {
    const uint64_t file = any_file();
    if (file == 0) return;
    const uint64_t offset = any_offset();
    const std::string data(1 + random_.below(random_.below(4) == 0 ? 60000 : 5000),
                           static_cast<char>('a' + random_.below(26)));
    auto open = pool_->open(Ino(file), O_RDWR, false);
    ASSERT_TRUE(open);
    const bool append = random_.below(4) == 0;
    const auto done = pool_->write(**open, offset, test::bytes(data), append, false);
    ASSERT_TRUE(done && *done == data.size());
    std::string& content = nodes_[file].content;
    const uint64_t at = append ? content.size() : offset;
    if (content.size() < at + data.size()) content.resize(at + data.size());
    content.replace(at, data.size(), data);
  }

  void truncate() {
    const uint64_t file = any_file();
    if (file == 0) return;
    fs::SetAttr s;
    s.size = any_offset();
    ASSERT_TRUE(pool_->setattr(Ino(file), s, kRoot));
    nodes_[file].content.resize(*s.size);
  }

  void punch_or_zero() {
    const uint64_t file = any_file();
    if (file == 0) return;
    auto open = pool_->open(Ino(file), O_RDWR, false);
    const uint64_t offset = any_offset();
    const uint64_t length = 1 + any_offset();
    const bool zero = random_.below(2) == 0;
    const bool keep = !zero || random_.below(2) == 0;
    const Status done = pool_->fallocate(
        **open, (zero ? fs::kFallocZeroRange : fs::kFallocPunchHole) | (keep ? fs::kFallocKeepSize : 0), offset,
        length);
    ASSERT_TRUE(done) << to_string(done.error());
    std::string& content = nodes_[file].content;
    if (!keep && content.size() < offset + length) content.resize(offset + length);
    for (uint64_t i = offset; i < std::min<uint64_t>(offset + length, content.size()); ++i) content[i] = '\0';
  }

  void preallocate() {
    const uint64_t file = any_file();
    if (file == 0) return;
    auto open = pool_->open(Ino(file), O_RDWR, false);
    const bool keep = random_.below(2) == 0;
    const uint64_t offset = any_offset();
    const uint64_t length = 1 + any_offset();
    ASSERT_TRUE(pool_->fallocate(**open, keep ? fs::kFallocKeepSize : 0, offset, length));
    std::string& content = nodes_[file].content;
    if (!keep && content.size() < offset + length) content.resize(offset + length);
  }

  void copy() {
    const uint64_t from = any_file();
    const uint64_t to = any_file();
    if (from == 0) return;
    const uint64_t a = any_offset();
    const uint64_t b = any_offset();
    const uint64_t length = 1 + any_offset();
    const std::string source = nodes_[from].content;
    auto open_a = pool_->open(Ino(from), O_RDONLY, false);
    auto open_b = pool_->open(Ino(to), O_RDWR, false);
    const auto done = pool_->copy_range(**open_a, a, **open_b, b, length);
    const uint64_t n = a >= source.size() ? 0 : std::min<uint64_t>(length, source.size() - a);
    if (from == to && n > 0 && a < b + n && b < a + n) {
      EXPECT_FALSE(done);
      return;
    }
    ASSERT_TRUE(done) << to_string(done.error());
    ASSERT_EQ(*done, n);
    if (n == 0) return;
    std::string& content = nodes_[to].content;
    if (content.size() < b + n) content.resize(b + n);
    content.replace(b, n, source, a, n);
  }

  void read() {
    const uint64_t file = any_file();
    if (file == 0) return;
    const std::string& content = nodes_[file].content;
    const uint64_t offset = any_offset();
    const uint64_t size = any_offset() + 1;
    const std::string expected = offset < content.size() ? content.substr(offset, size) : std::string();
    EXPECT_TRUE(pool_.read(Ino(file), offset, size) == expected);
  }

  Random random_;
  TestPool pool_;
  std::map<uint64_t, Node> nodes_;
};

class FilesystemModel : public testing::TestWithParam<uint64_t> {};

TEST_P(FilesystemModel, AgreesOverRemountsAndCrashes) {
  const uint64_t seed = GetParam();
  SCOPED_TRACE("seed " + std::to_string(seed));
  fs::MountOptions options;
  options.data = seed % 2 == 0 ? fs::DataMode::kAtomic : fs::DataMode::kInPlace;
  Model model(seed, 256 << 20, options);
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 400; ++i) {
      model.step();
      if (testing::Test::HasFatalFailure() || testing::Test::HasNonfatalFailure()) FAIL() << "step " << i;
    }
    if (round % 2 == 0) {
      model.pool().remount();
    } else {
      model.pool().crash();
    }
    model.compare();
    if (testing::Test::HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, FilesystemModel, testing::Range<uint64_t>(1, 13));

}  // namespace
}  // namespace udax

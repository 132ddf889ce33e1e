// SPDX-License-Identifier: BSD-3-Clause
#include "inode/xattr_store.h"

#include <algorithm>
#include <cstring>

#include "tests/unit/inode/inode_pool.h"

namespace udax::inode {
namespace {

using format::Unit;
using Bytes = std::vector<std::byte>;

Bytes random_bytes(Random& random, size_t size) {
  Bytes bytes(size);
  random.fill(bytes.data(), size);
  return bytes;
}

/// One file in a pool, and its attributes by full name.
class XattrFile {
 public:
  explicit XattrFile(uint64_t size = 32 * kMiB) : pool(size) {
    ino_ = pool.create().value();
    offset_ = pool.table().find_slot(ino_).value();
  }
  [[nodiscard]] format::Inode& image() { return *pool.at<format::Inode>(offset_); }
  [[nodiscard]] Ino ino() const { return ino_; }

  Status set(const std::string& full, const Bytes& value, XattrSetMode mode = XattrSetMode::kEither) {
    UDAX_TRY(const XattrName name, parse_xattr_name(full));
    return change(
        [&](alloc::BlockTx& tx, format::Inode& inode) { return xattr_set(tx, inode, name, value, mode); });
  }
  Status remove(const std::string& full) {
    UDAX_TRY(const XattrName name, parse_xattr_name(full));
    return change([&](alloc::BlockTx& tx, format::Inode& inode) { return xattr_remove(tx, inode, name); });
  }
  Result<Bytes> get(const std::string& full) {
    UDAX_TRY(const XattrName name, parse_xattr_name(full));
    return xattr_get(pool.meta(), image(), name);
  }
  Result<std::set<std::string>> list() {
    std::set<std::string> names;
    bool twice = false;
    const auto note = [&](const XattrName& name) { twice = !names.insert(full_xattr_name(name)).second || twice; };
    UDAX_CHECK(xattr_list(pool.meta(), image(), note));
    EXPECT_FALSE(twice);
    return names;
  }
  /// In as many transactions as it takes; how many.
  Result<int> free_all() {
    for (int steps = 1;; ++steps) {
      InodeTx tx(pool.table());
      UDAX_TRY(format::Inode* const inode, tx.edit(offset_));
      const Status done = xattr_free_all(tx.blocks(), *inode);
      if (!done && done.error() != Error::kAgain) return done.error();
      UDAX_CHECK(tx.commit());
      if (done) return steps;
      EXPECT_TRUE(list());  // what is left is sound
    }
  }

  Pool pool;

 private:
  template <typename F>
  Status change(const F& f) {
    InodeTx tx(pool.table());
    UDAX_TRY(format::Inode* const inode, tx.edit(offset_));
    UDAX_CHECK(f(tx.blocks(), *inode));
    UDAX_CHECK(tx.commit());
    return {};
  }
  Ino ino_;
  uint64_t offset_ = 0;
};

Bytes bytes_of(std::string_view text) {
  Bytes bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

TEST(XattrName, Parses) {
  EXPECT_EQ(parse_xattr_name("user.x").value().name, "x");
  EXPECT_EQ(parse_xattr_name("trusted.a.b").value().name_space, format::kXattrTrusted);
  EXPECT_EQ(parse_xattr_name("security.selinux").value().name, "selinux");
  EXPECT_EQ(parse_xattr_name("system.posix_acl_access").value().name_space, format::kXattrAclAccess);
  EXPECT_EQ(parse_xattr_name("system.posix_acl_default").value().name, "");
  for (const char* bad :
       {"", "user", "userx", "foo.bar", "system.", "system.posix_acl_accessx", "system.x", ".x"}) {
    EXPECT_EQ(parse_xattr_name(bad).error(), Error::kNotSupported) << bad;
  }
  for (const char* bad : {"user.", "trusted.", "security."}) {
    EXPECT_EQ(parse_xattr_name(bad).error(), Error::kInvalid) << bad;
  }
  EXPECT_TRUE(parse_xattr_name("user." + std::string(250, 'n')));
  EXPECT_EQ(parse_xattr_name("user." + std::string(251, 'n')).error(), Error::kOutOfRange);
  for (const char* full :
       {"user.x", "trusted.y", "security.z", "system.posix_acl_access", "system.posix_acl_default"}) {
    EXPECT_EQ(full_xattr_name(parse_xattr_name(full).value()), full);
  }
}

TEST(XattrStore, SetsGetsAndRemoves) {
  XattrFile file;
  EXPECT_EQ(file.get("user.a").error(), Error::kNoData);
  EXPECT_EQ(file.remove("user.a").error(), Error::kNoData);
  EXPECT_EQ(file.list().value(), std::set<std::string>{});
  EXPECT_EQ(file.set("user.a", bytes_of("1"), XattrSetMode::kReplace).error(), Error::kNoData);
  ASSERT_TRUE(file.set("user.a", bytes_of("1"), XattrSetMode::kCreate));
  EXPECT_EQ(file.set("user.a", bytes_of("2"), XattrSetMode::kCreate).error(), Error::kExists);
  EXPECT_EQ(file.get("user.a").value(), bytes_of("1"));
  ASSERT_TRUE(file.set("user.a", bytes_of("22"), XattrSetMode::kReplace));
  ASSERT_TRUE(file.set("trusted.a", bytes_of("333")));
  ASSERT_TRUE(file.set("user.empty", {}));
  ASSERT_TRUE(file.set("system.posix_acl_access", bytes_of("acl")));
  ASSERT_TRUE(file.pool.remount());
  EXPECT_EQ(file.get("user.a").value(), bytes_of("22"));
  EXPECT_EQ(file.get("trusted.a").value(), bytes_of("333"));
  EXPECT_EQ(file.get("user.empty").value(), Bytes{});
  EXPECT_EQ(file.get("system.posix_acl_access").value(), bytes_of("acl"));
  EXPECT_EQ(file.get("system.posix_acl_default").error(), Error::kNoData);
  EXPECT_EQ(file.list().value(),
            (std::set<std::string>{"user.a", "trusted.a", "user.empty", "system.posix_acl_access"}));
  EXPECT_EQ(file.image().block_count, 1U);
  const std::set<std::string> names = file.list().value();
  for (const std::string& name : names) ASSERT_TRUE(file.remove(name));
  EXPECT_EQ(file.image().block_count, 0U);
  EXPECT_EQ(file.image().xattr_block, 0U);
}

TEST(XattrStore, ValuesOfEverySizeThatMatters) {
  XattrFile file;
  Random random(1);
  const uint64_t free_at_first = file.pool.blocks_free();
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1023}, size_t{1024}, size_t{1025}, size_t{4056},
                            size_t{4057}, size_t{8112}, size_t{8113}, size_t{65535}, size_t{65536}}) {
    const Bytes value = random_bytes(random, size);
    ASSERT_TRUE(file.set("user.v", value)) << size;
    EXPECT_EQ(file.get("user.v").value(), value) << size;
    const uint64_t blocks = 1 + (size <= 1024 ? 0 : (size + 4055) / 4056);
    EXPECT_EQ(file.image().block_count, blocks) << size;
    EXPECT_EQ(file.pool.blocks_free(), free_at_first - blocks) << size;
  }
  EXPECT_EQ(file.set("user.v", random_bytes(random, 65537)).error(), Error::kTooBig);
  ASSERT_TRUE(file.remove("user.v"));
  EXPECT_EQ(file.pool.blocks_free(), free_at_first);
}

TEST(XattrStore, LongValuesThatDoNotChangeStay) {
  XattrFile file;
  Random random(2);
  ASSERT_TRUE(file.set("user.long", random_bytes(random, 20000)));
  const auto value_block = [&] {
    const auto* entry = file.pool.at<format::XattrEntry>(file.image().xattr_block * kBlockSize + 48);
    return entry->value_block.get();
  };
  const uint64_t chain = file.image().xattr_block;
  const uint64_t value = value_block();
  ASSERT_TRUE(file.set("user.other", bytes_of("x")));
  EXPECT_EQ(value_block(), value);
  EXPECT_NE(file.image().xattr_block, chain);
}

TEST(XattrStore, NameListIsLimited) {
  XattrFile file(64 * kMiB);
  size_t bytes = 0;
  int count = 0;
  Status last;
  for (; count < 1000; ++count) {
    const std::string name = "user." + std::to_string(count) + std::string(240, 'n');
    last = file.set(name, {});
    if (!last) break;
    bytes += name.size() + 1;
  }
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error(), Error::kNoSpace);
  EXPECT_LE(bytes, format::kXattrNamesMax);
  EXPECT_GT(bytes, format::kXattrNamesMax - 256);
  EXPECT_EQ(file.list().value().size(), static_cast<size_t>(count));
  const std::string first = "user.0" + std::string(240, 'n');
  EXPECT_TRUE(file.set(first, bytes_of("still")));
  EXPECT_TRUE(file.remove(first));
}

TEST(XattrStore, ChainIsLimited) {
  XattrFile file(64 * kMiB);
  Random random(4);
  const uint64_t free_at_first = file.pool.blocks_free();
  Status last;
  int count = 0;
  for (; count < 1000 && last; ++count)
    last = file.set("user." + std::to_string(count), random_bytes(random, 1000));
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error(), Error::kNoSpace);
  EXPECT_EQ(file.image().block_count, kXattrChainMax);
  EXPECT_TRUE(file.remove("user.17"));
  EXPECT_EQ(file.list().value().size(), static_cast<size_t>(count - 2));
  ASSERT_TRUE(file.free_all());
  EXPECT_EQ(file.pool.blocks_free(), free_at_first);
}

TEST(XattrStore, Model) {
  const uint64_t seed = test_seed(99);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  XattrFile file(64 * kMiB);
  const uint64_t free_at_first = file.pool.blocks_free();
  std::map<std::string, Bytes> model;
  constexpr std::array<const char*, 3> kPrefixes{"user.", "trusted.", "security."};
  for (int step = 0; step < 3000; ++step) {
    std::string name = kPrefixes[random.below(3)];
    const uint64_t n = random.below(40);
    name += std::to_string(n) + std::string(n * 5, 'x');
    if (random.one_in(40)) name = random.one_in(2) ? "system.posix_acl_access" : "system.posix_acl_default";
    const bool present = model.contains(name);
    if (random.below(3) == 0) {
      const Status removed = file.remove(name);
      ASSERT_EQ(removed.has_value(), present);
      if (!present) {
        ASSERT_EQ(removed.error(), Error::kNoData);
      }
      model.erase(name);
    } else {
      const Bytes value = random_bytes(random, random.one_in(8) ? random.below(65537) : random.below(1500));
      const auto mode = static_cast<XattrSetMode>(random.below(3));
      const Status set = file.set(name, value, mode);
      if (mode == XattrSetMode::kCreate && present) {
        ASSERT_EQ(set.error(), Error::kExists);
      } else if (mode == XattrSetMode::kReplace && !present) {
        ASSERT_EQ(set.error(), Error::kNoData);
      } else {
        ASSERT_TRUE(set);
        model[name] = value;
      }
    }
    const Result<Bytes> got = file.get(name);
    ASSERT_EQ(got.has_value(), model.contains(name));
    if (got) {
      ASSERT_EQ(*got, model.at(name));
    }
    if (step % 100 != 0) continue;
    ASSERT_TRUE(file.pool.remount());
    std::set<std::string> names;
    for (const auto& [key, value] : model) {
      names.insert(key);
      ASSERT_EQ(file.get(key).value(), value) << key;
    }
    ASSERT_EQ(file.list().value(), names);
    ASSERT_EQ(file.pool.blocks_free() + file.image().block_count, free_at_first);
  }
  ASSERT_TRUE(file.free_all());
  EXPECT_EQ(file.pool.blocks_free(), free_at_first);
  EXPECT_EQ(file.image().block_count, 0U);
}

TEST(XattrStore, FreesAllInSteps) {
  XattrFile file(64 * kMiB);
  Random random(6);
  const uint64_t free_at_first = file.pool.blocks_free();
  for (int i = 0; i < 150; ++i) {
    ASSERT_TRUE(file.set("user." + std::to_string(i) + std::string(200, 'y'), random_bytes(random, 65536)));
  }
  EXPECT_GT(file.image().block_count, 2500U);
  const Result<int> steps = file.free_all();
  ASSERT_TRUE(steps);
  EXPECT_GT(*steps, 2);
  EXPECT_EQ(file.pool.blocks_free(), free_at_first);
  EXPECT_EQ(file.image().block_count, 0U);
  EXPECT_EQ(file.list().value().size(), 0U);
  EXPECT_EQ(file.free_all().value(), 1);
}

TEST(XattrStore, FullPool) {
  XattrFile file(8 * kMiB);
  Random random(9);
  ASSERT_TRUE(file.set("user.a", bytes_of("1")));
  ASSERT_TRUE(file.set("user.long", random_bytes(random, 5000)));
  file.pool.fill();
  const format::Inode before = file.image();
  const uint64_t free_before = file.pool.blocks_free();
  EXPECT_EQ(file.set("user.b", bytes_of("2")).error(), Error::kNoSpace);
  EXPECT_EQ(file.set("user.b", random_bytes(random, 60000)).error(), Error::kNoSpace);
  EXPECT_EQ(std::memcmp(&before, &file.image(), sizeof before), 0);
  EXPECT_EQ(file.pool.blocks_free(), free_before);
  EXPECT_EQ(file.list().value(), (std::set<std::string>{"user.a", "user.long"}));
  EXPECT_TRUE(file.remove("user.a"));  // by way of the reserve
  EXPECT_TRUE(file.free_all());
}

// --- Hostile media ---------------------------------------------------------------------------------------------------

/// Each change is made to the first block of entries and the first value block, both resealed.
void expect_corrupted(const char* what, const std::function<void(std::byte* block, std::byte* value)>& change) {
  SCOPED_TRACE(what);
  XattrFile file(16 * kMiB);
  Random random(3);
  ASSERT_TRUE(file.set("user.long", random_bytes(random, 10000)));
  ASSERT_TRUE(file.set("user.b", bytes_of("12345")));
  file.pool.fresh_meta();
  auto* block = file.pool.at<std::byte>(file.image().xattr_block * kBlockSize);
  const uint64_t value_at = reinterpret_cast<format::XattrEntry*>(block + 48)->value_block;
  auto* value = file.pool.at<std::byte>(value_at * kBlockSize);
  change(block, value);
  file.pool.reseal(Unit::kBlock, block);
  file.pool.reseal(Unit::kBlock, value);
  ASSERT_TRUE(file.pool.remount());
  EXPECT_EQ(file.get("user.long").error(), Error::kCorrupted);
  static_cast<void>(file.get("user.none"));
  static_cast<void>(file.list());
  static_cast<void>(file.set("user.c", bytes_of("c")));
  EXPECT_EQ(file.remove("user.long").error(), Error::kCorrupted);
  EXPECT_EQ(file.free_all().error(), Error::kCorrupted);
}

format::XattrEntry& entry_of(std::byte* block) { return *reinterpret_cast<format::XattrEntry*>(block + 48); }
format::BlockHeader& header_of(std::byte* block) { return *reinterpret_cast<format::BlockHeader*>(block); }
format::XattrHeader& xattr_header_of(std::byte* block) {
  return *reinterpret_cast<format::XattrHeader*>(block + 32);
}
le64& value_next(std::byte* value) { return *reinterpret_cast<le64*>(value + 32); }

TEST(XattrStoreCorruption, Entries) {
  using B = std::byte*;
  expect_corrupted("used too large", [](B b, B) { xattr_header_of(b).used = uint16_t{4049}; });
  expect_corrupted("used cuts an entry", [](B b, B) { xattr_header_of(b).used = uint16_t{8}; });
  expect_corrupted("name space 0", [](B b, B) { entry_of(b).name_space = 0; });
  expect_corrupted("name space 6", [](B b, B) { entry_of(b).name_space = 6; });
  expect_corrupted("ACL with a name", [](B b, B) { entry_of(b).name_space = format::kXattrAclAccess; });
  expect_corrupted("no name", [](B b, B) { entry_of(b).name_length = 0; });
  expect_corrupted("long name", [](B b, B) { entry_of(b).name_length = 255; });
  expect_corrupted("length 0", [](B b, B) { entry_of(b).length = uint16_t{0}; });
  expect_corrupted("length odd", [](B b, B) { entry_of(b).length = uint16_t{25}; });
  expect_corrupted("length behind the end", [](B b, B) { entry_of(b).length = uint16_t{65528}; });
  expect_corrupted("value too long", [](B b, B) { entry_of(b).value_length = 65537U; });
  expect_corrupted("value length", [](B b, B) { entry_of(b).value_length = 10001U; });
  expect_corrupted("value shorter", [](B b, B) { entry_of(b).value_length = 9999U; });
  expect_corrupted("empty long value", [](B b, B) { entry_of(b).value_length = 0U; });
  expect_corrupted("long value without block", [](B b, B) { entry_of(b).value_block = uint64_t{0}; });
  expect_corrupted("value nowhere", [](B b, B) { entry_of(b).value_block = uint64_t{1} << 40; });
  expect_corrupted("value in the journal", [](B b, B) { entry_of(b).value_block = uint64_t{2}; });
  expect_corrupted("value of entries", [](B b, B) { entry_of(b).value_block = header_of(b).block.get(); });
  expect_corrupted("owner", [](B b, B) { header_of(b).owner = uint64_t{77}; });
  expect_corrupted("kind", [](B b, B) { header_of(b).kind = uint16_t{format::kKindOrphan}; });
}

TEST(XattrStoreCorruption, Values) {
  using B = std::byte*;
  expect_corrupted("count 0", [](B, B v) { header_of(v).count = uint16_t{0}; });
  expect_corrupted("count too large", [](B, B v) { header_of(v).count = uint16_t{4057}; });
  expect_corrupted("count short", [](B, B v) { header_of(v).count = uint16_t{100}; });
  expect_corrupted("ends early", [](B, B v) { value_next(v) = uint64_t{0}; });
  expect_corrupted("nowhere", [](B, B v) { value_next(v) = ~uint64_t{0}; });
  expect_corrupted("circle", [](B, B v) { value_next(v) = header_of(v).block.get(); });
  expect_corrupted("owner", [](B, B v) { header_of(v).owner = uint64_t{77}; });
}

TEST(XattrStoreCorruption, ChainInACircle) {
  XattrFile file(16 * kMiB);
  Random random(3);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(file.set("user." + std::to_string(i), random_bytes(random, 1000)));
  auto* block = file.pool.at<std::byte>(file.image().xattr_block * kBlockSize);
  xattr_header_of(block).next = file.image().xattr_block;
  file.pool.reseal(Unit::kBlock, block);
  EXPECT_EQ(file.get("user.none").error(), Error::kCorrupted);
  EXPECT_EQ(file.list().error(), Error::kCorrupted);
  EXPECT_EQ(file.set("user.none", {}).error(), Error::kCorrupted);
  EXPECT_EQ(file.remove("user.0").error(), Error::kCorrupted);
  EXPECT_EQ(file.free_all().error(), Error::kCorrupted);
}

TEST(XattrStoreCorruption, WrongCounts) {
  XattrFile file(16 * kMiB);
  ASSERT_TRUE(file.set("user.a", bytes_of("1")));
  auto* block = file.pool.at<std::byte>(file.image().xattr_block * kBlockSize);
  header_of(block).count = uint16_t{2};
  file.pool.reseal(Unit::kBlock, block);
  EXPECT_EQ(file.list().error(), Error::kCorrupted);
  header_of(block).count = uint16_t{1};
  file.pool.reseal(Unit::kBlock, block);
  file.image().block_count = uint64_t{0};
  file.pool.reseal(Unit::kInode, &file.image());
  EXPECT_EQ(file.remove("user.a").error(), Error::kCorrupted);
  EXPECT_EQ(file.free_all().error(), Error::kCorrupted);
}

TEST(XattrStoreCorruption, RandomBytes) {
  const uint64_t seed = test_seed(55);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  for (int round = 0; round < 60; ++round) {
    XattrFile file(16 * kMiB);
    for (int i = 0; i < 12; ++i) {
      ASSERT_TRUE(file.set("user." + std::to_string(i), random_bytes(random, random.below(3000))));
    }
    auto* block = file.pool.at<std::byte>(file.image().xattr_block * kBlockSize);
    for (uint64_t i = random.below(20); i > 0; --i) {
      block[random.between(24, random.one_in(2) ? 120 : 4095)] = static_cast<std::byte>(random.next());
    }
    file.pool.reseal(Unit::kBlock, block);
    for (int i = 0; i < 12; ++i) {
      static_cast<void>(file.get("user." + std::to_string(i)));
      static_cast<void>(
          file.set("user." + std::to_string(random.below(20)), random_bytes(random, random.below(3000))));
    }
    static_cast<void>(file.list());
    static_cast<void>(file.remove("user.3"));
    static_cast<void>(file.free_all());
  }
}

}  // namespace
}  // namespace udax::inode

// SPDX-License-Identifier: BSD-3-Clause
//
// The DAX flag: what it does to the next open, its attributes, who may set it, and what inherits it.
#include "tests/support/pool.h"
#include "tests/unit/dax/dax_pool.h"

namespace udax::dax {
namespace {

using test::bytes;
using test::kMiB;
using test::kRoot;
using test::kUser;
using test::TestPool;

constexpr uint32_t kDax = format::kFlagDax;
constexpr Error kFine = Error::kNoTty;

template <typename R>
Error outcome(const R& result) {
  return result ? kFine : result.error();
}

std::string attribute(TestPool& pool, Ino ino, std::string_view name) {
  const auto value = pool->getxattr(ino, name);
  if (!value) return std::string(to_string(value.error()));
  return {reinterpret_cast<const char*>(value->data()), value->size()};
}

fs::MountOptions with(fs::DaxMode mode) {
  fs::MountOptions options;
  options.dax = mode;
  return options;
}

TEST(Flag, TheNextOpenGoesByIt) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", "content");
  const auto before = *pool->open(f, O_RDWR, false);
  EXPECT_FALSE(before->dax());
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  const auto after = *pool->open(f, O_RDWR, false);
  EXPECT_TRUE(after->dax());
  EXPECT_FALSE(before->dax()) << "a limit of the kernel's";
  const auto state = *pool->dax_state(f);
  EXPECT_TRUE(state.flag);
  EXPECT_TRUE(state.is_dax);
  EXPECT_EQ(state.open_dax, 1U);
  EXPECT_EQ(state.open_cached, 1U);
  ASSERT_TRUE(pool->set_flags(f, 0, kDax, {}, kRoot));
  EXPECT_FALSE(pool->dax_state(f)->is_dax);
  EXPECT_EQ(pool->dax_state(f)->open_dax, 1U);
}

// A view that was writable before is not afterwards: the next store asks, and is refused.
TEST(Flag, AnImmutableFileIsNotStoredTo) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", std::string(2 * kBlockSize, 'd'));
  test::ModelMapper mapper(pool.fs());
  test::Mapping mapping(mapper, f);
  mapping.put(0, "before");
  ASSERT_TRUE(pool->set_flags(f, format::kFlagImmutable, format::kFlagImmutable, {}, kRoot));
  for (const uint64_t at : {uint64_t{0}, uint64_t{kBlockSize}}) {
    EXPECT_EQ(mapping.store(at, "after", 5), test::Touch::kFailed);
    EXPECT_EQ(mapping.error(), Error::kPermission);
  }
  EXPECT_EQ(mapping.get(0, 7), "befored");
  ASSERT_TRUE(pool->set_flags(f, 0, format::kFlagImmutable, {}, kRoot));
  mapping.put(0, "after");
  EXPECT_EQ(mapping.get(0, 6), "aftere");
}

TEST(Flag, HandlesAreCountedAsTheyWereOpened) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f");
  {
    const auto one = *pool->open(f, O_RDWR, false);
    ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
    const auto two = *pool->open(f, O_RDWR, false);
    const auto three = *pool->open(f, O_RDWR, false);
    EXPECT_EQ(pool->dax_state(f)->open_dax, 2U);
  }
  EXPECT_EQ(pool->dax_state(f)->open_dax, 0U);
  EXPECT_EQ(pool->dax_state(f)->open_cached, 0U);
}

TEST(Flag, SurvivesARemountAndACrash) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f");
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  pool.remount();
  EXPECT_TRUE(pool->dax_state(f)->is_dax);
  ASSERT_TRUE(pool->set_flags(f, 0, kDax, {}, kRoot));
  pool.crash();
  EXPECT_FALSE(pool->dax_state(f)->flag);
}

TEST(Flag, MountOptionsOverrideIt) {
  TestPool always(16 * kMiB, with(fs::DaxMode::kAlways));
  const Ino a = always.file(kRootIno, "f");
  EXPECT_EQ(attribute(always, a, "user.udax.state"), "dax");
  EXPECT_EQ(attribute(always, a, "user.udax.dax"), "0");
  EXPECT_EQ(attribute(always, kRootIno, "user.udax.state"), "dax");
  TestPool never(16 * kMiB, with(fs::DaxMode::kNever));
  const Ino n = never.file(kRootIno, "f");
  ASSERT_TRUE(never->set_flags(n, kDax, kDax, {}, kRoot));
  EXPECT_EQ(attribute(never, n, "user.udax.state"), "cached");
  EXPECT_EQ(attribute(never, n, "user.udax.dax"), "1");
}

TEST(Flag, Attributes) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f");
  const Ino d = pool.mkdir(kRootIno, "d");
  for (const Ino ino : {f, d}) {
    EXPECT_EQ(attribute(pool, ino, "user.udax.dax"), "0");
    EXPECT_EQ(attribute(pool, ino, "user.udax.state"), "cached");
    EXPECT_EQ(*pool->listxattr(ino, kRoot), "");
    EXPECT_EQ(outcome(pool->setxattr(ino, "user.udax.dax", bytes("1"), 0, false, kRoot)), kFine);
    EXPECT_EQ(attribute(pool, ino, "user.udax.dax"), "1");
    EXPECT_EQ(attribute(pool, ino, "user.udax.state"), "dax");
    EXPECT_EQ(*pool->listxattr(ino, kRoot), std::string("user.udax.dax\0", 14));
    EXPECT_EQ(outcome(pool->removexattr(ino, "user.udax.dax", kRoot)), kFine);
    EXPECT_EQ(attribute(pool, ino, "user.udax.dax"), "0");
    EXPECT_EQ(outcome(pool->setxattr(ino, "user.udax.dax", bytes("1"), 2 /* replace */, false, kRoot)), kFine);
    EXPECT_EQ(outcome(pool->setxattr(ino, "user.udax.dax", bytes("0"), 0, false, kRoot)), kFine);
    EXPECT_EQ(attribute(pool, ino, "user.udax.state"), "cached");
  }
  EXPECT_EQ(pool->getattr(f)->flags, 0U);
}

TEST(Flag, AttributesRefuseByName) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f");
  const auto set = [&](std::string_view name, std::string_view value, uint32_t flags = 0,
                       const fs::Caller& caller = kRoot) {
    return outcome(pool->setxattr(f, name, bytes(value), flags, false, caller));
  };
  for (const char* const value : {"", "2", "01", "on", "1\n"}) {
    EXPECT_EQ(set("user.udax.dax", value), Error::kInvalid) << value;
  }
  EXPECT_EQ(set("user.udax.dax", "1", 1 /* create */), Error::kExists);
  EXPECT_EQ(set("user.udax.dax", "1", 4), Error::kInvalid);
  EXPECT_EQ(set("user.udax.dax", "1", 0, kUser), Error::kPermission);
  EXPECT_EQ(set("user.udax.state", "dax"), Error::kPermission);
  EXPECT_EQ(set("user.udax.other", "1"), Error::kNotSupported);
  EXPECT_EQ(outcome(pool->removexattr(f, "user.udax.state", kRoot)), Error::kPermission);
  EXPECT_EQ(outcome(pool->removexattr(f, "user.udax.dax", kUser)), Error::kPermission);
  EXPECT_EQ(outcome(pool->getxattr(f, "user.udax.other")), Error::kNoData);
  EXPECT_EQ(outcome(pool->removexattr(f, "user.udax.other", kRoot)), Error::kNoData);
  const auto fifo = pool->make(kRootIno, "fifo", 0010644, 0, 0, kRoot);
  EXPECT_EQ(outcome(pool->getxattr(fifo->ino, "user.udax.dax")), Error::kNoData);
  EXPECT_EQ(outcome(pool->setxattr(fifo->ino, "user.udax.dax", bytes("1"), 0, false, kRoot)),
            Error::kNotSupported);
  EXPECT_EQ(pool->dax_state(f)->flag, false);
}

TEST(Flag, WhoMaySetIt) {
  TestPool pool(16 * kMiB);
  const auto mine = pool->make(kRootIno, "mine", 0100644, 0, 0, kUser);
  const fs::Caller other{1001, 1000, 3, 022};
  EXPECT_EQ(outcome(pool->set_flags(mine->ino, kDax, kDax, {}, kUser)), kFine);
  EXPECT_EQ(outcome(pool->set_flags(mine->ino, 0, kDax, {}, other)), Error::kPermission);
  EXPECT_EQ(outcome(pool->set_flags(mine->ino, 0, kDax, {}, kRoot)), kFine);
  EXPECT_EQ(outcome(pool->set_flags(mine->ino, 1U << 30, 1U << 30, {}, kRoot)), Error::kNotSupported);
  EXPECT_EQ(outcome(pool->set_flags(mine->ino, kDax, 0, {}, kRoot)), Error::kNotSupported);
  EXPECT_EQ(outcome(pool->set_flags(Ino(99999), kDax, kDax, {}, kRoot)), Error::kStale);
  ASSERT_TRUE(pool->set_flags(mine->ino, format::kFlagImmutable, format::kFlagImmutable, {}, kRoot));
  EXPECT_EQ(outcome(pool->set_flags(mine->ino, kDax, kDax, {}, kRoot)), Error::kPermission);
}

TEST(Flag, AReadOnlyMountRefuses) {
  const auto medium = std::make_shared<media::MemoryMedium>(16 * kMiB);
  Ino f;
  {
    TestPool pool(medium, true);
    f = pool.file(kRootIno, "f");
  }
  fs::MountOptions options;
  options.read_only = true;
  TestPool pool(medium, false, options);
  EXPECT_EQ(outcome(pool->set_flags(f, kDax, kDax, {}, kRoot)), Error::kReadOnly);
  EXPECT_EQ(outcome(pool->setxattr(f, "user.udax.dax", bytes("1"), 0, false, kRoot)), Error::kReadOnly);
  EXPECT_EQ(attribute(pool, f, "user.udax.dax"), "0");
}

TEST(Flag, IsInherited) {
  TestPool pool(16 * kMiB);
  const Ino d = pool.mkdir(kRootIno, "d");
  const Ino before = pool.file(d, "before");
  ASSERT_TRUE(pool->set_flags(d, kDax, kDax, {}, kRoot));
  const Ino f = pool.file(d, "f");
  const Ino sub = pool.mkdir(d, "sub");
  const Ino deep = pool.file(sub, "deep");
  EXPECT_TRUE(pool->dax_state(f)->is_dax);
  EXPECT_TRUE(pool->dax_state(deep)->is_dax);
  EXPECT_FALSE(pool->dax_state(before)->is_dax) << "what is there stays";
  fs::Attr attr;
  const auto created = *pool->create(d, "created", 0644, O_RDWR, kUser, &attr);
  EXPECT_TRUE(created->dax());
  const auto nameless = *pool->tmpfile(d, 0600, O_RDWR, kUser, &attr);
  EXPECT_TRUE(nameless->dax());
  EXPECT_EQ(pool->symlink(d, "l", "f", kRoot)->flags, 0U);
  ASSERT_TRUE(pool->set_flags(d, 0, kDax, {}, kRoot));
  EXPECT_FALSE(pool->dax_state(pool.file(d, "later"))->is_dax);
}

TEST(Flag, SettingWhatIsSetIsNoFlip) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f");
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  EXPECT_EQ(pool->stats().dax.flips, 1U);
  ASSERT_TRUE(pool->set_flags(f, format::kFlagNoDump, format::kFlagNoDump, {}, kRoot));
  EXPECT_EQ(pool->stats().dax.flips, 1U) << "another flag";
  EXPECT_EQ(pool->getattr(f)->flags, kDax | format::kFlagNoDump);
}

}  // namespace
}  // namespace udax::dax

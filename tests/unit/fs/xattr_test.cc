// SPDX-License-Identifier: BSD-3-Clause
//
// Extended attributes and ACLs as the filesystem keeps them (xattr(7), setxattr(2), acl(5)).
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::kUser;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr uint32_t kCreate = 1;
constexpr uint32_t kReplace = 2;
const std::string kAccess = "system.posix_acl_access";
const std::string kDefault = "system.posix_acl_default";

struct Entry {
  uint16_t tag;
  uint16_t perm;
  uint32_t id = ~0U;
};
constexpr uint16_t kUserObj = 1, kNamedUser = 2, kGroupObj = 4, kMask = 16, kOther = 32;

std::string acl(const std::vector<Entry>& entries, uint32_t version = 2) {
  std::string out(reinterpret_cast<const char*>(&version), 4);
  for (const Entry& e : entries) {
    out.append(reinterpret_cast<const char*>(&e.tag), 2);
    out.append(reinterpret_cast<const char*>(&e.perm), 2);
    out.append(reinterpret_cast<const char*>(&e.id), 4);
  }
  return out;
}

class Xattrs : public testing::Test {
 protected:
  Status set(Ino ino, const std::string& name, const std::string& value, uint32_t flags = 0,
             bool kill_sgid = false) {
    return pool_->setxattr(ino, name, bytes(value), flags, kill_sgid, kRoot);
  }
  Error set_error(Ino ino, const std::string& name, const std::string& value, uint32_t flags = 0) {
    const Status done = set(ino, name, value, flags);
    EXPECT_FALSE(done) << name;
    return done ? Error::kNoTty : done.error();
  }
  std::string get(Ino ino, const std::string& name) {
    const auto value = pool_->getxattr(ino, name);
    EXPECT_TRUE(value) << name;
    return value ? std::string(reinterpret_cast<const char*>(value->data()), value->size()) : std::string();
  }
  bool has(Ino ino, const std::string& name) {
    const auto value = pool_->getxattr(ino, name);
    if (!value) {
      EXPECT_EQ(value.error(), Error::kNoData);
    }
    return value.has_value();
  }
  std::vector<std::string> list(Ino ino, const fs::Caller& caller = kRoot) {
    const auto names = pool_->listxattr(ino, caller);
    EXPECT_TRUE(names);
    std::vector<std::string> out;
    for (size_t at = 0; names && at < names->size(); at += out.back().size() + 1)
      out.emplace_back(names->c_str() + at);
    std::sort(out.begin(), out.end());
    return out;
  }
  uint32_t mode(Ino ino) { return pool_->getattr(ino)->mode & 07777U; }

  TestPool pool_{32 * kMiB};
};

TEST_F(Xattrs, EveryNamespaceOnEveryKind) {
  const auto link = pool_->symlink(kRootIno, "l", "t", kRoot);
  for (const Ino ino : {pool_.file(kRootIno, "f"), pool_.mkdir(kRootIno, "d"), link->ino}) {
    for (const std::string name : {"user.a", "trusted.a", "security.a"}) {
      ASSERT_TRUE(set(ino, name, name + "'s value"));
      EXPECT_EQ(get(ino, name), name + "'s value");
    }
    EXPECT_EQ(list(ino), (std::vector<std::string>{"security.a", "trusted.a", "user.a"}));
    EXPECT_EQ(list(ino, kUser), (std::vector<std::string>{"security.a", "user.a"}));
    ASSERT_TRUE(pool_->removexattr(ino, "trusted.a", kRoot));
    EXPECT_FALSE(has(ino, "trusted.a"));
    EXPECT_EQ(pool_->removexattr(ino, "trusted.a", kRoot).error(), Error::kNoData);
  }
  pool_.remount();
  EXPECT_EQ(get(pool_->lookup(kRootIno, "f")->ino, "user.a"), "user.a's value");
}

TEST_F(Xattrs, CreateAndReplace) {
  const Ino f = pool_.file(kRootIno, "f");
  EXPECT_EQ(set_error(f, "user.a", "1", kReplace), Error::kNoData);
  EXPECT_TRUE(set(f, "user.a", "1", kCreate));
  EXPECT_EQ(set_error(f, "user.a", "2", kCreate), Error::kExists);
  EXPECT_EQ(get(f, "user.a"), "1");
  EXPECT_TRUE(set(f, "user.a", "3", kReplace));
  EXPECT_EQ(get(f, "user.a"), "3");
  EXPECT_EQ(set_error(f, "user.a", "4", 4), Error::kInvalid);
}

TEST_F(Xattrs, NamesThatCannotBe) {
  const Ino f = pool_.file(kRootIno, "f");
  EXPECT_EQ(set_error(f, "unknown.a", "1"), Error::kNotSupported);
  EXPECT_EQ(set_error(f, "user.", "1"), Error::kInvalid);
  EXPECT_EQ(set_error(f, "user." + std::string(251, 'n'), "1"), Error::kOutOfRange);
  EXPECT_TRUE(set(f, "user." + std::string(250, 'n'), "1"));
  EXPECT_EQ(get(f, "user." + std::string(250, 'n')), "1");
}

TEST_F(Xattrs, SizesOverEveryBorder) {
  const Ino f = pool_.file(kRootIno, "f");
  const uint64_t before = pool_.free_blocks();
  for (const size_t size :
       {0U, 1U, 7U, 8U, 1023U, 1024U, 1025U, 4055U, 4056U, 4057U, 8112U, 8113U, 65535U, 65536U}) {
    std::string value(size, 'v');
    for (size_t i = 0; i < size; ++i) value[i] = static_cast<char>(i * 7 + size);
    ASSERT_TRUE(set(f, "user.v", value)) << size;
    EXPECT_EQ(get(f, "user.v"), value) << size;
  }
  EXPECT_EQ(set_error(f, "user.v", std::string(65537, 'v')), Error::kTooBig);
  EXPECT_EQ(get(f, "user.v").size(), 65536U);
  pool_.remount();
  EXPECT_EQ(get(f, "user.v").size(), 65536U);
  ASSERT_TRUE(pool_->removexattr(f, "user.v", kRoot));
  EXPECT_EQ(pool_.free_blocks(), before);
  EXPECT_EQ(pool_->getattr(f)->blocks, 0U);
}

TEST_F(Xattrs, ManyUntilNoMoreFit) {
  const Ino f = pool_.file(kRootIno, "f");
  int count = 0;
  for (;; ++count) {
    const Status done = set(f, "user.name with some length " + std::to_string(count), std::string(900, 'v'));
    if (!done) {
      EXPECT_EQ(done.error(), Error::kNoSpace);
      break;
    }
    ASSERT_LT(count, 3000);
  }
  EXPECT_GT(count, 200);
  EXPECT_EQ(list(f).size(), static_cast<size_t>(count));
  for (int i = 0; i < count; i += 17) {
    EXPECT_EQ(get(f, "user.name with some length " + std::to_string(i)), std::string(900, 'v'));
  }
  ASSERT_TRUE(pool_->unlink(kRootIno, "f"));
}

// --- ACLs ------------------------------------------------------------------------------------------------------------

TEST_F(Xattrs, AnAccessAclSetsTheMode) {
  const Ino f = pool_.file(kRootIno, "f");
  const std::string full = acl({{kUserObj, 6}, {kNamedUser, 7, 1000}, {kGroupObj, 4}, {kMask, 5}, {kOther, 0}});
  ASSERT_TRUE(set(f, kAccess, full));
  EXPECT_EQ(mode(f), 0650U) << "the mask stands for the group";
  EXPECT_EQ(get(f, kAccess), full);
  EXPECT_EQ(list(f), std::vector<std::string>{kAccess});
  ASSERT_TRUE(set(f, kAccess, acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 1}})));
  EXPECT_EQ(mode(f), 0751U);
  EXPECT_FALSE(has(f, kAccess)) << "says no more than the mode";
}

TEST_F(Xattrs, AnAccessAclOfAStrangerTakesSetgid) {
  const Ino f = pool_.file(kRootIno, "f");
  fs::SetAttr s;
  s.mode = 02755;
  ASSERT_TRUE(pool_->setattr(f, s, kRoot));
  const std::string minimal = acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 5}});
  ASSERT_TRUE(set(f, kAccess, minimal));
  EXPECT_EQ(mode(f), 02755U);
  ASSERT_TRUE(set(f, kAccess, minimal, 0, true));
  EXPECT_EQ(mode(f), 0755U);
}

TEST_F(Xattrs, ChmodChangesTheMask) {
  const Ino f = pool_.file(kRootIno, "f");
  ASSERT_TRUE(
      set(f, kAccess, acl({{kUserObj, 6}, {kNamedUser, 7, 1000}, {kGroupObj, 4}, {kMask, 7}, {kOther, 0}})));
  fs::SetAttr s;
  s.mode = 0741;
  ASSERT_TRUE(pool_->setattr(f, s, kRoot));
  EXPECT_EQ(get(f, kAccess), acl({{kUserObj, 7}, {kNamedUser, 7, 1000}, {kGroupObj, 4}, {kMask, 4}, {kOther, 1}}));
  EXPECT_EQ(mode(f), 0741U);
}

TEST_F(Xattrs, ADefaultAclTakesTheUmasksPlace) {
  const Ino d = pool_.mkdir(kRootIno, "d");
  const std::string full = acl({{kUserObj, 7}, {kNamedUser, 6, 1000}, {kGroupObj, 6}, {kMask, 6}, {kOther, 4}});
  ASSERT_TRUE(set(d, kDefault, full));
  EXPECT_EQ(mode(d), 0755U);
  const auto f = pool_->make(d, "f", 0100666, 0, 0, kUser);
  EXPECT_EQ(f->mode, 0100664U);
  EXPECT_EQ(get(f->ino, kAccess),
            acl({{kUserObj, 6}, {kNamedUser, 6, 1000}, {kGroupObj, 6}, {kMask, 6}, {kOther, 4}}));
  EXPECT_FALSE(has(f->ino, kDefault));
  const auto sub = pool_->make(d, "sub", 0040700, 0, 0, kUser);
  EXPECT_EQ(sub->mode, 0040700U);
  EXPECT_EQ(get(sub->ino, kDefault), full);
  EXPECT_EQ(get(sub->ino, kAccess),
            acl({{kUserObj, 7}, {kNamedUser, 6, 1000}, {kGroupObj, 6}, {kMask, 0}, {kOther, 0}}));
  const auto link = pool_->symlink(d, "l", "t", kUser);
  EXPECT_FALSE(has(link->ino, kAccess));
  fs::Attr attr;
  ASSERT_TRUE(pool_->tmpfile(d, 0666, O_RDWR, kUser, &attr));
  EXPECT_EQ(attr.mode, 0100664U);
  ASSERT_TRUE(set(d, kDefault, acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}})));
  EXPECT_EQ(pool_->make(d, "g", 0100666, 0, 0, kUser)->mode, 0100640U);
  EXPECT_FALSE(has(pool_->lookup(d, "g")->ino, kAccess));
}

TEST_F(Xattrs, AclsAreRemovedEvenIfThereAreNone) {
  const Ino d = pool_.mkdir(kRootIno, "d");
  EXPECT_TRUE(pool_->removexattr(d, kAccess, kRoot));
  EXPECT_TRUE(pool_->removexattr(d, kDefault, kRoot));
  ASSERT_TRUE(set(d, kDefault, acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}})));
  EXPECT_TRUE(pool_->removexattr(d, kDefault, kRoot));
  EXPECT_FALSE(has(d, kDefault));
  ASSERT_TRUE(set(d, kDefault, acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}})));
  EXPECT_TRUE(set(d, kDefault, acl({})));
  EXPECT_FALSE(has(d, kDefault));
}

TEST_F(Xattrs, BadAclsAreRefused) {
  const Ino d = pool_.mkdir(kRootIno, "d");
  const Ino f = pool_.file(kRootIno, "f");
  const auto link = pool_->symlink(kRootIno, "l", "t", kRoot);
  const std::string good = acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}});
  EXPECT_EQ(set_error(f, kDefault, good), Error::kAccess);
  EXPECT_EQ(set_error(link->ino, kAccess, good), Error::kNotSupported);
  for (const std::string& bad :
       {acl({{kUserObj, 7}, {kGroupObj, 5}}), acl({{kUserObj, 8}, {kGroupObj, 5}, {kOther, 0}}),
        acl({{kOther, 7}, {kGroupObj, 5}, {kUserObj, 0}}),
        acl({{kUserObj, 7}, {kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}}),
        acl({{kUserObj, 7}, {kNamedUser, 7, 5}, {kGroupObj, 5}, {kOther, 0}}),
        acl({{kUserObj, 7}, {kNamedUser, 7}, {kGroupObj, 5}, {kMask, 7}, {kOther, 0}}),
        acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}, {64, 1}}),
        acl({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}}, 3), good + "x"}) {
    EXPECT_EQ(set_error(d, kAccess, bad), Error::kInvalid);
    EXPECT_EQ(set_error(d, kDefault, bad), Error::kInvalid);
  }
  EXPECT_TRUE(list(d).empty());
  EXPECT_EQ(mode(d), 0755U);
}

}  // namespace
}  // namespace udax

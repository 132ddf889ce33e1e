// SPDX-License-Identifier: BSD-3-Clause
//
// acl(5): access and default ACLs, by the extended attributes that setfacl(1) sets; and xattr(7)'s namespaces.
#include <sys/xattr.h>

#include <climits>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

struct Entry {
  uint16_t tag, permissions;
  uint32_t id = ~0U;
};
using Acl = std::vector<Entry>;
constexpr uint16_t kOwner = 1, kNamedUser = 2, kGroup = 4, kNamedGroup = 8, kMask = 16, kRest = 32;
constexpr char kAccess[] = "system.posix_acl_access";
constexpr char kDefault[] = "system.posix_acl_default";

std::string encode(const Acl& acl) {
  std::string value("\2\0\0\0", 4);
  for (const Entry& entry : acl) value.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
  return value;
}

int set(const char* path, const char* kind, const Acl& acl) {
  const std::string value = encode(acl);
  return err(::setxattr(path, kind, value.data(), value.size(), 0));
}

std::string get(const char* path, const char* kind) {
  std::string value(1000, '\0');
  const ssize_t length = ::getxattr(path, kind, value.data(), value.size());
  return length < 0 ? "errno " + std::to_string(errno) : value.substr(0, static_cast<size_t>(length));
}
const std::string kNoAcl = "errno " + std::to_string(ENODATA);

TEST_F(Posix, AclsAndModesAreOne) {
  make_file("f", "", 0644);
  EXPECT_EQ(get("f", kAccess), kNoAcl);
  const Acl acl{{kOwner, 7}, {kNamedUser, 6, kOther}, {kGroup, 5}, {kNamedGroup, 4, 77}, {kMask, 6}, {kRest, 1}};
  ASSERT_EQ(set("f", kAccess, acl), 0);
  EXPECT_EQ(get("f", kAccess), encode(acl));
  EXPECT_EQ(mode_of("f"), 0761U) << "the mask stands where the group's bits are";
  ASSERT_EQ(err(::chmod("f", 0640)), 0);
  Acl expected = acl;
  expected[0].permissions = 6;
  expected[4].permissions = 4;
  expected[5].permissions = 0;
  EXPECT_EQ(get("f", kAccess), encode(expected)) << "chmod(2) changes the mask, not the group's entry";
  // One that says no more than a mode is none.
  ASSERT_EQ(set("f", kAccess, {{kOwner, 6}, {kGroup, 4}, {kRest, 4}}), 0);
  EXPECT_EQ(mode_of("f"), 0644U);
  EXPECT_EQ(get("f", kAccess), kNoAcl);
  ASSERT_EQ(set("f", kAccess, acl), 0);
  ASSERT_EQ(err(::removexattr("f", kAccess)), 0);
  EXPECT_EQ(get("f", kAccess), kNoAcl);
  EXPECT_EQ(mode_of("f"), 0761U) << "removing the entries keeps the mode";
}

TEST_F(Posix, AclsThatAreNone) {
  make_file("f");
  ASSERT_EQ(::mkdir("d", 0755), 0);
  EXPECT_EQ(set("f", kAccess, {{kOwner, 6}}), EINVAL);
  EXPECT_EQ(set("f", kAccess, {{kOwner, 6}, {kGroup, 4}}), EINVAL);
  EXPECT_EQ(set("f", kAccess, {{kOwner, 6}, {kNamedUser, 4, 5}, {kGroup, 4}, {kRest, 4}}), EINVAL)
      << "without a mask";
  EXPECT_EQ(set("f", kAccess, {{kGroup, 4}, {kOwner, 6}, {kRest, 4}}), EINVAL) << "out of order";
  EXPECT_EQ(set("f", kAccess, {{kOwner, 6}, {kOwner, 6}, {kGroup, 4}, {kRest, 4}}), EINVAL);
  EXPECT_EQ(set("f", kAccess, {{kOwner, 9}, {kGroup, 4}, {kRest, 4}}), EINVAL) << "no such permission";
  EXPECT_EQ(set("f", kAccess, {{64, 6}, {kGroup, 4}, {kRest, 4}}), EINVAL);
  EXPECT_EQ(err(::setxattr("f", kAccess, "\3\0\0\0", 4, 0)), EOPNOTSUPP) << "another version";
  EXPECT_EQ(err(::setxattr("f", kAccess, "\2\0\0", 3, 0)), EINVAL);
  EXPECT_EQ(set("f", kDefault, {{kOwner, 6}, {kGroup, 4}, {kRest, 4}}), EACCES) << "only folders have one";
  EXPECT_EQ(mode_of("f"), 0644U);
  EXPECT_EQ(set("d", kDefault, {}), 0) << "an empty one is none";
  EXPECT_EQ(get("d", kDefault), kNoAcl);
  ASSERT_EQ(::symlink("f", "l"), 0);
  const std::string value = encode({{kOwner, 6}, {kGroup, 4}, {kRest, 4}});
  EXPECT_EQ(err(::lsetxattr("l", kAccess, value.data(), value.size(), 0)), EOPNOTSUPP);
}

TEST_F(Posix, AclsDecide) {
  UDAX_NEEDS_ROOT();
  make_file("f", "x");
  ASSERT_EQ(err(::chown("f", kOther, kOther)), 0);
  const auto may = [](uint32_t user, int what) {
    return in_child(user, [what] { return err(::access("f", what)); });
  };
  // A named user's entry, within the mask, and not the others'.
  ASSERT_EQ(set("f", kAccess, {{kOwner, 0}, {kNamedUser, 6, kUser}, {kGroup, 0}, {kMask, 4}, {kRest, 7}}), 0);
  EXPECT_EQ(may(kUser, R_OK), 0);
  EXPECT_EQ(may(kUser, W_OK), EACCES);
  EXPECT_EQ(may(kOther, R_OK), EACCES) << "the owner's entry";
  EXPECT_EQ(may(1234, R_OK | W_OK | X_OK), 0) << "the others'";
  // Groups: one entry that grants is enough; if one matches and none grants, the others' does not count.
  ASSERT_EQ(set("f", kAccess,
                {{kOwner, 7}, {kGroup, 0}, {kNamedGroup, 4, kUser}, {kNamedGroup, 2, 99}, {kMask, 7}, {kRest, 7}}),
            0);
  EXPECT_EQ(may(kUser, R_OK), 0);
  EXPECT_EQ(may(kUser, W_OK), EACCES);
  EXPECT_EQ(may(99, W_OK), 0);
  EXPECT_EQ(may(99, X_OK), EACCES);
  // Only the owner sets it.
  EXPECT_EQ(in_child(kUser, [] { return set("f", kAccess, {{kOwner, 7}, {kGroup, 7}, {kRest, 7}}); }), EPERM);
  EXPECT_EQ(in_child(kOther, [] { return set("f", kAccess, {{kOwner, 7}, {kGroup, 7}, {kRest, 7}}); }), 0);
  EXPECT_EQ(mode_of("f"), 0777U);
  // setgid goes if one who is not in the group sets an ACL.
  ASSERT_EQ(err(::chown("f", kUser, 4242)), 0);
  ASSERT_EQ(err(::chmod("f", 02755)), 0);
  EXPECT_EQ(in_child(kUser, [] { return set("f", kAccess, {{kOwner, 7}, {kGroup, 5}, {kRest, 5}}); }), 0);
  EXPECT_EQ(mode_of("f"), 0755U);
}

TEST_F(Posix, DefaultAclsAreInherited) {
  ASSERT_EQ(::mkdir("d", 0755), 0);
  const Acl acl{{kOwner, 7}, {kNamedUser, 7, kOther}, {kGroup, 7}, {kMask, 7}, {kRest, 5}};
  ASSERT_EQ(set("d", kDefault, acl), 0);
  EXPECT_EQ(mode_of("d"), 0755U) << "of the folder itself it decides nothing";
  EXPECT_EQ(get("d", kAccess), kNoAcl);
  ::umask(0777);
  ASSERT_EQ(::close(::open("d/f", O_CREAT | O_WRONLY, 0624)), 0);
  ASSERT_EQ(::mkdir("d/sub", 0770), 0);
  const Fd nameless(::open("d", O_TMPFILE | O_RDWR, 0640));
  ASSERT_GE(nameless, 0);
  ::umask(022);
  EXPECT_EQ(mode_of("d/f"), 0624U) << "the mode that was asked for limits it, not the umask";
  Acl of_file = acl;
  of_file[0].permissions = 6;
  of_file[3].permissions = 2;
  of_file[4].permissions = 4;
  EXPECT_EQ(get("d/f", kAccess), encode(of_file));
  EXPECT_EQ(get("d/f", kDefault), kNoAcl);
  EXPECT_EQ(mode_of("d/sub"), 0770U);
  EXPECT_EQ(get("d/sub", kDefault), encode(acl));
  struct stat info {};
  ASSERT_EQ(::fstat(nameless, &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0640U);
  // A default that is no more than a mode: no ACL is made, and the umask does not count either.
  ASSERT_EQ(set("d", kDefault, {{kOwner, 7}, {kGroup, 7}, {kRest, 4}}), 0);
  ASSERT_EQ(::close(::open("d/g", O_CREAT | O_WRONLY, 0666)), 0);
  EXPECT_EQ(mode_of("d/g"), 0664U);
  EXPECT_EQ(get("d/g", kAccess), kNoAcl);
  ASSERT_EQ(err(::removexattr("d", kDefault)), 0);
  EXPECT_EQ(err(::removexattr("d", kDefault)), 0) << "removing none is no error";
  ASSERT_EQ(::close(::open("d/h", O_CREAT | O_WRONLY, 0666)), 0);
  EXPECT_EQ(mode_of("d/h"), 0644U);
}

TEST_F(Posix, NamespacesOfXattrs) {
  make_file("f");
  const auto set_x = [](const char* name) { return err(::setxattr("f", name, "1", 1, 0)); };
  EXPECT_EQ(set_x("user."), EINVAL);
  EXPECT_EQ(set_x("user"), EOPNOTSUPP);
  EXPECT_EQ(set_x("other.a"), EOPNOTSUPP);
  EXPECT_EQ(set_x("system.a"), EOPNOTSUPP);
  EXPECT_EQ(set_x(""), ERANGE);
  EXPECT_EQ(set_x(("user." + std::string(251, 'n')).c_str()), ERANGE);
  EXPECT_EQ(err(::setxattr("f", "user.a", "1", 1, 4)), EINVAL) << "no such flag";
  EXPECT_EQ(err(::getxattr("f", "other.a", nullptr, 0)), EOPNOTSUPP);
  EXPECT_EQ(err(::removexattr("f", "other.a")), EOPNOTSUPP);
  const std::string huge(XATTR_SIZE_MAX + 1, 'x');
  EXPECT_EQ(err(::setxattr("f", "user.a", huge.data(), huge.size(), 0)), E2BIG);
  EXPECT_EQ(err(::setxattr("f", "user.empty", "", 0, 0)), 0) << "an empty value is one";
  EXPECT_EQ(::getxattr("f", "user.empty", nullptr, 0), 0);
  EXPECT_EQ(err(::setxattr("f", "user.empty", "", 0, XATTR_CREATE)), EEXIST);
  EXPECT_EQ(::listxattr("f", nullptr, 0), 11);
  EXPECT_EQ(err(::setxattr("f", "user.zeroes", "\0a\0", 3, 0)), 0);
  EXPECT_EQ(get("f", "user.zeroes"), std::string("\0a\0", 3));
  if (::geteuid() != 0) {
    EXPECT_EQ(set_x("trusted.a"), EPERM);
    EXPECT_EQ(set_x("security.a"), EPERM);
    EXPECT_EQ(err(::getxattr("f", "trusted.a", nullptr, 0)), ENODATA);
  } else {
    EXPECT_EQ(set_x("trusted.a"), 0);
    EXPECT_EQ(set_x("security.a"), 0);
  }
}

TEST_F(Posix, UserXattrsNeedPermission) {
  UDAX_NEEDS_ROOT();
  make_file("shut", "", 0600);
  make_file("readable", "", 0644);
  make_file("writable", "", 0222);
  for (const char* path : {"shut", "readable", "writable"}) {
    ASSERT_EQ(err(::setxattr(path, "user.a", "1", 1, 0)), 0);
  }
  const auto as_user = [](const std::function<int64_t()>& call) {
    return in_child(kUser, [&] { return err(call()); });
  };
  EXPECT_EQ(as_user([] { return ::getxattr("shut", "user.a", nullptr, 0); }), EACCES);
  EXPECT_EQ(as_user([] { return ::listxattr("shut", nullptr, 0); }), 0) << "names may be listed by all";
  EXPECT_EQ(as_user([] { return ::getxattr("readable", "user.a", nullptr, 0); }), 0);
  EXPECT_EQ(as_user([] { return ::setxattr("readable", "user.a", "2", 1, 0); }), EACCES);
  EXPECT_EQ(as_user([] { return ::removexattr("readable", "user.a"); }), EACCES);
  EXPECT_EQ(as_user([] { return ::setxattr("writable", "user.b", "2", 1, 0); }), 0);
  EXPECT_EQ(as_user([] { return ::getxattr("writable", "user.b", nullptr, 0); }), EACCES);
  // In a sticky folder of another's, user.* is for its owner.
  ASSERT_EQ(::mkdir("sticky", 0755), 0);
  ASSERT_EQ(err(::chmod("sticky", 01777)), 0);
  EXPECT_EQ(as_user([] { return ::setxattr("sticky", "user.a", "1", 1, 0); }), EPERM);
  ASSERT_EQ(err(::chmod("sticky", 0777)), 0);
  EXPECT_EQ(as_user([] { return ::setxattr("sticky", "user.a", "1", 1, 0); }), 0);
  // What is no file and no folder has none.
  ASSERT_EQ(::mkfifo("fifo", 0666), 0);
  EXPECT_EQ(err(::getxattr("fifo", "user.a", nullptr, 0)), ENODATA);
  EXPECT_EQ(err(::setxattr("fifo", "trusted.a", "1", 1, 0)), 0);
}

}  // namespace
}  // namespace udax::conformity

// SPDX-License-Identifier: BSD-3-Clause
#include "tests/support/pool.h"

#include <fcntl.h>

#include <algorithm>

#include "mkfs/make_pool.h"
#include "tests/support/check.h"

namespace udax::test {

TestPool::TestPool(uint64_t size, fs::MountOptions options)
    : TestPool(std::make_shared<media::MemoryMedium>(size), true, options) {}

TestPool::TestPool(std::shared_ptr<media::Medium> medium, bool make, fs::MountOptions options)
    : options_(options), medium_(std::move(medium)) {
  if (make) {
    std::string why;
    const Status made = mkfs::make_pool(*medium_, {}, &why);
    if (!made) ADD_FAILURE() << why;
  }
  mount();
}

TestPool::~TestPool() {
  if (fs_ != nullptr) {
    unmount();
    check();
  }
}

void TestPool::mount() {
  std::string why;
  auto mounted = fs::Filesystem::mount(medium_, options_, &why);
  if (!mounted) {
    ADD_FAILURE() << "mount: " << why;
    std::abort();  // nothing that follows could work
  }
  fs_ = std::move(*mounted);
}

void TestPool::unmount() {
  const Status done = fs_->unmount();
  EXPECT_TRUE(done) << to_string(done ? Error::kIo : done.error());
  fs_.reset();
}

void TestPool::remount() {
  unmount();
  check();
  mount();
}

void TestPool::crash() {
  fs_.reset();
  mount();
}

void TestPool::check() { expect_clean(*medium_); }

Ino TestPool::mkdir(Ino parent, const std::string& name, uint32_t mode) {
  const auto made = fs_->make(parent, name, 0040000U | mode, 0, 0, kRoot);
  EXPECT_TRUE(made) << name << ": " << to_string(made ? Error::kIo : made.error());
  return made ? made->ino : kNoIno;
}

Ino TestPool::file(Ino parent, const std::string& name, std::string_view content) {
  fs::Attr attr;
  auto made = fs_->create(parent, name, 0644, O_RDWR, kRoot, &attr);
  EXPECT_TRUE(made) << name << ": " << to_string(made ? Error::kIo : made.error());
  if (!made) return kNoIno;
  if (!content.empty()) {
    const auto written = fs_->write(**made, 0, bytes(content), false, false);
    EXPECT_TRUE(written && *written == content.size()) << name;
  }
  return attr.ino;
}

void TestPool::write(Ino ino, uint64_t offset, std::string_view content) {
  auto file = fs_->open(ino, O_RDWR, false);
  ASSERT_TRUE(file);
  const auto written = fs_->write(**file, offset, bytes(content), false, false);
  ASSERT_TRUE(written) << to_string(written.error());
  EXPECT_EQ(*written, content.size());
}

std::string TestPool::read(Ino ino, uint64_t offset, uint64_t size) {
  auto file = fs_->open(ino, O_RDONLY, false);
  EXPECT_TRUE(file);
  if (!file) return {};
  auto got = read_file(*fs_, **file, offset, size);
  EXPECT_TRUE(got) << to_string(got ? Error::kIo : got.error());
  return got ? *got : std::string();
}

std::string TestPool::content(Ino ino) {
  const auto attr = fs_->getattr(ino);
  EXPECT_TRUE(attr);
  return attr ? read(ino, 0, attr->size) : std::string();
}

std::vector<std::string> TestPool::list(Ino dir) {
  std::vector<std::string> names;
  auto file = fs_->open(dir, O_RDONLY, false);
  EXPECT_TRUE(file);
  if (!file) return names;
  const Status done = fs_->readdir(**file, 0, [&names](const fs::DirEntry& entry) {
    if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
    return true;
  });
  EXPECT_TRUE(done);
  std::sort(names.begin(), names.end());
  return names;
}

uint64_t TestPool::free_blocks() { return fs_->statfs().blocks_free; }

Result<std::string> read_file(fs::Filesystem& fs, fs::OpenFile& file, uint64_t offset, uint64_t size) {
  std::string out;
  const Status done = fs.read(file, offset, size, [&out](std::span<const iovec> pieces, uint64_t total) -> Status {
    for (const iovec& piece : pieces) out.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    EXPECT_EQ(out.size(), total);
    return {};
  });
  if (!done) return done.error();
  return out;
}

}  // namespace udax::test

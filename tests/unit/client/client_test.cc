// SPDX-License-Identifier: BSD-3-Clause
//
// The C functions against a daemon of the test's own (fake_daemon.h). ioctl(2) is the test's, too: it gives leave for any file.
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <udax/udax.h>

#include <csetjmp>
#include <csignal>
#include <cstdarg>

#include "base/sync_point.h"
#include "client/private.h"
#include "tests/unit/client/fake_daemon.h"

namespace {

using udax::client_test::FakeDaemon;
using udax::client_test::g_daemon;
using udax::client_test::kPageSize;
using udax::client_test::kPoolSize;

int g_leave_error = 0;

}  // namespace

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  if (request != UDAX_IOC_DIRECT) return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
  if (g_leave_error != 0) {
    errno = g_leave_error;
    return -1;
  }
  g_daemon->leave(static_cast<udax_ioc_direct*>(argument));
  return 0;
}

namespace {

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* const why = udax::client_test::why_no_client(); why != nullptr) GTEST_SKIP() << why;
    daemon_ = std::make_unique<FakeDaemon>();
    g_daemon = daemon_.get();
    g_leave_error = 0;
    file_ = ::memfd_create("file", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(file_, kPoolSize), 0);
  }
  void TearDown() override {
    if (daemon_) daemon_->die();
    ::close(file_);
  }
  char* map(size_t length, uint64_t offset = 0, int prot = PROT_READ | PROT_WRITE, void* at = nullptr,
            int flags = 0) {
    void* const got = ::udax_map(at, length, prot, MAP_SHARED | flags, file_, static_cast<off_t>(offset));
    return got == MAP_FAILED ? nullptr : static_cast<char*>(got);
  }

  std::unique_ptr<FakeDaemon> daemon_;
  int file_ = -1;
};

sigjmp_buf g_escape;
void escape(int number) { siglongjmp(g_escape, number); }

/// The signal that touching `at` gives, or 0.
int signal_of(const volatile char* at, bool store = false) {
  struct sigaction action {};
  struct sigaction bus {};
  struct sigaction segv {};
  action.sa_handler = &escape;
  action.sa_flags = SA_NODEFER;
  ::sigaction(SIGBUS, &action, &bus);
  ::sigaction(SIGSEGV, &action, &segv);
  const int number = sigsetjmp(g_escape, 1);
  if (number == 0) {
    const char value = *at;
    if (store) *const_cast<volatile char*>(at) = value;
  }
  ::sigaction(SIGBUS, &bus, nullptr);
  ::sigaction(SIGSEGV, &segv, nullptr);
  return number;
}

TEST_F(ClientTest, LoadsAndStoresAreThePools) {
  daemon_->bytes()[kPageSize + 5] = 'r';
  char* const at = map(8 * kPageSize);
  ASSERT_NE(at, nullptr) << std::strerror(errno);
  EXPECT_EQ(at[kPageSize + 5], 'r');
  at[3 * kPageSize] = 'w';
  EXPECT_EQ(daemon_->bytes()[3 * kPageSize], 'w');
  EXPECT_EQ(::udax_sync(at, 8 * kPageSize, MS_SYNC), 0);
  EXPECT_EQ(daemon_->syncs, 1);
  udax_mapping mapping{};
  ASSERT_EQ(::udax_query(at, 8 * kPageSize, &mapping, sizeof mapping), 0);
  EXPECT_EQ(mapping.direct_bytes, 2 * kPageSize);
  EXPECT_EQ(::udax_unmap(at, 8 * kPageSize), 0);
  EXPECT_EQ(signal_of(at), SIGSEGV);
  EXPECT_EQ(daemon_->opens, 1);
  EXPECT_EQ(daemon_->closes, 1);  // a removed file's space must come back
}

TEST_F(ClientTest, HoleIsZeroesUntilTheFirstStore) {
  daemon_->make_hole(2 * kPageSize);
  char* const at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(at[2 * kPageSize], 0);
  at[2 * kPageSize] = 'x';  // a write-protection fault: the zero page goes, the pool's comes
  EXPECT_EQ(at[2 * kPageSize], 'x');
  EXPECT_EQ(daemon_->bytes()[2 * kPageSize], 'x');
  EXPECT_EQ(::udax_unmap(at, 4 * kPageSize), 0);
}

/// Counts up in a page that is taken back all the while, `rounds` times. True if every store is there.
bool counts_right(FakeDaemon& daemon, char* at, int rounds) {
  auto* const counter = reinterpret_cast<std::atomic<uint64_t>*>(at);
  const uint64_t before = counter->load();
  const int seen = daemon.faults_seen;
  std::atomic<bool> stop{false};
  std::thread taker([&] {
    while (daemon.faults_seen < seen + rounds) {
      daemon.take_back(0, kPageSize);
      std::this_thread::yield();
    }
    stop = true;
  });
  uint64_t stored = before;
  while (!stop) {
    counter->fetch_add(1);
    ++stored;
  }
  taker.join();
  return counter->load() == stored && *reinterpret_cast<uint64_t*>(daemon.bytes()) == stored;
}

TEST_F(ClientTest, NoStoreIsLostWhilePagesAreTakenBack) {
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  EXPECT_TRUE(counts_right(*daemon_, at, 500));
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

// The control: memory is mapped, and registered thereafter. What is stored in between goes nowhere.
TEST_F(ClientTest, StoresAreLostWhereHolesAreNotAtomic) {
  if (!udax::sync_point::kCompiledIn) GTEST_SKIP() << "built without sync points";
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  const udax::sync_point::ScopedKnob knob("client.naive_hole");
  bool lost = false;
  for (int i = 0; i < 100 && !lost; ++i) lost = !counts_right(*daemon_, at, 500);
  EXPECT_TRUE(lost);
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

TEST_F(ClientTest, SystemCallsUseMappedBuffers) {
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(::pwrite(file_, "kernel", 6, 0), 6);
  EXPECT_EQ(::pread(file_, at + 10, 6, 0), 6);
  EXPECT_EQ(std::memcmp(daemon_->bytes() + 10, "kernel", 6), 0);
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

TEST_F(ClientTest, UnmapsTheMiddleAndProtectsTheRest) {
  char* const at = map(9 * kPageSize, 16 * kPageSize);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(::udax_unmap(at + 3 * kPageSize, 3 * kPageSize), 0);
  EXPECT_EQ(signal_of(at + 4 * kPageSize), SIGSEGV);
  EXPECT_EQ(::udax_sync(at, 9 * kPageSize, MS_SYNC), -1);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(::udax_protect(at, 3 * kPageSize, PROT_READ), 0);
  EXPECT_EQ(signal_of(at + kPageSize), 0);
  EXPECT_EQ(signal_of(at + kPageSize, true), SIGSEGV);
  EXPECT_EQ(::udax_protect(at, 3 * kPageSize, PROT_READ | PROT_WRITE), 0);
  at[kPageSize] = 'p';
  EXPECT_EQ(daemon_->bytes()[17 * kPageSize], 'p');
  daemon_->bytes()[24 * kPageSize] = 'q';
  EXPECT_EQ(at[8 * kPageSize], 'q');
  EXPECT_EQ(daemon_->closes, 0);
  EXPECT_EQ(::udax_unmap(at, 9 * kPageSize), 0);
  EXPECT_EQ(daemon_->closes, 1);
}

TEST_F(ClientTest, RemapsShorterLongerAndElsewhere) {
  daemon_->bytes()[7 * kPageSize] = 's';
  char* at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  at[0] = 'a';
  ASSERT_EQ(::udax_remap(at, 4 * kPageSize, 2 * kPageSize, 0), at);
  EXPECT_EQ(signal_of(at + 2 * kPageSize), SIGSEGV);
  ASSERT_EQ(::udax_remap(at, 2 * kPageSize, 4 * kPageSize, 0), at);
  // Something right behind it: it has to go elsewhere.
  void* const wall =
      ::mmap(at + 4 * kPageSize, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  ASSERT_TRUE(wall != MAP_FAILED || errno == EEXIST);
  EXPECT_EQ(::udax_remap(at, 4 * kPageSize, 8 * kPageSize, 0), MAP_FAILED);
  EXPECT_EQ(errno, ENOMEM);
  char* const moved = static_cast<char*>(::udax_remap(at, 4 * kPageSize, 8 * kPageSize, MREMAP_MAYMOVE));
  ASSERT_NE(moved, MAP_FAILED);
  ASSERT_NE(moved, at);
  EXPECT_EQ(moved[0], 'a');
  EXPECT_EQ(moved[7 * kPageSize], 's');
  EXPECT_EQ(signal_of(at), SIGSEGV);
  EXPECT_EQ(::udax_remap(moved + kPageSize, 8 * kPageSize, kPageSize, 0), MAP_FAILED);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(::udax_unmap(moved, 8 * kPageSize), 0);
  if (wall != MAP_FAILED) ::munmap(wall, kPageSize);
}

TEST_F(ClientTest, FixedReplacesItsOwnAndTheShimAnything) {
  daemon_->bytes()[5 * kPageSize] = 'f';
  char* const at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(map(kPageSize, 5 * kPageSize, PROT_READ, at + kPageSize, MAP_FIXED), at + kPageSize);
  EXPECT_EQ(at[kPageSize], 'f');
  void* const own = ::mmap(nullptr, 4 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(own, MAP_FAILED);
  EXPECT_EQ(map(kPageSize, 5 * kPageSize, PROT_READ, own, MAP_FIXED), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  ASSERT_EQ(::udax_private_map(own, kPageSize, PROT_READ, MAP_SHARED | MAP_FIXED, file_, 5 * kPageSize), own);
  EXPECT_EQ(*static_cast<char*>(own), 'f');
  EXPECT_TRUE(::udax_private_overlaps(own, 4 * kPageSize));
  bool is_own = false;
  EXPECT_EQ(::udax_private_piece(own, 4 * kPageSize, &is_own), kPageSize);
  EXPECT_TRUE(is_own);
  EXPECT_EQ(::udax_unmap(own, kPageSize), 0);
  EXPECT_EQ(::udax_unmap(at, 4 * kPageSize), 0);
  ::munmap(own, 4 * kPageSize);
}

TEST_F(ClientTest, ChildHasItsMappingsAtTheSameAddresses) {
  char* const at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  at[0] = 'p';
  const pid_t child = ::fork();
  if (child == 0) {
    const bool seen = at[0] == 'p';
    at[kPageSize] = 'c';
    const bool synced = ::udax_sync(at, 4 * kPageSize, MS_SYNC) == 0;
    ::_exit(seen && synced && ::udax_unmap(at, 4 * kPageSize) == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(at[kPageSize], 'c');
  EXPECT_EQ(daemon_->connections(), 2U);
  EXPECT_EQ(::udax_unmap(at, 4 * kPageSize), 0);
}

TEST_F(ClientTest, ChildThatGetsNoLeaveHasTheKernelsMapping) {
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(::pwrite(file_, "K", 1, 0), 1);  // the fake's kernel has a file of its own
  g_leave_error = EPERM;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(*at == 'K' && !::udax_private_overlaps(at, kPageSize) ? 0 : 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

TEST_F(ClientTest, MappingBecomesTheKernels) {
  char* at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  at[0] = 'd';
  ASSERT_EQ(::pwrite(file_, "K", 1, 0), 1);  // the fake's kernel has a file of its own
  daemon_->hand_over(0, kPoolSize);
  EXPECT_EQ(at[0], 'K');
  at[kPageSize] = 'k';
  char byte = 0;
  EXPECT_EQ(::pread(file_, &byte, 1, kPageSize), 1);
  EXPECT_EQ(byte, 'k');
  EXPECT_EQ(daemon_->bytes()[kPageSize], 0);
  EXPECT_FALSE(::udax_private_overlaps(at, 4 * kPageSize));
  EXPECT_EQ(daemon_->closes, 1);  // a removed file's space must come back
  udax_mapping mapping{};
  EXPECT_EQ(::udax_query(at, 4 * kPageSize, &mapping, sizeof mapping), 0);
  EXPECT_EQ(::udax_sync(at, 4 * kPageSize, MS_SYNC), 0);
  EXPECT_EQ(::udax_advise(at, 4 * kPageSize, MADV_WILLNEED), 0);
  EXPECT_EQ(daemon_->syncs, 0);
  EXPECT_EQ(::udax_protect(at, kPageSize, PROT_READ), 0);
  EXPECT_EQ(signal_of(at, true), SIGSEGV);
  EXPECT_EQ(::udax_protect(at, kPageSize, PROT_READ | PROT_WRITE), 0);
  ASSERT_NE(at = static_cast<char*>(::udax_remap(at, 4 * kPageSize, 64 * kPageSize, MREMAP_MAYMOVE)), MAP_FAILED);
  EXPECT_EQ(at[0], 'K');
  ASSERT_EQ(::udax_remap(at, 64 * kPageSize, 2 * kPageSize, 0), at);
  EXPECT_EQ(signal_of(at + 2 * kPageSize), SIGSEGV);
  EXPECT_EQ(::udax_unmap(at, 2 * kPageSize), 0);
  EXPECT_EQ(signal_of(at), SIGSEGV);
  EXPECT_EQ(::udax_unmap(at, 2 * kPageSize), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(daemon_->unmaps, 0);
}

TEST_F(ClientTest, WhoWaitsInAFaultGoesOnInTheKernelsMapping) {
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(::pwrite(file_, "K", 1, 0), 1);
  daemon_->faults.silent_faults = true;
  std::atomic<char> got{0};
  std::thread waiter([&] { got = *static_cast<volatile char*>(at); });
  while (daemon_->faults_seen < 1) std::this_thread::yield();
  EXPECT_EQ(got, 0);
  daemon_->hand_over(0, kPoolSize);
  waiter.join();
  EXPECT_EQ(got, 'K');
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

// Half of it, of which the daemon has made two; and one of which a part is unmapped already.
TEST_F(ClientTest, APartBecomesTheKernels) {
  char* const at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(map(2 * kPageSize, 16 * kPageSize, PROT_READ | PROT_WRITE, at + 2 * kPageSize, MAP_FIXED),
            at + 2 * kPageSize);
  daemon_->bytes()[16 * kPageSize] = 'd';
  EXPECT_EQ(::udax_unmap(at + kPageSize, kPageSize), 0);
  const int unmaps = daemon_->unmaps;
  daemon_->hand_over(0, kPageSize);
  EXPECT_EQ(::udax_sync(at, 4 * kPageSize, MS_SYNC), -1);
  EXPECT_EQ(errno, ENOMEM);
  ASSERT_EQ(map(kPageSize, kPageSize, PROT_READ, at + kPageSize, MAP_FIXED), nullptr)
      << "what is unmapped is free";
  EXPECT_EQ(at[2 * kPageSize], 'd');
  EXPECT_EQ(signal_of(at + kPageSize), SIGSEGV);
  EXPECT_TRUE(::udax_private_overlaps(at, 4 * kPageSize));
  bool is_own = true;
  EXPECT_EQ(::udax_private_piece(at, 4 * kPageSize, &is_own), 2 * kPageSize);
  EXPECT_FALSE(is_own);
  // What was the kernel's is direct again, in its place.
  ASSERT_EQ(map(kPageSize, 16 * kPageSize, PROT_READ, at, MAP_FIXED), at);
  EXPECT_EQ(at[0], 'd');
  EXPECT_EQ(::udax_unmap(at, 4 * kPageSize), 0);
  EXPECT_EQ(daemon_->unmaps, unmaps + 2);
  EXPECT_EQ(signal_of(at), SIGSEGV);
}

TEST_F(ClientTest, BothHalvesAreAskedAndSynced) {
  char* const at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(map(2 * kPageSize, 16 * kPageSize, PROT_READ | PROT_WRITE, at + 2 * kPageSize, MAP_FIXED),
            at + 2 * kPageSize);
  daemon_->hand_over(0, kPageSize);
  EXPECT_EQ(::udax_sync(at, 4 * kPageSize, MS_SYNC), 0);
  EXPECT_EQ(daemon_->syncs, 1);
  EXPECT_EQ(::udax_protect(at, 4 * kPageSize, PROT_READ), 0);
  EXPECT_EQ(signal_of(at, true), SIGSEGV);
  EXPECT_EQ(signal_of(at + 3 * kPageSize, true), SIGSEGV);
  EXPECT_EQ(::udax_remap(at, 4 * kPageSize, 8 * kPageSize, MREMAP_MAYMOVE), MAP_FAILED);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(::udax_unmap(at, 4 * kPageSize), 0);
  EXPECT_EQ(signal_of(at), SIGSEGV);
  EXPECT_EQ(signal_of(at + 3 * kPageSize), SIGSEGV);
}

// The daemon has handed it over when the request comes, and the client did not know yet.
TEST_F(ClientTest, ARequestThatComesTooLateIsTheKernels) {
  for (const bool syncs : {true, false}) {
    char* const at = map(2 * kPageSize);
    ASSERT_NE(at, nullptr);
    daemon_->faults.hands_over_first = true;
    EXPECT_EQ(syncs ? ::udax_sync(at, 2 * kPageSize, MS_SYNC) : ::udax_protect(at, 2 * kPageSize, PROT_READ), 0);
    daemon_->faults.hands_over_first = false;
    EXPECT_FALSE(::udax_private_overlaps(at, 2 * kPageSize));
    EXPECT_EQ(signal_of(at, true), syncs ? 0 : SIGSEGV);
    EXPECT_EQ(::udax_unmap(at, 2 * kPageSize), 0);
  }
  EXPECT_EQ(daemon_->syncs, 0);
}

TEST_F(ClientTest, ChildInheritsWhatIsTheKernels) {
  char* const at = map(2 * kPageSize);
  ASSERT_NE(at, nullptr);
  ASSERT_EQ(::pwrite(file_, "K", 1, 0), 1);
  daemon_->hand_over(0, kPoolSize);  // and nobody asks before the fork
  const pid_t child = ::fork();
  if (child == 0) {
    const bool seen = at[0] == 'K' && !::udax_private_overlaps(at, kPageSize);
    at[1] = 'c';
    ::_exit(seen && ::udax_unmap(at, 2 * kPageSize) == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(at[1], 'c');
  EXPECT_EQ(::udax_unmap(at, 2 * kPageSize), 0);
}

// To open the file anew takes a descriptor; closing it must not cost the program its locks, nor must the mapping keep them.
TEST_F(ClientTest, LocksOfTheProgramStayItsOwn) {
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  ASSERT_EQ(::fcntl(file_, F_SETLK, &lock), 0);
  ASSERT_EQ(::flock(file_, LOCK_EX), 0);
  daemon_->hand_over(0, kPoolSize);
  EXPECT_EQ(signal_of(at, true), 0);
  EXPECT_FALSE(::udax_private_overlaps(at, kPageSize));
  const pid_t child = ::fork();
  if (child == 0) {
    struct flock probe = lock;
    ::_exit(::fcntl(file_, F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const int other = ::open(("/proc/self/fd/" + std::to_string(file_)).c_str(), O_RDWR | O_CLOEXEC);
  EXPECT_NE(::flock(other, LOCK_EX | LOCK_NB), 0);
  ::close(file_);
  EXPECT_EQ(::flock(other, LOCK_EX | LOCK_NB), 0) << "the mapping holds it";
  file_ = other;
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

TEST_F(ClientTest, WhatTheKernelCannotMapIsSigbusAndTheDaemonIsTold) {
  if (!udax::sync_point::kCompiledIn) GTEST_SKIP() << "built without sync points";
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  {
    const udax::sync_point::ScopedKnob knob("client.fail_kernel_map");
    daemon_->hand_over(0, kPoolSize);
  }
  EXPECT_EQ(daemon_->ack_error, static_cast<uint32_t>(EBADF));
  EXPECT_EQ(signal_of(at), SIGBUS);
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
  EXPECT_EQ(signal_of(at), SIGSEGV);
}

TEST_F(ClientTest, WithoutAThreadOfItsOwnTheMappingIsMadeToo) {
  if (!udax::sync_point::kCompiledIn) GTEST_SKIP() << "built without sync points";
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  ASSERT_EQ(::fcntl(file_, F_SETLK, &lock), 0);
  const udax::sync_point::ScopedKnob knob("client.no_errands");
  daemon_->hand_over(0, kPoolSize);
  EXPECT_EQ(signal_of(at, true), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    struct flock probe = lock;
    ::_exit(::fcntl(file_, F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

TEST_F(ClientTest, DeadDaemonIsSigbusNotAHang) {
  char* const at = map(4 * kPageSize);
  ASSERT_NE(at, nullptr);
  at[0] = 'x';
  daemon_->faults.silent_faults = true;
  // One waits for an answer that the daemon owes.
  std::atomic<int> got{-1};
  std::thread waiter(
      [&] { got = static_cast<int>(::syscall(SYS_pwrite64, file_, at + kPageSize, 1, 0)) < 0 ? errno : 0; });
  while (daemon_->faults_seen < 2) std::this_thread::yield();
  daemon_->die();
  waiter.join();
  EXPECT_EQ(got, EFAULT);
  EXPECT_EQ(signal_of(at + 2 * kPageSize), SIGBUS);
  while (signal_of(at) == 0) std::this_thread::yield();  // also what was mapped, soon
  EXPECT_EQ(::udax_sync(at, 4 * kPageSize, MS_SYNC), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(map(kPageSize), nullptr);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(::udax_unmap(at, 4 * kPageSize), 0);
  EXPECT_EQ(signal_of(at), SIGSEGV);
}

TEST_F(ClientTest, RefusalsAreErrors) {
  g_leave_error = ENOTTY;
  EXPECT_EQ(::udax_attach(file_, 0), -1);
  EXPECT_EQ(errno, ENOSYS);
  g_leave_error = EPERM;
  EXPECT_EQ(map(kPageSize), nullptr);
  EXPECT_EQ(errno, EPERM);
  g_leave_error = 0;
  daemon_->uid = 4711;  // somebody else sits at the address
  EXPECT_EQ(::udax_attach(file_, 0), -1);
  EXPECT_EQ(errno, EPERM);
  daemon_->uid = ::getuid();
  daemon_->faults.hello_error = EUSERS;
  EXPECT_EQ(::udax_attach(file_, 0), -1);
  EXPECT_EQ(errno, EUSERS);
  daemon_->faults.hello_error = 0;
  daemon_->faults.forget_descriptor = true;
  EXPECT_EQ(::udax_attach(file_, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  daemon_->faults.forget_descriptor = false;
  daemon_->faults.reply_id_off = 1;
  EXPECT_EQ(::udax_attach(file_, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  daemon_->faults.reply_id_off = 0;
  EXPECT_EQ(::udax_attach(file_, 0), 0) << std::strerror(errno);
  EXPECT_EQ(::udax_attach(file_, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  daemon_->faults.open_error = EACCES;
  EXPECT_EQ(map(kPageSize), nullptr);
  EXPECT_EQ(errno, EACCES);
  daemon_->faults.open_error = 0;
  daemon_->faults.map_error = EOPNOTSUPP;
  EXPECT_EQ(map(kPageSize), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(daemon_->closes, 1);
  daemon_->faults.map_error = 0;
  char* const at = map(kPageSize);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(::udax_unmap(at, kPageSize), 0);
}

TEST_F(ClientTest, ArgumentsAreChecked) {
  const auto error_of = [&](size_t length, int prot, int flags, off_t offset) {
    errno = 0;
    return ::udax_map(nullptr, length, prot, flags, file_, offset) == MAP_FAILED ? errno : 0;
  };
  EXPECT_EQ(error_of(0, PROT_READ, MAP_SHARED, 0), EINVAL);
  EXPECT_EQ(error_of(1, PROT_READ, MAP_SHARED, 1), EINVAL);
  EXPECT_EQ(error_of(1, PROT_READ, MAP_SHARED, -4096), EINVAL);
  EXPECT_EQ(error_of(SIZE_MAX, PROT_READ, MAP_SHARED, 0), ENOMEM);
  EXPECT_EQ(error_of(8192, PROT_READ, MAP_SHARED, INT64_MAX - 4095), EOVERFLOW);
  EXPECT_EQ(error_of(1, PROT_READ, MAP_PRIVATE, 0), EOPNOTSUPP);
  EXPECT_EQ(error_of(1, PROT_READ | PROT_EXEC, MAP_SHARED, 0), EOPNOTSUPP);
  EXPECT_EQ(error_of(1, PROT_READ, MAP_SHARED_VALIDATE | 1 << 30, 0), EOPNOTSUPP);
  EXPECT_EQ(::udax_unmap(nullptr, 0), -1);
  EXPECT_EQ(::udax_unmap(reinterpret_cast<void*>(1), 4096), -1);
  EXPECT_EQ(errno, EINVAL);
  const int read_only = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(::udax_map(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  ::close(read_only);
  EXPECT_EQ(::udax_version() >> 16, UDAX_API_VERSION >> 16);
}

}  // namespace

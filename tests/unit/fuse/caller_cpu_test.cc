// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/caller_cpu.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

namespace udax::fuse {
namespace {

int cpus_allowed() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : -1;
}

TEST(CallerCpu, FindsTheField) {
  std::string stat = "77 (a) b ( 1 2) S";
  for (int field = 4; field < 39; ++field) stat += " " + std::to_string(field * 1000);
  EXPECT_EQ(CallerCpu::parse_cpu(stat + " 5 0 0 1\n"), 5);
  EXPECT_EQ(CallerCpu::parse_cpu(stat + " 12\n"), 12);
  EXPECT_EQ(CallerCpu::parse_cpu(stat), -1);
  EXPECT_EQ(CallerCpu::parse_cpu(stat + " x"), -1);
  EXPECT_EQ(CallerCpu::parse_cpu(stat + " -1"), -1);
  EXPECT_EQ(CallerCpu::parse_cpu(""), -1);
}

// Another thread is the caller, on one CPU and then on the other; this one goes where it is, and lets go for a second.
TEST(CallerCpu, GoesWhereTheOnlyCallerIs) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(all), &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "one CPU";
  std::atomic<int> want{-1};
  std::atomic<int> is_on{-1};
  std::atomic<pid_t> tid{0};
  std::thread caller([&] {
    tid = static_cast<pid_t>(::syscall(SYS_gettid));
    for (int cpu = -2; (cpu = want.load()) != -2;) {
      if (cpu >= 0 && is_on.load() != cpu) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (::sched_setaffinity(0, sizeof(one), &one) != 0) break;
        is_on = cpu;
      }
      ::usleep(1000);
    }
  });
  while (tid.load() == 0) ::usleep(1000);
  CallerCpu here;
  const int before = cpus_allowed();
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && seen < 2; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    want = cpu;
    while (is_on.load() != cpu) ::usleep(1000);
    for (int i = 0; i < 600; ++i) here.note(static_cast<uint32_t>(tid.load()));
    EXPECT_EQ(::sched_getcpu(), cpu);
    EXPECT_EQ(cpus_allowed(), 1);
    ++seen;
  }
  here.note(1);
  EXPECT_EQ(cpus_allowed(), before);
  for (int i = 0; i < 600; ++i) here.note(0);
  EXPECT_EQ(cpus_allowed(), before);
  // Two in turn are followed by nobody.
  for (int i = 0; i < 2000; ++i) here.note(static_cast<uint32_t>(i % 2 == 0 ? tid.load() : ::getpid()));
  EXPECT_EQ(cpus_allowed(), before);
  want = -2;
  caller.join();
}

}  // namespace
}  // namespace udax::fuse

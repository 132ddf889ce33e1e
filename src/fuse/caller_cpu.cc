// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/caller_cpu.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>

namespace udax::fuse {

CallerCpu::CallerCpu() { can_ = ::sched_getaffinity(0, sizeof(all_), &all_) == 0 && CPU_COUNT(&all_) > 1; }

void CallerCpu::let_go() {
  if (is_pinned_) (void)::sched_setaffinity(0, sizeof(all_), &all_);
  is_pinned_ = false;
  streak_ = 0;
}

int CallerCpu::parse_cpu(std::string_view stat) {
  const size_t name_end = stat.rfind(')');  // a name may hold anything, but is field 2
  if (name_end == std::string_view::npos) return -1;
  stat.remove_prefix(name_end);
  for (int field = 2; field < 39; ++field) {
    const size_t space = stat.find(' ');
    if (space == std::string_view::npos) return -1;
    stat.remove_prefix(space + 1);
  }
  int cpu = -1;
  const auto end = std::from_chars(stat.data(), stat.data() + stat.size(), cpu);
  return end.ec == std::errc() && cpu >= 0 ? cpu : -1;
}

void CallerCpu::follow() {
  if (!can_) return;
  char text[1024];
  std::snprintf(text, sizeof(text), "/proc/%u/stat", last_);
  const int fd = ::open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t n = ::read(fd, text, sizeof(text));
  ::close(fd);
  const int cpu = n > 0 ? parse_cpu({text, static_cast<size_t>(n)}) : -1;
  if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &all_) || (is_pinned_ && cpu == cpu_)) return;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  if (::sched_setaffinity(0, sizeof(only), &only) != 0) return;
  is_pinned_ = true;
  cpu_ = cpu;
}

}  // namespace udax::fuse

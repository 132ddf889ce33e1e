// SPDX-License-Identifier: BSD-3-Clause
//
// dax: shows and changes the flag that decides how a file is accessed, by the ioctls that every filesystem with such a
// flag has, and by UDAX_IOC_DAX for what only this one tells.
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <functional>

#include "udax/ioctl.h"
#include "udaxctl.h"

namespace udax::ctl {
namespace {

struct State {
  bool flag = false;
  bool is_dax = false;
  bool is_directory = false;
  uint32_t old_openers = 0;  // opened the other way than the next will be
};

std::string reason(const std::string& path) {
  if (errno == ENOTTY) return path + " is no file or directory of a mounted udaxfs";
  if (errno == EOPNOTSUPP) return path + ": only files and directories have the flag";
  return path + ": " + std::strerror(errno);
}

/// False: errno says why.
bool read_state(int fd, State* state) {
  udax_ioc_dax dax{};
  struct stat st {};
  if (::ioctl(fd, UDAX_IOC_DAX, &dax) != 0 || ::fstat(fd, &st) != 0) return false;
  state->flag = (dax.flags & UDAX_DAX_FLAG) != 0;
  state->is_dax = (dax.flags & UDAX_DAX_EFFECTIVE) != 0;
  state->is_directory = S_ISDIR(st.st_mode);
  if (!state->is_directory) state->old_openers = state->is_dax ? dax.open_cached : dax.open_dax;
  return true;
}

/// False: errno says why; EIO also if the flag is not as it was set.
bool set_flag(int fd, bool on) {
  fsxattr attributes{};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return false;
  const uint32_t wanted =
      on ? attributes.fsx_xflags | FS_XFLAG_DAX : attributes.fsx_xflags & ~static_cast<uint32_t>(FS_XFLAG_DAX);
  attributes.fsx_xflags = wanted;
  if (::ioctl(fd, FS_IOC_FSSETXATTR, &attributes) != 0) return false;
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return false;
  if (((attributes.fsx_xflags & FS_XFLAG_DAX) != 0) == on) return true;
  errno = EIO;
  return false;
}

const char* way(bool is_dax) { return is_dax ? "dax" : "cached"; }

void print_openers(const std::string& path, const State& state) {
  if (state.old_openers == 0) return;
  std::printf("%s: %" PRIu32 " %s open %s, until closed\n", printable(path).c_str(), state.old_openers,
              state.old_openers == 1 ? "descriptor stays" : "descriptors stay", way(!state.is_dax));
}

void print_state(const std::string& path, const State& state) {
  // Where flag and state differ, the mount has the last word.
  const char* const why = state.flag == state.is_dax ? ""
                          : state.is_dax             ? ", mounted with dax=always"
                                                     : ", mounted with dax=never";
  std::printf("%s: %s%s (flag %s%s)\n", printable(path).c_str(),
              state.is_directory ? "what is made in it is " : "", way(state.is_dax),
              state.flag ? "set" : "not set", why);
  print_openers(path, state);
}

int handle(const DaxOptions& o, const std::string& path, nlohmann::json* list) {
  // Not to be held up by a fifo, nor to change the time of reading.
  const Fd fd(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!fd) return fail(path + ": " + std::strerror(errno));
  State state;
  if (!read_state(fd.get(), &state)) return fail(reason(path));
  if (o.action == DaxAction::kInherit && !state.is_directory) {
    return fail(path + " is not a directory: only what is made in a directory can inherit; use 'dax on'");
  }
  if (o.action != DaxAction::kShow) {
    if (!set_flag(fd.get(), o.action != DaxAction::kOff) || !read_state(fd.get(), &state))
      return fail(reason(path));
    if (!o.json) print_openers(path, state);
  } else if (!o.json) {
    print_state(path, state);
  }
  if (o.json) {
    list->push_back({{"path", path},
                     {"directory", state.is_directory},
                     {"flag", state.flag},
                     {"state", way(state.is_dax)},
                     {"old_openers", state.old_openers}});
  }
  return kExitDone;
}

// nftw(3) hands nothing to its callback.
std::function<void(const char*)>* visit_below = nullptr;

/// `path` and, if it is a directory, all files and directories below it on this filesystem.
bool walk(const std::string& path, std::function<void(const char*)> visit) {
  visit_below = &visit;
  constexpr int kOpenMax = 64;
  const int walked = ::nftw(
      path.c_str(),
      [](const char* at, const struct stat* st, int, struct FTW*) {
        if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) (*visit_below)(at);
        return 0;
      },
      kOpenMax, FTW_PHYS | FTW_MOUNT);
  visit_below = nullptr;
  return walked == 0;
}

}  // namespace

int run_dax(const DaxOptions& o) {
  int result = kExitDone;
  nlohmann::json list = nlohmann::json::array();
  const auto visit = [&](const std::string& path) {
    if (handle(o, path, &list) != kExitDone) result = kExitFailed;
  };
  for (const std::string& path : o.paths) {
    if (!o.recursive) {
      visit(path);
    } else if (!walk(path, [&](const char* at) {
                 struct stat st {};
                 // Of a tree, 'inherit' is about its directories.
                 if (o.action == DaxAction::kInherit && ::lstat(at, &st) == 0 && !S_ISDIR(st.st_mode)) return;
                 visit(at);
               })) {
      result = fail(path + ": " + std::strerror(errno));
    }
  }
  if (o.json) print(list);
  return result;
}

}  // namespace udax::ctl

// SPDX-License-Identifier: BSD-3-Clause
//
// `udaxctl run`: starts a program under the preload shim.
//
// The shim is that of the same build or installation: ../<libdir> of where udaxctl lies, else where it was to be installed.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "udaxctl.h"

namespace udax::ctl {
namespace {

constexpr int kExitNotStarted = 126;
constexpr int kExitNotFound = 127;

std::string own_folder() {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  const std::string whole(path.data(), size > 0 ? static_cast<size_t>(size) : 0);
  return whole.substr(0, whole.rfind('/') == std::string::npos ? 0 : whole.rfind('/'));
}

std::string find_shim() {
  static constexpr const char* kName = "/libudax_preload.so";
  const std::string here = own_folder();
  for (const std::string& folder : {here + "/../" UDAX_LIBDIR_NAME, here + "/../lib", std::string(UDAX_LIBDIR)}) {
    std::array<char, PATH_MAX> resolved{};
    if (::realpath((folder + kName).c_str(), resolved.data()) != nullptr) return resolved.data();
  }
  return {};
}

}  // namespace

int take_command(int argc, char** argv, RunOptions* options) {
  if (argc < 2 || std::strcmp(argv[1], "run") != 0) return argc;
  int at = 2;
  while (at < argc && argv[at][0] == '-' && std::strcmp(argv[at], "--") != 0) {
    at += std::strcmp(argv[at], "--library") == 0 ? 2 : 1;
  }
  if (at >= argc) return argc;
  const int first = std::strcmp(argv[at], "--") == 0 ? at + 1 : at;
  options->command.assign(argv + first, argv + argc);
  return at;
}

int run_run(const RunOptions& options) {
  std::vector<std::string> command = options.command;
  if (command.empty()) {
    std::fprintf(stderr, "udaxctl: run which program? (udaxctl run --help)\n");
    return kExitUsage;
  }
  const std::string shim = options.library.empty() ? find_shim() : options.library;
  if (shim.empty()) return fail("libudax_preload.so is not installed where this udaxctl looks for it (--library)");
  if (::access(shim.c_str(), R_OK) != 0) return fail(printable(shim) + ": " + std::strerror(errno));
  // The dynamic linker takes both for separators.
  if (shim.find_first_of(" :") != std::string::npos) {
    return fail(printable(shim) + ": a path with a space or a colon cannot be preloaded");
  }
  const char* const before = std::getenv("LD_PRELOAD");
  const std::string preload = before != nullptr && *before != '\0' ? shim + ":" + before : shim;
  if (::setenv("LD_PRELOAD", preload.c_str(), 1) != 0) return fail(std::strerror(errno));
  if (options.reads_and_writes && ::setenv("UDAX_READS_AND_WRITES", "on", 1) != 0)
    return fail(std::strerror(errno));
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  ::execvp(arguments.front(), arguments.data());
  const int error = errno;
  fail(printable(command.front()) + ": " + std::strerror(error));
  return error == ENOENT ? kExitNotFound : kExitNotStarted;
}

}  // namespace udax::ctl

// SPDX-License-Identifier: BSD-3-Clause
//
// udaxfs(8): mounts a pool and serves it.
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>

#include "base/log.h"
#include "daemon/background.h"
#include "daemon/options.h"
#include "daemon/serve.h"
#include "media/pool_name.h"

namespace {

using namespace udax;
using namespace udax::daemon;

// The path as it is from "/", where the daemon goes: links resolved if it exists.
std::string absolute(const std::string& path) {
  if (char* resolved = ::realpath(path.c_str(), nullptr)) {
    std::string out = resolved;
    std::free(resolved);
    return out;
  }
  if (path.starts_with('/')) return path;
  const std::unique_ptr<char, decltype(&std::free)> here(::getcwd(nullptr, 0), &std::free);
  return here == nullptr ? path : std::string(here.get()) + "/" + path;
}

int run(int argc, char** argv) {
  std::string why;
  auto parsed = parse_options({argv, static_cast<size_t>(argc)}, ::geteuid() == 0, &why);
  if (!parsed) {
    std::fprintf(stderr, "udaxfs: %s\n", why.c_str());
    if (argc < 3) std::fprintf(stderr, "%s", usage());
    return kExitUsage;
  }
  Options& options = *parsed;
  switch (options.action) {
    case Options::Action::kHelp: std::printf("%s", usage()); return kExitOk;
    case Options::Action::kVersion: std::printf("udaxfs %s\n", UDAX_VERSION); return kExitOk;
    case Options::Action::kNothing: return kExitOk;
    case Options::Action::kMount: break;
  }
  auto pool = media::resolve_pool(options.pool, &why);
  if (!pool) {
    std::fprintf(stderr, "udaxfs: %s\n", why.empty() ? std::string(to_string(pool.error())).c_str() : why.c_str());
    return kExitMount;
  }
  options.pool = absolute(*pool);
  options.mountpoint = absolute(options.mountpoint);
  (void)log_init(options.log_level, LogTarget::kStderr);
  auto background = Background::enter(options.foreground);
  if (!background) {
    std::fprintf(stderr, "udaxfs: cannot start the daemon: %s\n",
                 std::string(to_string(background.error())).c_str());
    return kExitSystem;
  }
  return serve(options, *background);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "udaxfs: %s\n", e.what());
    return kExitInternal;
  }
}

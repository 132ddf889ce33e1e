// SPDX-License-Identifier: BSD-3-Clause
//
// What the exercisers' programs share: exit codes and main().
#pragma once

#include <signal.h>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <new>
#include <string>
#include <utility>

#include "base/random.h"

namespace udax::stress {

inline constexpr int kExitPassed = 0;  // no difference; with --shrink: none again
inline constexpr int kExitFailed = 1;  // a difference, or an error that the operation may not give
inline constexpr int kExitUsage = 2;
inline constexpr int kExitEnvironment = 3;  // no such directory, no space, no memory
inline constexpr int kExitInterrupted = 130;

/// `Arguments` has seed, operations and seconds (0: no limit).
template <typename Arguments>
struct Program {
  const char* name;
  const char* about;
  void (*add_options)(CLI::App& app, Arguments& arguments);
  void (*interrupt)();  // called in a signal handler
  int (*run)(Arguments arguments);
};

inline int fail(const char* program, int code, const std::string& sentence) {
  std::fprintf(stderr, "%s: %s\n", program, sentence.c_str());
  return code;
}

/// main()
template <typename Arguments>
int run_program(const Program<Arguments>& program, int argc, char** argv) {
  Arguments arguments;
  CLI::App app(program.about);
  program.add_options(app, arguments);
  fill_random(&arguments.seed, sizeof(arguments.seed));
  arguments.seed >>= 32;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitPassed : kExitUsage;
  }
  if (arguments.operations == 0 && arguments.seconds == 0) arguments.seconds = 10;
  static void (*on_signal)() = nullptr;
  on_signal = program.interrupt;
  struct sigaction action {};
  action.sa_handler = [](int) { on_signal(); };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  try {
    return program.run(std::move(arguments));
  } catch (const std::bad_alloc&) {
    return fail(program.name, kExitEnvironment, "no memory");
  }
}

}  // namespace udax::stress

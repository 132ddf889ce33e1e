// SPDX-License-Identifier: BSD-3-Clause
//
// mkfs.udaxfs: makes a pool. Exit codes: 0 made, 1 not made, 2 wrong usage; each failure is one line on stderr.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "format/format.h"
#include "media/contents.h"
#include "media/pool_access.h"
#include "media/pool_medium.h"
#include "media/pool_name.h"
#include "media/superblock.h"
#include "media/uuid.h"
#include "mkfs/make_pool.h"

namespace {

using udax::media::PoolMedium;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct Arguments {
  std::string pool;
  std::optional<uint64_t> size_bytes;
  bool force = false;
  bool quiet = false;
  udax::mkfs::MakeOptions make;
};

int fail(int code, const std::string& sentence) {
  std::fprintf(stderr, "mkfs.udaxfs: %s\n", sentence.c_str());
  return code;
}

// Parsing of option values: nullopt for what is not one.

std::optional<uint64_t> parse_size(std::string_view text) {
  uint64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix(rest, static_cast<size_t>(text.data() + text.size() - rest));
  static constexpr std::string_view kSuffixes = "KMGT";
  unsigned shift = 0;
  if (!suffix.empty()) {
    const size_t at = kSuffixes.find(static_cast<char>(suffix[0] & ~0x20));
    if (at == std::string_view::npos || suffix.size() > 1) return std::nullopt;
    shift = 10 * (static_cast<unsigned>(at) + 1);
  }
  if (value == 0 || value > (uint64_t{1} << 62) >> shift) return std::nullopt;
  return value << shift;
}

std::optional<std::array<uint8_t, 16>> parse_uuid(std::string_view text) {
  std::array<uint8_t, 16> uuid{};
  if (text.size() != 36) return std::nullopt;
  size_t digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return std::nullopt;
      continue;
    }
    uint8_t value = 0;
    const auto [rest, error] = std::from_chars(&c, &c + 1, value, 16);
    if (error != std::errc() || rest != &c + 1) return std::nullopt;
    uint8_t& byte = uuid.at(digits / 2);
    byte = static_cast<uint8_t>(byte << 4 | value);
    ++digits;
  }
  if (uuid == std::array<uint8_t, 16>{}) return std::nullopt;
  return uuid;
}

bool parse_owner(std::string_view text, uint32_t* uid, uint32_t* gid) {
  const char* end = text.data() + text.size();
  const auto [middle, first_error] = std::from_chars(text.data(), end, *uid);
  if (first_error != std::errc() || middle == end || *middle != ':') return false;
  const auto [rest, second_error] = std::from_chars(middle + 1, end, *gid);
  // -1 is the kernel's "no such id".
  return second_error == std::errc() && rest == end && *uid != UINT32_MAX && *gid != UINT32_MAX;
}

std::string to_size_text(uint64_t bytes) {
  static constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && bytes >> (10 * (unit + 2)) != 0) ++unit;
  char text[32];
  std::snprintf(text, sizeof text, "%.4g %s",
                static_cast<double>(bytes) / static_cast<double>(1ULL << (10 * (unit + 1))), kUnits.at(unit));
  return text;
}

/// Fills `arguments`. An exit code if there is nothing more to do.
std::optional<int> parse(int argc, char** argv, Arguments* arguments) {
  CLI::App app("Makes a udaxfs pool on a file or a devdax device.", "mkfs.udaxfs");
  std::string size;
  std::string uuid;
  std::string owner;
  app.add_option("POOL", arguments->pool, "/dev/daxX.Y, namespaceX.Y, or a file")->required();
  app.add_option("-L,--label", arguments->make.label, "Label, 63 bytes at most");
  app.add_option("-s,--size", size,
                 "Size of the file, in bytes or with K, M, G or T; the file is made if need be");
  app.add_flag("-f,--force", arguments->force, "Overwrite what is there; with -s, resize a file that is there");
  app.add_option("-U,--uuid", uuid, "UUID of the pool (random if not given)");
  app.add_flag("-q,--quiet", arguments->quiet, "No summary");
  app.add_option("--root-owner", owner, "UID:GID of the root directory (the caller's if not given)");
  app.set_version_flag("-V,--version", "mkfs.udaxfs " UDAX_VERSION " (format " +
                                           std::to_string(udax::format::kVersionMajor) + "." +
                                           std::to_string(udax::format::kVersionMinor) + ")");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(e);
    return fail(kExitUsage, std::string(e.what()) + " (--help tells the options)");
  }
  if (arguments->make.label.size() > udax::mkfs::kLabelMax) {
    return fail(kExitUsage, "the label is too long: " + std::to_string(arguments->make.label.size()) +
                                " bytes of at most " + std::to_string(udax::mkfs::kLabelMax));
  }
  if (!size.empty()) {
    arguments->size_bytes = parse_size(size);
    if (!arguments->size_bytes) return fail(kExitUsage, size + " is not a size (such as 4G)");
  }
  if (!uuid.empty()) {
    const auto parsed = parse_uuid(uuid);
    if (!parsed) return fail(kExitUsage, uuid + " is not a UUID");
    arguments->make.uuid = *parsed;
  }
  arguments->make.root_uid = ::getuid();
  arguments->make.root_gid = ::getgid();
  if (!owner.empty() && !parse_owner(owner, &arguments->make.root_uid, &arguments->make.root_gid)) {
    return fail(kExitUsage, owner + " is not an owner (UID:GID, in digits)");
  }
  return std::nullopt;
}

/// Why the medium should not be written over; empty: no reason.
std::string find_objection(const udax::media::Medium& medium, const std::string& path) {
  const auto loaded = udax::media::load_superblock(medium);
  if (loaded) {
    return path + " already holds a udaxfs pool (uuid " + udax::media::uuid_text(loaded->raw.uuid) +
           "); -f overwrites it";
  }
  if (loaded.error() != udax::Error::kNotAPool) {
    return path + " already holds a udaxfs pool, damaged or of another version; -f overwrites it";
  }
  const auto foreign = udax::media::find_foreign(medium);
  if (!foreign) return path + " could not be searched for other data; -f writes to it all the same";
  if (!foreign->empty()) return path + " already holds " + *foreign + "; -f overwrites it";
  return "";
}

/// Gives the file the size asked for. `is_made`: whether it was not there before.
int prepare_file(const Arguments& arguments, bool* is_made) {
  *is_made = false;
  if (!arguments.size_bytes) return 0;
  const uint64_t wanted = udax::align_down(*arguments.size_bytes, udax::kBlockSize);
  struct stat st {};
  const bool exists = ::stat(arguments.pool.c_str(), &st) == 0;
  if (exists && S_ISCHR(st.st_mode)) {
    return fail(kExitUsage, arguments.pool + " is a device, which has the size it has; leave -s out");
  }
  if (exists && !S_ISREG(st.st_mode)) return 0;  // opening it says what is wrong
  if (exists && static_cast<uint64_t>(st.st_size) == wanted) return 0;
  if (exists && !arguments.force) {
    return fail(kExitFailed, arguments.pool + " exists and has " + std::to_string(st.st_size) +
                                 " bytes; -f resizes it and overwrites what it holds");
  }
  std::string why;
  if (const auto made = PoolMedium::create_file(arguments.pool, wanted, &why); !made) {
    return fail(kExitFailed, why.empty() ? std::string(udax::to_string(made.error())) : why);
  }
  *is_made = !exists;
  return 0;
}

int make(const Arguments& arguments) {
  std::string why;
  auto opened = udax::media::open_when_free(arguments.pool, udax::media::OpenMode::kExclusive, &why);
  if (!opened) return fail(kExitFailed, why.empty() ? std::string(udax::to_string(opened.error())) : why);
  PoolMedium& medium = *opened.value();
  if (!arguments.force) {
    if (const std::string objection = find_objection(medium, arguments.pool); !objection.empty()) {
      return fail(kExitFailed, objection);
    }
  }
  if (const auto made = udax::mkfs::make_pool(medium, arguments.make, &why); !made) {
    return fail(kExitFailed,
                arguments.pool + ": " + (why.empty() ? std::string(udax::to_string(made.error())) : why));
  }
  const auto loaded = udax::media::load_superblock(medium, &why);
  if (!loaded) return fail(kExitFailed, arguments.pool + ": read back after writing, " + why);
  if (arguments.quiet) return 0;
  if (!medium.note().empty()) std::fprintf(stderr, "mkfs.udaxfs: %s\n", medium.note().c_str());
  const udax::media::Geometry& g = loaded->geometry;
  std::printf("%s (%s): %s, %" PRIu64 " blocks of 4096 bytes in %" PRIu64 " groups\n", arguments.pool.c_str(),
              medium.kind().c_str(), to_size_text(g.block_count * udax::kBlockSize).c_str(), g.block_count,
              g.group_count);
  std::printf("uuid %s, label \"%s\"\n", udax::media::uuid_text(loaded->raw.uuid).c_str(),
              arguments.make.label.c_str());
  std::printf("journal %s, data from block %" PRIu64 ", root owner %" PRIu32 ":%" PRIu32 "\n",
              to_size_text(g.journal_blocks * udax::kBlockSize).c_str(), g.data_start.value,
              arguments.make.root_uid, arguments.make.root_gid);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  Arguments arguments;
  if (const auto done = parse(argc, argv, &arguments)) return *done;
  std::string why;
  auto path = udax::media::resolve_pool(arguments.pool, &why);
  if (!path) return fail(kExitFailed, why.empty() ? std::string(udax::to_string(path.error())) : why);
  arguments.pool = *path;
  bool is_made = false;
  if (const int code = prepare_file(arguments, &is_made); code != 0) return code;
  const int code = make(arguments);
  if (code != 0 && is_made) ::unlink(arguments.pool.c_str());
  return code;
} catch (const std::exception& e) {
  return fail(kExitFailed, e.what());
}

// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/generator.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace udax::storm {
namespace {

constexpr uint64_t kDepthMax = 6;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr int kFileTries = 5;

uint32_t weight_of(const Choice& choice, size_t kind, bool shared) {
  if (!shared) return choice.weights[kind];
  return choice.weights[kind] == 0 ? 0 : info(static_cast<Kind>(kind)).shared;
}

std::string join(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + '/' + name;
}

// Of sets so small that names meet.
std::string small_name(Random& random) { return "n" + std::to_string(random.below(30)); }
std::string scan_name(Random& random) { return "scan" + std::to_string(random.below(50)); }

bool needs_file(Kind kind) {
  return kind == Kind::kWrite || kind == Kind::kTruncate || kind == Kind::kOpen || kind == Kind::kRead;
}

uint64_t depth_of(const std::string& path) {
  return path.empty() ? 0 : static_cast<uint64_t>(std::ranges::count(path, '/')) + 1;
}

}  // namespace

uint64_t derive_seed(uint64_t seed, uint64_t number) {
  Random random(seed);
  return random.next() ^ Random(number).next();
}

Op scan_step(const Op& scan, uint64_t number) {
  Random random(scan.tag + number);
  Op out;
  out.mode = 0600;
  out.path = join(scan.path, scan_name(random));
  out.kind = Kind::kCreate;
  if (random.one_in(3)) return out;
  out.kind = Kind::kUnlink;
  if (!random.one_in(3)) out.path = join(scan.path, small_name(random));
  if (!random.one_in(3)) return out;
  out.kind = Kind::kRename;
  out.to = join(scan.path, scan_name(random));
  return out;
}

std::string shared_directory(uint64_t number) { return "d" + std::to_string(number); }

Choice Choice::usual() {
  Choice out;
  for (size_t i = 0; i < kKinds; ++i) out.weights[i] = info(static_cast<Kind>(i)).weight;
  return out;
}

Generator::Generator(uint64_t seed, const Choice& choice, std::string shared_prefix)
    : random_(seed), choice_(choice), prefix_(std::move(shared_prefix)) {}

Kind Generator::pick(bool shared) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kKinds; ++i) sum += weight_of(choice_, i, shared);
  UDAX_ASSERT(sum > 0);
  uint64_t left = random_.below(sum);
  size_t i = 0;
  while (left >= weight_of(choice_, i, shared)) left -= weight_of(choice_, i++, shared);
  return static_cast<Kind>(i);
}

// From a small set, so that names meet; and sometimes of the kinds that break things.
std::string Generator::name() {
  switch (random_.below(40)) {
    case 0: return std::string(255, static_cast<char>('a' + random_.below(26)));
    case 1: return std::string(200 + random_.below(56), 'n');
    case 2: return "odd \n\xff\x01%" + std::to_string(random_.below(4));
    case 3: return random_.one_in(4) ? std::string(256, 'x') : "...";
    case 4:
    case 5:
    case 6:
    case 7:
    case 8: return "many" + std::to_string(random_.below(5000));
    default: return small_name(random_);
  }
}

// A way down the tree, chosen at random; it ends early now and then.
std::string Generator::existing(Model& tree, bool directory) {
  std::string path;
  for (const Model::Node* node = &tree.top(); node->is_dir() && !node->entries.empty();) {
    if (!path.empty() && random_.one_in(directory ? 2 : 4)) break;
    const auto place =
        std::next(node->entries.begin(), static_cast<std::ptrdiff_t>(random_.below(node->entries.size())));
    node = place->second.get();
    if (directory && !node->is_dir()) break;
    path = join(path, place->first);
  }
  return path;
}

// Mostly a regular file: else most writes would be refused.
std::string Generator::existing_file(Model& tree) {
  std::string path;
  for (int tries = 0; tries < kFileTries; ++tries) {
    path = existing(tree, false);
    const Model::Node* const node = tree.find(path);
    if (node != nullptr && node->is_file()) break;
  }
  return path;
}

std::string Generator::maybe_new(Model& tree) {
  std::string directory = existing(tree, true);
  if (random_.one_in(30)) directory = existing(tree, false);  // perhaps no directory
  while (depth_of(directory) >= kDepthMax) directory.resize(directory.rfind('/'));
  return join(directory, name());
}

std::string Generator::shared_path(Model& tree, bool ours) {
  const std::string directory = shared_directory(random_.below(kSharedDirectories));
  if (!ours) return directory + "/x" + std::to_string(random_.below(12));
  const Model::Node* const node = tree.find(directory);
  if (node != nullptr && !node->entries.empty() && !random_.one_in(3)) {
    return directory + '/' +
           std::next(node->entries.begin(), static_cast<std::ptrdiff_t>(random_.below(node->entries.size())))
               ->first;
  }
  return directory + '/' + prefix_ + std::to_string(random_.below(40));
}

uint32_t Generator::mode(bool directory) {
  auto mode = static_cast<uint32_t>(random_.below(01000));
  return choice_.as_root ? mode : mode | (directory ? 0700U : 0600U);
}

void Generator::second_path(Op& op, Model& tree) {
  if (op.shared) {
    op.to = shared_path(tree, op.path.find("/x") == std::string::npos);
  } else {
    op.to = op.kind == Kind::kExchange || random_.one_in(3) ? existing(tree, false) : maybe_new(tree);
  }
}

void Generator::details(Op& op, Model& tree) {
  const uint64_t big = random_.one_in(4) ? choice_.file_size_max : std::min<uint64_t>(choice_.file_size_max, 300);
  switch (op.kind) {
    case Kind::kCreate:
    case Kind::kTmpfile: op.mode = mode(false); break;
    case Kind::kMkdir: op.mode = mode(true); break;
    case Kind::kMknod:
      op.mode = (random_.one_in(2) ? S_IFIFO : S_IFSOCK) | mode(false);
      if (!choice_.devices || random_.one_in(2)) break;
      op.mode = (random_.one_in(2) ? S_IFCHR : S_IFBLK) | mode(false);
      op.offset =
          makedev(static_cast<unsigned>(random_.below(4000)), static_cast<unsigned>(random_.below(1'000'000)));
      break;
    case Kind::kSymlink: op.to = random_.one_in(8) ? std::string(random_.between(200, 4000), 't') : name(); break;
    case Kind::kLink:
    case Kind::kRename:
    case Kind::kNoReplace:
    case Kind::kExchange:
    case Kind::kWhiteout: second_path(op, tree); break;
    case Kind::kWrite:
    case Kind::kSlotWrite:
      op.length = random_.between(1, big);
      op.offset = random_.one_in(2) ? 0 : random_.below(choice_.file_size_max - op.length + 1);
      break;
    case Kind::kTruncate: op.offset = random_.below(big); break;
    case Kind::kChmod: {
      op.mode = mode(true);
      if (choice_.as_root) op.mode |= static_cast<uint32_t>(random_.below(8)) << 9;  // set-ID and sticky bits
      break;
    }
    case Kind::kChown:
      op.uid = random_.one_in(2) ? 0 : static_cast<uint32_t>(random_.below(70000));
      op.gid = random_.one_in(2) ? 0 : static_cast<uint32_t>(random_.below(70000));
      break;
    case Kind::kUtimens: op.offset = random_.below(4'000'000'000) * kSecond + random_.below(kSecond); break;
    case Kind::kSetxattr:
      op.mode = random_.one_in(4) ? (random_.one_in(2) ? XATTR_CREATE : XATTR_REPLACE) : 0;
      op.length = random_.below(choice_.xattr_size_max + 1);
      [[fallthrough]];
    case Kind::kRemovexattr: op.to = "user.a" + std::to_string(random_.below(5)); break;
    case Kind::kFlip: op.offset = random_.below(2); break;
    default: break;
  }
}

Op Generator::next(Model& own, Model& shared) {
  Op op;
  op.shared = random_.below(100) < choice_.shared_percent;
  op.kind = pick(op.shared);
  if (!op.shared && own.entries() > choice_.entries_max && random_.one_in(2)) {
    op.kind = random_.one_in(4) ? Kind::kRmdir : Kind::kUnlink;
  }
  const bool makes = op.kind == Kind::kCreate || op.kind == Kind::kMkdir || op.kind == Kind::kMknod ||
                     op.kind == Kind::kSymlink || op.kind == Kind::kSlotLink;
  const bool directory = op.kind == Kind::kTmpfile || op.kind == Kind::kList || op.kind == Kind::kScan;
  if (op.shared) {
    op.path = op.kind == Kind::kList ? shared_directory(random_.below(kSharedDirectories))
                                     : shared_path(shared, random_.one_in(2));
  } else {
    const bool fresh = makes ? !random_.one_in(10) : random_.one_in(20);
    op.path = fresh ? maybe_new(own) : needs_file(op.kind) ? existing_file(own) : existing(own, directory);
  }
  if (op.kind == Kind::kSlotWrite || op.kind == Kind::kSlotCheck || op.kind == Kind::kSlotClose) op.path.clear();
  if (op.kind >= Kind::kOpen && op.kind <= Kind::kSlotClose) op.slot = static_cast<uint8_t>(random_.below(kSlots));
  details(op, op.shared ? shared : own);
  const bool writes = op.kind == Kind::kWrite || op.kind == Kind::kSlotWrite || op.kind == Kind::kSetxattr;
  if (writes || op.kind == Kind::kScan) op.tag = random_.next() >> 16;
  return op;
}

}  // namespace udax::storm

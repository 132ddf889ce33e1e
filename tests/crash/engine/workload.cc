// SPDX-License-Identifier: BSD-3-Clause
#include <charconv>

#include "base/random.h"
#include "tests/crash/engine/lab.h"

namespace udax::crash {
namespace {

constexpr size_t kRandomOperations = 30;

std::optional<World> world_of(std::string_view name) {
  for (size_t i = 0; i < kWorlds; ++i) {
    const auto world = static_cast<World>(i);
    if (name == to_string(world)) return world;
  }
  return std::nullopt;
}

/// An operation with places and lengths that the seed draws.
Operation random_operation(Random& random) {
  static constexpr std::array kFiles = {"/f", "/g", "/hole", "/holes", "/kept", "/new", "/d/inner", "/moved"};
  const char* file = kFiles.at(random.below(kFiles.size()));
  const uint64_t offset = random.below(random.one_in(3) ? 60000 : 14000);
  const uint64_t size = 1 + random.below(random.one_in(2) ? 200 : 9000);
  const char pattern = static_cast<char>('a' + random.below(26));
  const std::string range = std::string(file) + " " + std::to_string(offset) + "+" + std::to_string(size);
  switch (random.below(6)) {
    case 0: return {"write " + range, Rule::kInPlace, [=](Shell& s) { s.write(file, offset, size, pattern); }};
    case 1: return {"append " + range, Rule::kInPlace, [=](Shell& s) { s.append(file, size, pattern); }};
    case 2: return {"truncate " + range, Rule::kAtomic, [=](Shell& s) { s.resize(file, offset); }};
    case 3:
      return {"punch " + range, Rule::kSteps,
              [=](Shell& s) { s.fallocate(file, fs::kFallocPunchHole | fs::kFallocKeepSize, offset, size); }};
    case 4:
      return {"zero " + range, Rule::kSteps,
              [=](Shell& s) { s.fallocate(file, fs::kFallocZeroRange, offset, size); }};
    default: return {"preallocate " + range, Rule::kSteps, [=](Shell& s) { s.fallocate(file, 0, offset, size); }};
  }
}

std::vector<Operation> random_operations(World world, uint64_t seed) {
  Random random(seed);
  const auto& known = operations();
  std::vector<Operation> out;
  while (out.size() < kRandomOperations) {
    Operation op = random.one_in(2) ? known[random.below(known.size())] : random_operation(random);
    // What runs out of room half-way has done a part.
    const bool is_scarce = world == World::kFull || world == World::kRecycle;
    if (is_scarce && op.rule == Rule::kInPlace) op.rule = Rule::kSteps;
    if (world == World::kWhole && op.rule == Rule::kInPlace) op.rule = Rule::kAtomic;
    out.push_back(std::move(op));
  }
  return out;
}

/// Directory leaves and extent nodes that the journal has written to are freed, and become data at once.
std::vector<Operation> reuse_operations() {
  std::vector<Operation> out;
  out.push_back({"make names", Rule::kAtomic, [](Shell& s) { s.make("/e/a", 0100644); }});
  out.push_back({"make another", Rule::kAtomic, [](Shell& s) { s.make("/e/b", 0100644); }});
  out.push_back({"unlink", Rule::kAtomic, [](Shell& s) { s.unlink("/e/a"); }});
  out.push_back({"unlink the other", Rule::kAtomic, [](Shell& s) { s.unlink("/e/b"); }});
  out.push_back({"rmdir", Rule::kAtomic, [](Shell& s) { s.rmdir("/e"); }});
  for (uint64_t i = 0; i < 12; ++i) {
    out.push_back({"append", Rule::kSteps, [i](Shell& s) { s.append("/f", 4096, static_cast<char>('A' + i)); }});
  }
  return out;
}

std::optional<std::vector<Operation>> operations_of(std::string_view list, char separator) {
  std::vector<Operation> out;
  while (!list.empty()) {
    const std::string_view name = list.substr(0, list.find(separator));
    const Operation* op = find_operation(name);
    if (op == nullptr) return std::nullopt;
    out.push_back(*op);
    list.remove_prefix(std::min(list.size(), name.size() + 1));
  }
  return out;
}

template <typename T>
bool parse_number(std::string_view text, T* out) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && stop == text.data() + text.size();
}

}  // namespace

Result<Workload> Workload::parse(std::string_view name, uint64_t seed) {
  Workload w;
  w.name = name;
  w.seed = seed;
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return Error::kInvalid;
  const std::string_view kind = name.substr(0, slash);
  std::string_view rest = name.substr(slash + 1);
  if (kind == "random" || kind == "reuse") {
    const auto world = world_of(rest);
    if (!world) return Error::kInvalid;
    w.world = *world;
    w.operations = kind == "random" ? random_operations(*world, seed) : reuse_operations();
    return w;
  }
  w.threads = rest.find('|') != std::string_view::npos;
  const auto world = world_of(kind);
  if (!world) return Error::kInvalid;
  w.world = *world;
  if (!w.threads) {
    w.with_mount = rest.ends_with('!');
    if (w.with_mount) rest.remove_suffix(1);
  }
  auto operations = operations_of(rest, w.threads ? '|' : '+');
  if (!operations) return Error::kInvalid;
  w.operations = std::move(*operations);
  if (w.world == World::kFull || w.world == World::kRecycle) {
    for (Operation& op : w.operations) op.rule = op.rule == Rule::kInPlace ? Rule::kSteps : op.rule;
  }
  // A write is whole or not there.
  if (w.world == World::kWhole) {
    for (Operation& op : w.operations) op.rule = op.rule == Rule::kInPlace ? Rule::kAtomic : op.rule;
  }
  return w;
}

std::optional<ImageId> ImageId::parse(std::string_view text) {
  ImageId id;
  const size_t at = text.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  id.workload = text.substr(0, at);
  text.remove_prefix(at + 1);
  size_t colon = text.find(':');
  if (colon == std::string_view::npos || !parse_number(text.substr(0, colon), &id.seed)) return std::nullopt;
  text.remove_prefix(colon + 1);
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find('/'));
    colon = part.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    CrashPoint point;
    const auto subset = Subset::parse(part.substr(colon + 1));
    if (!subset || !parse_number(part.substr(0, colon), &point.event)) return std::nullopt;
    point.subset = *subset;
    id.points.push_back(point);
    text.remove_prefix(std::min(text.size(), part.size() + 1));
  }
  return id;
}

}  // namespace udax::crash

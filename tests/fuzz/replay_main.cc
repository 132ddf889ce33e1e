// SPDX-License-Identifier: BSD-3-Clause
//
// Runs a fuzzer's inputs without libFuzzer, in any build: the files and folders named, then as many made by a plain
// mutator as --mutations says (seeded with --seed). Prints how many there were.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" __attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                                                unsigned seed);

namespace {

constexpr size_t kSizeMax = 4200;
udax::Random& chance() {
  static udax::Random random(1);
  return random;
}

std::vector<uint8_t> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size) {
  udax::Random& random = chance();
  if (size == 0 || (size < max_size && random.one_in(8))) {
    const size_t more = 1 + random.below(std::min<size_t>(16, max_size - size));
    for (size_t i = 0; i < more; ++i) data[size + i] = static_cast<uint8_t>(random.below(256));
    size += more;
  }
  for (uint64_t i = 1 + random.below(4); i > 0; --i) {
    uint8_t& byte = data[random.below(size)];
    byte = random.one_in(2) ? static_cast<uint8_t>(byte ^ (1U << random.below(8)))
                            : static_cast<uint8_t>(random.below(256));
  }
  return size;
}

int main(int argc, char** argv) try {
  uint64_t mutations = 0;
  std::vector<std::vector<uint8_t>> inputs;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("--mutations=")) {
      mutations = std::stoull(argument.substr(12));
    } else if (argument.starts_with("--seed=")) {
      chance() = udax::Random(std::stoull(argument.substr(7)));
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) inputs.push_back(read_file(entry));
    } else {
      inputs.push_back(read_file(argument));
    }
  }
  for (const auto& input : inputs) LLVMFuzzerTestOneInput(input.data(), input.size());
  std::vector<uint8_t> data;
  for (uint64_t i = 0; i < mutations; ++i) {
    if (i % 8 == 0) data = inputs.empty() ? std::vector<uint8_t>() : inputs[chance().below(inputs.size())];
    size_t size = std::min(data.size(), kSizeMax);
    data.resize(kSizeMax);
    const auto seed = static_cast<unsigned>(chance().next());
    size = LLVMFuzzerCustomMutator != nullptr ? LLVMFuzzerCustomMutator(data.data(), size, kSizeMax, seed)
                                              : LLVMFuzzerMutate(data.data(), size, kSizeMax);
    data.resize(size);
    LLVMFuzzerTestOneInput(data.data(), data.size());
  }
  std::printf("%zu inputs, and %llu made from them\n", inputs.size(), static_cast<unsigned long long>(mutations));
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}

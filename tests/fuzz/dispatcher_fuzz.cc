// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile requests: the input is a run of FUSE messages (length, opcode and node chosen by it, the rest its bytes) for the
// dispatcher of a small mounted pool. Each that wants a reply must get exactly one, of a sound length, and
// the pool must be sound at the end.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "check/check.h"
#include "fuse/dispatcher.h"
#include "tests/fuzz/seed_pool.h"
#include "tests/support/cow_medium.h"

namespace udax {
namespace {

using fuzz::must;

class CountingChannel final : public fuse::ReplyChannel {
 public:
  [[nodiscard]] std::shared_ptr<fuse::ReplyChannel> detach() override { return {std::shared_ptr<void>(), this}; }
  fuse::Delivery send(const fuse_out_header& header, std::span<const iovec> pieces) override {
    uint64_t total = sizeof header;
    uint64_t sum = 0;
    for (const iovec& piece : pieces) {
      total += piece.iov_len;
      const auto* bytes = static_cast<const uint8_t*>(piece.iov_base);
      for (size_t i = 0; i < piece.iov_len; i += 64) sum += bytes[i];
    }
    must(total == header.len && header.error <= 0 && header.error > -4096);
    for (const iovec& piece : pieces) {
      const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
      body.insert(body.end(), bytes, bytes + std::min<size_t>(piece.iov_len, 256));
    }
    error = header.error;
    seen_ = sum;  // so that the reads stay
    ++replies;
    return gone ? fuse::Delivery::kGone : fuse::Delivery::kDelivered;
  }
  bool gone = false;
  int replies = 0;
  int error = 0;
  std::vector<std::byte> body;  // the start of each piece

 private:
  volatile uint64_t seen_ = 0;
};

class Session {
 public:
  explicit Session(fs::Filesystem& fs) : dispatcher_(fs, {}), scratch_(fuse::kScratchSize) {}
  ~Session() { dispatcher_.close_all(); }

  void init() {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = FUSE_KERNEL_MINOR_VERSION;
    in.flags = ~0U;
    in.flags2 = ~0U;
    std::vector<std::byte> body(sizeof in);
    std::memcpy(body.data(), &in, sizeof in);
    send(FUSE_INIT, 0, 0, body, false);
  }
  void send(uint32_t opcode, uint64_t node, uint32_t uid, std::span<const std::byte> body, bool gone) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    header.uid = uid;
    fuse::Request request;
    request.header = &header;
    request.body = body;
    request.scratch = scratch_;
    request.started_ns = monotonic_ns();
    CountingChannel channel;
    channel.gone = gone;
    dispatcher_.handle(request, channel);
    const bool silent = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT ||
                        opcode == FUSE_NOTIFY_REPLY;
    must(channel.replies == (silent ? 0 : 1));
    if (channel.error == 0 && !gone) note_handle(opcode, channel.body);
  }
  /// The handle that was given as the `n`th; `n` itself if there were not so many.
  [[nodiscard]] uint64_t handle(uint64_t n) const { return n < handles_.size() ? handles_[n] : n; }

 private:
  void note_handle(uint32_t opcode, const std::vector<std::byte>& body) {
    size_t at = 0;
    if (opcode == FUSE_CREATE || opcode == FUSE_TMPFILE) {
      at = sizeof(fuse_entry_out);
    } else if (opcode != FUSE_OPEN && opcode != FUSE_OPENDIR) {
      return;
    }
    uint64_t handle = 0;
    if (body.size() < at + sizeof handle) return;
    std::memcpy(&handle, body.data() + at, sizeof handle);
    handles_.push_back(handle);
  }

  fuse::Dispatcher dispatcher_;
  std::vector<uint64_t> handles_;
  std::vector<std::byte> scratch_;
  uint64_t unique_ = 0;
};

void run(fs::Filesystem& fs, const uint8_t* data, size_t size) {
  Session session(fs);
  session.init();
  constexpr size_t kHead = 4;
  for (int messages = 0; size >= kHead && messages < 64; ++messages) {
    const uint32_t opcode = data[0];
    const uint64_t node = data[1] & 31U;
    const uint32_t uid = (data[1] & 32U) != 0 ? 1000 : 0;
    const bool gone = (data[1] & 64U) != 0;
    size_t length = data[2] | (data[3] & 1U) << 8;
    data += kHead;
    size -= kHead;
    length = std::min(length, size);
    // A copy of its own size, so that reading past it shows.
    std::vector<std::byte> body(reinterpret_cast<const std::byte*>(data),
                                reinterpret_cast<const std::byte*>(data) + length);
    // Most requests about open files begin with a handle, which the input cannot know: it gives which.
    uint64_t handle = 0;
    if (opcode >= FUSE_READ && opcode != FUSE_MKNOD && body.size() >= sizeof handle) {
      std::memcpy(&handle, body.data(), sizeof handle);
      handle = session.handle(handle);
      std::memcpy(body.data(), &handle, sizeof handle);
    }
    if (opcode != FUSE_INIT) session.send(opcode, node, uid, body, gone);
    data += length;
    size -= length;
  }
}

}  // namespace
}  // namespace udax

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace udax;
  static fuzz::SeedPool seed;
  static auto medium = std::make_shared<test::CowMedium>(seed.medium);
  medium->restore();
  fs::MountOptions options;
  options.count_lookups = true;
  auto mounted = fs::Filesystem::mount(medium, options, nullptr);
  must(mounted.has_value());
  run(**mounted, data, size);
  must((*mounted)->unmount().has_value());
  check::CheckOptions check;
  check.problems_max = 10;
  const auto report = check::check_pool(static_cast<const media::Medium&>(*medium), check);
  must(report.has_value() && report->clean());
  return 0;
}

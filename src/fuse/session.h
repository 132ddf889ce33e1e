// SPDX-License-Identifier: BSD-3-Clause
//
// One mount: the kernel's side (KernelMount), the dispatcher, the threads that read, and the
// notifications that go the other way.
//
// Order: mount -> INIT answered -> serving ... unmount -> threads end -> open files closed. fs::Filesystem::unmount
// comes after this object is gone.
//
// Thread safety: notify() from anywhere; the rest from one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "fuse/dispatcher.h"
#include "fuse/kernel_mount.h"
#include "fuse/kernel_pages.h"
#include "fuse/reader_pool.h"
#include "fuse/ring_pool.h"
#include "fuse/worker.h"

namespace udax::fuse {

enum class Transport : uint8_t { kAuto, kUring, kDevice };

struct SessionOptions {
  std::string mountpoint;                  // absolute
  std::vector<std::string> mount_options;  // for KernelMount
  uint32_t threads = 4;                    // that read /dev/fuse
  Transport transport = Transport::kAuto;
  DispatcherOptions dispatcher;
};

class Session final : private Notifier {
 public:
  /// Mounts, and serves from then on. On failure nothing is mounted and `why` gets one sentence for the user.
  [[nodiscard]] static Result<std::unique_ptr<Session>> mount(fs::Filesystem& fs, const SessionOptions& options,
                                                              std::string* why);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Becomes readable when the mount is gone: unmounted by somebody, or the connection was aborted.
  [[nodiscard]] int ended_fd() const { return readers_.ended_fd(); }

  /// How requests come, and why, for the log.
  [[nodiscard]] const std::string& transport_note() const { return transport_note_; }

  /// Takes the mount out of the tree and what is cached of it back. False: files are still open on it, and it lives
  /// on for them until end().
  [[nodiscard]] bool unmount();

  /// Stops serving; who still has files open gets ENOTCONN from then on.
  void end();

 private:
  Session(fs::Filesystem& fs, std::unique_ptr<KernelMount> kernel, const SessionOptions& options);
  bool notify(int32_t code, std::span<const iovec> pieces) override;
  [[nodiscard]] bool is_connected() override { return !wait_ended(0); }
  [[nodiscard]] Status make_rings(Transport transport, std::string* why);
  [[nodiscard]] Status start(std::string* why);
  [[nodiscard]] bool wait_ended(int timeout_ms) const;

  fs::Filesystem& fs_;
  std::unique_ptr<KernelMount> kernel_;
  Dispatcher dispatcher_;
  KernelPages pages_;
  Worker recalls_;  // take back pages
  Worker mends_;    // look at pages, and take back some
  std::unique_ptr<RingPool> rings_;
  std::string transport_note_ = "requests come by /dev/fuse";
  ReaderPool readers_;
  bool registered_ = false;
};

}  // namespace udax::fuse

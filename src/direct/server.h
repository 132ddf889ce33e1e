// SPDX-License-Identifier: BSD-3-Clause
//
// The direct-mapping server: its socket, its clients, and the one mapper through which the filesystem takes their views back.
//
// The socket has an abstract name of 64 random bits, which UDAX_IOC_DIRECT tells those who may connect; others that find it
// (/proc/net/unix) are refused by the credentials that the kernel gives of them. Nothing is left behind by a daemon that dies.
//
// A client that does not answer in time is late (late_views.h), and killed in the end; until it has answered or its memory is gone,
// blocks that are freed are kept from use (Filesystem::hold_frees).
//
// Thread safety: everything. Locks: slots_lock_, held for a few steps only; a mapper's calls come with locks of an inode held and
// take that one and a client's mutex.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "base/mutex.h"
#include "direct/client.h"
#include "direct/cookies.h"
#include "direct/counters.h"
#include "direct/hold_list.h"
#include "direct/late_views.h"
#include "direct/policy.h"
#include "fs/filesystem.h"
#include "mapping/mapper.h"
#include "udax/ioctl.h"

namespace udax::direct {

class Server final : public mapping::Mapper {
 public:
  static constexpr size_t kClientsMax = 256;

  /// Listens, and serves from then on. `fs` must outlive this. kNoMemory, or what the system says; `why` gets one sentence.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(fs::Filesystem& fs, const Policy& policy,
                                                             std::string* why);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Takes every client's views back and lets them go. REQUIRES: before the filesystem is unmounted.
  void stop();

  /// What UDAX_IOC_DIRECT answers. kPermission, kInvalid, kNotSupported (not a DAX file), kAgain, kNoMemory.
  [[nodiscard]] Result<udax_ioc_direct> give_leave(fs::OpenFile& file, uint32_t uid);
  [[nodiscard]] CounterValues counters() const { return counters_.values(); }
  /// The name of the socket, as sun_path has it.
  [[nodiscard]] const std::string& address() const { return address_; }

  void invalidate(Ino ino, mapping::ByteRange range) override;
  void write_protect(Ino ino, mapping::ByteRange range) override;
  void collect(Ino ino, mapping::ByteRange range, mapping::Stored& stored) override;
  void hold(Ino ino, mapping::ByteRange range, mapping::Patience patience) override;
  void release(Ino ino, mapping::ByteRange range) override;
  [[nodiscard]] bool may_hold(Ino ino, mapping::ByteRange range) override;

 private:
  struct Slot {
    std::shared_ptr<Client> client;
    std::thread thread;
    bool is_ended = false;  // its thread is about to end
  };
  Server(fs::Filesystem& fs, const Policy& policy);
  [[nodiscard]] Status listen(std::string* why);
  void accept_all() noexcept;
  void admit(OwnedFd socket);
  void refuse(const OwnedFd& socket, int error);
  void reap() noexcept;
  void revoke(Ino ino, mapping::ByteRange range, Client::Revoke which);
  void hold_frees();
  void look_after_clients();
  [[nodiscard]] std::shared_ptr<Client> client_at(size_t index);

  fs::Filesystem& fs_;
  const Policy policy_;
  const uint32_t uid_;
  std::array<uint8_t, 16> pool_uuid_{};
  CookieJar cookies_;
  HoldList holds_;
  Counters counters_;
  OwnedFd uffd_device_;
  OwnedFd listener_;
  OwnedFd wake_;  // eventfd: a client has ended, or all is to
  std::string address_;
  std::unique_ptr<Shared> shared_;
  std::unique_ptr<LateViews> late_;
  std::thread acceptor_;
  std::atomic<bool> stopping_{false};
  bool registered_ = false;
  Mutex slots_lock_;
  std::array<Slot, kClientsMax> slots_ UDAX_GUARDED_BY(slots_lock_);
  bool holds_frees_ UDAX_GUARDED_BY(slots_lock_) = false;
};

}  // namespace udax::direct

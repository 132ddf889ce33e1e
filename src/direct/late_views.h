// SPDX-License-Identifier: BSD-3-Clause
//
// Views that were to be taken back and may be there still: their clients have not acknowledged it in time.
//
// Who takes views back has locks of the file, and a thread of the client may be in the kernel with the lock of its memory, which the
// client's mapper needs, waiting for a page of that very file. So he waits for Client::kPatience only, and goes on; what is left is
// waited for here, without any lock, up to the deadline, at which the client is killed. As long as anything is here, blocks that
// are freed are kept from use, so that what is stored through such a view is never another file's. When a client has
// acknowledged, what it may have stored meanwhile counts as stored to, and copies that were made beside its views are recalled.
//
// Thread safety: everything. Locks: its own, a leaf. The thread that waits calls the filesystem with no lock held.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "direct/client.h"
#include "fs/filesystem.h"
#include "mapping/mapper.h"

namespace udax::direct {

class LateViews {
 public:
  using Clock = OpStream::Clock;

  struct Late {
    std::shared_ptr<Client> client;
    uint64_t sequence = 0;
    Clock::time_point since;  // it was sent
    Ino ino{};
    mapping::ByteRange range;
  };

  /// `emptied` is called, by a thread without locks, when nothing is late any more. Throws std::system_error: no thread.
  LateViews(fs::Filesystem& fs, std::function<void()> emptied);
  ~LateViews() { stop(); }
  LateViews(const LateViews&) = delete;
  LateViews& operator=(const LateViews&) = delete;

  /// Throws std::bad_alloc.
  void add(Late late);
  [[nodiscard]] bool empty();
  /// Some view of the range may be there still.
  [[nodiscard]] bool any(Ino ino, mapping::ByteRange range);
  /// Waits until any() is false, or the deadline has come.
  void await_none(Ino ino, mapping::ByteRange range, Clock::time_point deadline);
  /// Until when to wait for `client`, which was asked at `now`. One that is late already is not waited for again.
  [[nodiscard]] Clock::time_point deadline(const Client& client, Clock::time_point now);
  /// Waits for what is late, and ends the thread.
  void stop();

 private:
  void run();
  [[nodiscard]] bool any_locked(Ino ino, mapping::ByteRange range) const;
  void settle(const Late& late);

  fs::Filesystem& fs_;
  const std::function<void()> emptied_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Late> all_;  // in order of arrival
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace udax::direct

// SPDX-License-Identifier: BSD-3-Clause
//
// The kernel's page cache behind the mount, as a holder of copies.
//
// While a request is served that the kernel waits for with a page locked (a fill, a write-back), dropping that page would
// never end. So a recall runs on a thread that serves no request (worker.h), with none of the filesystem's locks held;
// the readers go on meanwhile, and serve the fills and write-backs that it waits for. The requests for whose sake it
// runs (a direct write, a change of flags) hold no page locked.
//
// The kernel writes dirty pages back before it drops them (launder_folio). It does not say if it could not drop one: a
// page that somebody dirties at that very moment through a pin of its own (O_DIRECT into the mapping) may stay.
//
// What a write to the page cache has put into a page may not be there any more when the write comes here (see
// mapping/page_copies.h). The page is locked until the reply if it was not up to date, and then it has the bytes, or it is
// another, or gone. So it is looked at (FUSE_NOTIFY_RETRIEVE takes no lock) and dropped only if it differs.
//
// Until Linux 6.16 FUSE writes back from pages of its own: the page cache's count as clean meanwhile, and a page that is dropped
// then is not waited for. Its bytes come late. (Before the page is filled anew, and before a direct write is sent, the kernel
// waits for them.)
//
// Thread safety: all of it, from any thread; set_returns_late() before.
#pragma once

#include <condition_variable>
#include <mutex>

#include "fuse/dispatcher.h"
#include "mapping/mapper.h"

namespace udax::fuse {

class KernelPages final : public mapping::CopyHolder, public RetrievalTaker {
 public:
  /// `notifier` must outlive this.
  explicit KernelPages(Notifier& notifier) : notifier_(notifier) {}
  void drop_copies(Ino ino, mapping::ByteRange range) override;
  void drop_attributes(Ino ino) override { invalidate_attributes(notifier_, ino); }
  void drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes) override;
  [[nodiscard]] bool returns_late() const override { return returns_late_; }
  void set_returns_late(bool is_so) { returns_late_ = is_so; }
  void take_retrieved(uint64_t id, std::span<const std::byte> bytes) override;

 private:
  [[nodiscard]] bool differs(Ino ino, uint64_t offset, std::span<const std::byte> bytes);

  Notifier& notifier_;
  bool returns_late_ = false;
  std::mutex one_look_;  // at a time; taken before mutex_
  std::mutex mutex_;
  std::condition_variable answered_;
  uint64_t look_ = 0;  // the last
  std::span<const std::byte> expected_;
  bool is_answered_ = true;
  bool differs_ = false;
};

}  // namespace udax::fuse

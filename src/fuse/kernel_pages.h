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
#pragma once

#include "fuse/dispatcher.h"
#include "mapping/mapper.h"

namespace udax::fuse {

class KernelPages final : public mapping::CopyHolder {
 public:
  /// `notifier` must outlive this.
  explicit KernelPages(Notifier& notifier) : notifier_(notifier) {}
  void drop_copies(Ino ino, mapping::ByteRange range) override;

 private:
  Notifier& notifier_;
};

}  // namespace udax::fuse

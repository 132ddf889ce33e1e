// SPDX-License-Identifier: BSD-3-Clause
//
// The states that a crash could leave, from the log of a RecordingMedium.
//
// A unit is 8 aligned bytes: the most that is stored atomically. Each has a durable value and a list of newer ones that
// may or may not have reached the medium: a store is certain once a drain follows its flush (or non-temporal
// store) in the same thread; before, its line may have been evicted or not, in any combination with others.
// Of several pending values of one unit any may be the last that got there, none included.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/random.h"
#include "media/recording_medium.h"

namespace udax::test {

class CrashImages {
 public:
  CrashImages(const media::RecordingMedium& recording, uint64_t seed);

  struct Point {
    size_t event = 0;    // crash just before this event of the log
    uint64_t mark = 0;   // last mark before it
    size_t pending = 0;  // units in flight
    const char* subset = "";
  };
  /// Calls `visit` with crash images: at each drain and mark, and at other events once in `sparse` times. At each point:
  /// none of the pending units, all of them; each alone and all but each while there are at most `single_max`; all but
  /// those of one store, for each of the `single_max` latest stores; `samples` random subsets. `visit` may change the image. Stops when it returns false. Gives the number of images.
  uint64_t explore(size_t sparse, size_t single_max, size_t samples,
                   const std::function<bool(media::MemoryMedium& image, const Point& point)>& visit);

 private:
  struct Pending {
    std::vector<uint64_t> values;  // oldest first
    std::vector<size_t> events;    // which store each is of
    size_t flushed = 0;            // of these, how many a drain of `thread` makes durable
    uint32_t thread = 0;
  };
  void apply(const media::RecordingMedium::Event& event);
  void store(const media::RecordingMedium::Event& event, bool flushed);
  /// Gives how many of a unit's values got there.
  using Choice = std::function<size_t(size_t index, const Pending& unit)>;
  bool try_subset(size_t event, uint64_t mark, const char* name, const Choice& chosen,
                  const std::function<bool(media::MemoryMedium&, const Point&)>& visit);
  [[nodiscard]] std::vector<size_t> pending_stores() const;

  const media::RecordingMedium& recording_;
  Random random_;
  media::MemoryMedium durable_;
  media::MemoryMedium image_;
  std::map<uint64_t, Pending> pending_;  // by unit offset
};

}  // namespace udax::test

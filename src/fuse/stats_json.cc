// SPDX-License-Identifier: BSD-3-Clause
//
// The live counters as a JSON text, as UDAX_IOC_STAT gives it. Keys are stable; new ones may be added. Byte counts
// end in _bytes, block counts (4 KiB) in _blocks, times in _ns.
#include <fmt/format.h>
#include <unistd.h>

#include <iterator>

#include "base/clock.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

// A JSON string of any bytes: control characters escaped, the rest as it is.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out += '"';
}

void append_dax(std::string& out, const dax::CounterValues& c) {
  fmt::format_to(std::back_inserter(out),
                 R"("dax":{{"read_data":{},"read_zero":{},"write_data":{},"write_filled":{},"copied":{},)"
                 R"("beyond_end":{},"failed":{},"huge":{},"zero_views_dropped":{},"writebacks":{},)"
                 R"("entries_flushed":{},"flushed_bytes":{},"pages_filled":{},"pages_returned":{},)"
                 R"("pages_twinned":{},"copies_recalled":{},"copies_doubted":{},"flips":{}}},)",
                 c.read_data, c.read_zero, c.write_data, c.write_filled, c.copied, c.beyond_end, c.failed, c.huge,
                 c.zero_views_dropped, c.writebacks, c.entries_flushed, c.bytes_flushed, c.pages_filled,
                 c.pages_returned, c.pages_twinned, c.copies_recalled, c.copies_doubted, c.flips);
}

void append_layers(std::string& out, const fs::Stats& s) {
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 R"("space":{{"total_blocks":{},"free_blocks":{},"available_blocks":{},"pending_blocks":{},)"
                 R"("left_out_blocks":{},"huge_free":{},"groups_loaded":{}}},)",
                 s.space.blocks_total, s.space.blocks_free, s.space.blocks_available, s.space.blocks_pending,
                 s.space.blocks_left_out, s.space.huge_free, s.space.groups_loaded);
  fmt::format_to(to, R"("inodes":{{"used":{},"chunks_empty":{},"cached":{},"lookups":{},"hits":{},"misses":{}}},)",
                 s.inodes.used, s.inodes.chunks_empty, s.cache.inodes, s.cache.lookups, s.cache.hits,
                 s.cache.misses);
  fmt::format_to(to,
                 R"("journal":{{"commits":{},"appended_bytes":{},"tail_updates":{},"waits":{},"used_bytes":{},)"
                 R"("ring_bytes":{},"replayed_records":{},"replayed_bytes":{},"was_clean":{}}},)",
                 s.journal.commits, s.journal.bytes, s.journal.tail_updates, s.journal.waits, s.journal.used_bytes,
                 s.journal.ring_bytes, s.replay.records, s.replay.bytes, s.replay.was_clean);
  fmt::format_to(to,
                 R"("media":{{"stores":{},"stored_bytes":{},"flushed_lines":{},"drains":{},"deep_flushes":{},)"
                 R"("faults":{},"lost_pages":{},"corruptions":{},"evicted_orphans":{},"lost":[)",
                 s.media.stores, s.media.stored_bytes, s.media.flushed_lines, s.media.drains, s.media.deep_flushes,
                 s.media.faults, s.lost_pages, s.corruptions, s.evicted_orphans);
  for (size_t i = 0; i < s.lost.size(); ++i) {
    fmt::format_to(to, R"({}{{"offset_bytes":{},"length_bytes":{}}})", i == 0 ? "" : ",", s.lost[i].offset,
                   s.lost[i].size);
  }
  out += "]},";
}

}  // namespace

std::string Dispatcher::stats_json() {
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, R"({{"pool":{},"mountpoint":{},"pid":{},"uptime_ns":{},"open_files":{},)",
                 quoted(options_.pool), quoted(options_.mountpoint), ::getpid(), monotonic_ns() - mounted_ns_,
                 handles_.open_count());
  const fs::Stats stats = fs_.stats();
  append_layers(out, stats);
  append_dax(out, stats.dax);
  if (options_.direct != nullptr) out += "\"direct\":{" + options_.direct->counters_json() + "},";
  out += R"("ops":{)";
  const LockGuard guard(stats_mutex_);
  bool first = true;
  for (uint32_t opcode = 0; opcode < wire::kOpcodeCount; ++opcode) {
    OpTotals totals;
    for (const auto& stats : stats_) stats->add_to(opcode, totals);
    if (totals.count == 0) continue;
    fmt::format_to(to, R"({}"{}":{{"count":{},"errors":{},"total_ns":{},"p50_ns":{},"p99_ns":{}}})",
                   first ? "" : ",", opcode_name(opcode), totals.count, totals.errors, totals.time_ns,
                   totals.percentile_ns(50), totals.percentile_ns(99));
    first = false;
  }
  out += "}}";
  return out;
}

}  // namespace udax::fuse

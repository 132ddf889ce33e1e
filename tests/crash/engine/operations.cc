// SPDX-License-Identifier: BSD-3-Clause
#include "base/sync_point.h"
#include "tests/crash/engine/operation.h"

namespace udax::crash {
namespace {

constexpr uint32_t kFile = 0100644;
constexpr uint32_t kDir = 0040755;
constexpr uint32_t kPunch = fs::kFallocPunchHole | fs::kFallocKeepSize;
constexpr uint32_t kZero = fs::kFallocZeroRange;
constexpr uint32_t kKeep = fs::kFallocKeepSize;

// Names of 255 bytes that fill a directory leaf.
constexpr int kWideNames = (kBlockSize - format::kDirLeafFixed) / (sizeof(format::DirSlot) + 272);

std::string wide_name(int i) { return "/w/" + std::string(252, 'w') + std::to_string(100 + i); }

fs::SetAttr mode(uint32_t bits) {
  fs::SetAttr s;
  s.mode = bits;
  return s;
}

fs::SetAttr owner(uint32_t uid, uint32_t gid) {
  fs::SetAttr s;
  s.uid = uid;
  s.gid = gid;
  return s;
}

fs::SetAttr times(int64_t seconds) {
  fs::SetAttr s;
  s.mtime = format::TimeStamp{seconds, 123};
  return s;
}

void add_names(std::vector<Operation>& all) {
  const auto add = [&all](const char* name, std::function<void(Shell&)> run) {
    all.push_back({name, Rule::kAtomic, std::move(run)});
  };
  add("create", [](Shell& s) { s.make("/new", kFile); });
  add("create_long_name", [](Shell& s) { s.make("/" + std::string(255, 'n'), kFile); });
  add("create_in_subdirectory", [](Shell& s) { s.make("/d/new", kFile); });
  add("create_splitting_a_leaf", [](Shell& s) { s.make(wide_name(50), kFile); });
  add("mkdir", [](Shell& s) { s.make("/newdir", kDir); });
  add("mkdir_in_subdirectory", [](Shell& s) { s.make("/d/newdir", kDir); });
  add("mknod", [](Shell& s) { s.make("/dev", 0020644); });
  add("mkfifo", [](Shell& s) { s.make("/fifo", 0010644); });
  add("symlink_short", [](Shell& s) { s.symlink("/new", 20); });
  add("symlink_inline_limit", [](Shell& s) { s.symlink("/new", 128); });
  add("symlink_long", [](Shell& s) { s.symlink("/new", 3000); });
  add("link", [](Shell& s) { s.link("/f", "/f2"); });
  add("link_into_directory", [](Shell& s) { s.link("/g", "/d/g3"); });
  add("unlink", [](Shell& s) { s.unlink("/f"); });
  add("unlink_one_of_two", [](Shell& s) { s.unlink("/g"); });
  add("unlink_symlink", [](Shell& s) { s.unlink("/long"); });
  add("unlink_many_extents", [](Shell& s) { s.unlink("/holes"); });
  add("unlink_from_full_leaf", [](Shell& s) { s.unlink(wide_name(3)); });
  add("unlink_while_open", [](Shell& s) {
    s.keep_open("/f");
    s.unlink("/f");
  });
  add("unlink_while_open_then_close", [](Shell& s) {
    s.keep_open("/f");
    s.unlink("/f");
    s.close_all();
  });
  add("rmdir", [](Shell& s) { s.rmdir("/e"); });
  add("rmdir_not_empty", [](Shell& s) { s.rmdir("/d"); });
  add("rename", [](Shell& s) { s.rename("/f", "/moved"); });
  add("rename_onto_file", [](Shell& s) { s.rename("/f", "/hole"); });
  add("rename_onto_open_file", [](Shell& s) {
    s.keep_open("/hole");
    s.rename("/f", "/hole");
  });
  add("rename_onto_one_of_two", [](Shell& s) { s.rename("/f", "/g"); });
  add("rename_between_links", [](Shell& s) { s.rename("/g", "/g2"); });
  add("rename_into_directory", [](Shell& s) { s.rename("/f", "/d/f"); });
  add("rename_onto_file_in_directory", [](Shell& s) { s.rename("/f", "/d/inner"); });
  add("rename_out_of_directory", [](Shell& s) { s.rename("/d/inner", "/inner"); });
  add("rename_directory", [](Shell& s) { s.rename("/d", "/d2"); });
  add("rename_directory_onto_empty", [](Shell& s) { s.rename("/d", "/e"); });
  add("rename_directory_into_directory", [](Shell& s) { s.rename("/d", "/e/d"); });
  add("rename_splitting_a_leaf", [](Shell& s) { s.rename("/f", wide_name(51)); });
  add("rename_noreplace", [](Shell& s) { s.rename("/f", "/moved", fs::kRenameNoReplace); });
  add("rename_noreplace_refused", [](Shell& s) { s.rename("/f", "/g", fs::kRenameNoReplace); });
  add("exchange", [](Shell& s) { s.rename("/f", "/g", fs::kRenameExchange); });
  add("exchange_file_and_directory", [](Shell& s) { s.rename("/f", "/d/sub", fs::kRenameExchange); });
  add("exchange_directories", [](Shell& s) { s.rename("/e", "/d/sub", fs::kRenameExchange); });
}

void add_attributes(std::vector<Operation>& all) {
  const auto add = [&all](const char* name, std::function<void(Shell&)> run) {
    all.push_back({name, Rule::kAtomic, std::move(run)});
  };
  add("chmod", [](Shell& s) { s.setattr("/f", mode(0600)); });
  add("chmod_directory", [](Shell& s) { s.setattr("/d", mode(0700)); });
  add("chown", [](Shell& s) { s.setattr("/f", owner(7, 8)); });
  add("utimens", [](Shell& s) { s.setattr("/f", times(1000)); });
  add("setxattr", [](Shell& s) { s.setxattr("/f", "user.new", 40); });
  add("setxattr_first", [](Shell& s) { s.setxattr("/g", "user.new", 40); });
  add("setxattr_large", [](Shell& s) { s.setxattr("/f", "user.big", 9000); });
  add("setxattr_replace", [](Shell& s) { s.setxattr("/f", "user.old", 60, 2); });
  add("setxattr_replace_by_large", [](Shell& s) { s.setxattr("/f", "user.old", 5000); });
  add("setxattr_directory", [](Shell& s) { s.setxattr("/d", "user.dir", 10); });
  add("removexattr", [](Shell& s) { s.removexattr("/f", "user.old"); });
  add("set_flag_dax", [](Shell& s) { s.set_flags("/f", format::kFlagDax, format::kFlagDax); });
  add("set_flag_immutable", [](Shell& s) { s.set_flags("/g", format::kFlagImmutable, format::kFlagImmutable); });
  add("set_flag_append", [](Shell& s) { s.set_flags("/d", format::kFlagAppend, format::kFlagAppend); });
}

void add_sizes(std::vector<Operation>& all) {
  const auto add = [&all](const char* name, Rule rule, std::function<void(Shell&)> run) {
    all.push_back({name, rule, std::move(run)});
  };
  add("truncate_down", Rule::kAtomic, [](Shell& s) { s.resize("/f", 5001); });
  add("truncate_to_nothing", Rule::kAtomic, [](Shell& s) { s.resize("/f", 0); });
  add("truncate_up", Rule::kAtomic, [](Shell& s) { s.resize("/f", 50000); });
  add("truncate_within_a_block", Rule::kAtomic, [](Shell& s) { s.resize("/f", 12301); });
  add("truncate_many_extents", Rule::kAtomic, [](Shell& s) { s.resize("/holes", 9000); });
  add("truncate_to_same_size", Rule::kAtomic, [](Shell& s) { s.resize("/kept", 3000); });
  add("open_truncating", Rule::kAtomic, [](Shell& s) { s.open_truncated("/f"); });
  add("preallocate", Rule::kSteps, [](Shell& s) { s.fallocate("/f", 0, 0, 60000); });
  add("preallocate_keeping_size", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kKeep, 0, 60000); });
  add("preallocate_in_holes", Rule::kSteps, [](Shell& s) { s.fallocate("/holes", 0, 0, 40000); });
  add("punch_whole_blocks", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kPunch, 4096, 4096); });
  add("punch_unaligned", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kPunch, 1000, 9000); });
  add("punch_within_a_block", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kPunch, 4100, 500); });
  add("punch_everything", Rule::kSteps, [](Shell& s) { s.fallocate("/holes", kPunch, 0, 100000); });
  add("zero_whole_blocks", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kZero, 4096, 8192); });
  add("zero_unaligned", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kZero, 3000, 7001); });
  add("zero_past_the_end", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kZero, 10000, 20000); });
  add("zero_keeping_size", Rule::kSteps, [](Shell& s) { s.fallocate("/f", kZero | kKeep, 10000, 20000); });
}

void add_writes(std::vector<Operation>& all) {
  const auto add = [&all](const char* name, Rule rule, std::function<void(Shell&)> run) {
    all.push_back({name, rule, std::move(run)});
  };
  add("overwrite_small", Rule::kInPlace, [](Shell& s) { s.write("/f", 3, 19, 'o'); });
  add("overwrite_unaligned", Rule::kInPlace, [](Shell& s) { s.write("/f", 4001, 999, 'u'); });
  add("overwrite_block", Rule::kInPlace, [](Shell& s) { s.write("/f", 4096, 4096, 'b'); });
  add("overwrite_over_the_end", Rule::kInPlace, [](Shell& s) { s.write("/f", 12500, 1000, 'e'); });
  add("append_small", Rule::kInPlace, [](Shell& s) { s.append("/f", 11, 'a'); });
  add("append_blocks", Rule::kInPlace, [](Shell& s) { s.append("/f", 9000, 'A'); });
  add("append_to_empty", Rule::kInPlace, [](Shell& s) { s.append("/d/inner", 100, 'i'); });
  add("write_behind_the_end", Rule::kInPlace, [](Shell& s) { s.write("/f", 30000, 100, 'z'); });
  add("write_into_a_hole", Rule::kInPlace, [](Shell& s) { s.write("/hole", 10001, 5000, 'c'); });
  add("write_making_a_tree", Rule::kInPlace, [](Shell& s) { s.write("/holes", 8192 * 7, 200, 't'); });
  add("write_into_preallocated", Rule::kInPlace, [](Shell& s) { s.write("/kept", 10000, 700, 'k'); });
  add("write_clearing_setuid", Rule::kInPlace, [](Shell& s) { s.write("/suid", 0, 64, 's'); });
  add("copy_range", Rule::kSteps, [](Shell& s) { s.copy_range("/f", 100, "/g", 200, 7000); });
  add("copy_range_with_holes", Rule::kSteps, [](Shell& s) { s.copy_range("/holes", 0, "/g", 4096, 12000); });
  add("tmpfile_and_link", Rule::kAtomic, [](Shell& s) { s.tmpfile("/t"); });
  add("tmpfile", Rule::kAtomic, [](Shell& s) { s.tmpfile(""); });
  add("fsync", Rule::kAtomic, [](Shell& s) { s.fsync("/f"); });
}

}  // namespace

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> list;
    add_names(list);
    add_attributes(list);
    add_sizes(list);
    add_writes(list);
    return list;
  }();
  return all;
}

const std::vector<Operation>& full_operations() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> list;
    for (const char* name : {"create",
                             "mkdir",
                             "symlink_long",
                             "link",
                             "unlink",
                             "rename_onto_file",
                             "rename_into_directory",
                             "setxattr_large",
                             "setxattr_replace_by_large",
                             "removexattr",
                             "truncate_down",
                             "truncate_up",
                             "punch_whole_blocks",
                             "write_making_a_tree",
                             "create_splitting_a_leaf",
                             "rename_splitting_a_leaf",
                             "unlink_while_open",
                             "unlink_while_open_then_close",
                             "tmpfile_and_link",
                             "rename_onto_open_file",
                             "unlink_many_extents",
                             "truncate_many_extents"}) {
      list.push_back(*find_operation(name));
    }
    // What runs out of room half-way has done a part.
    for (const char* name : {"append_blocks", "write_into_a_hole", "preallocate", "preallocate_in_holes",
                             "zero_past_the_end", "copy_range", "copy_range_with_holes"}) {
      list.push_back(*find_operation(name));
      list.back().rule = Rule::kSteps;
    }
    return list;
  }();
  return all;
}

const std::vector<Operation>& special_operations() {
  static const std::vector<Operation> all = {
      {"map_store", Rule::kMapped, [](Shell& s) { s.mapped_store("/f", 4000, 300, 'm'); }},
      {"map_store_unaligned", Rule::kMapped, [](Shell& s) { s.mapped_store("/f", 4093, 9, 'n'); }},
      {"map_store_hole", Rule::kMapped, [](Shell& s) { s.mapped_store("/hole", 8200, 100, 'h'); }},
      {"map_store_preallocated", Rule::kMapped, [](Shell& s) { s.mapped_store("/kept", 100, 2000, 'p'); }},
      {"fsync_hole", Rule::kAtomic, [](Shell& s) { s.fsync("/hole"); }},
      {"fsync_kept", Rule::kAtomic, [](Shell& s) { s.fsync("/kept"); }},
      {"chown_other", Rule::kAtomic, [](Shell& s) { s.setattr("/g", owner(9, 9)); }},
      {"set_flag_dax_off", Rule::kAtomic, [](Shell& s) { s.set_flags("/f", 0, format::kFlagDax); }},
      {"shrink_fragments", Rule::kAtomic, [](Shell& s) { s.resize("/frag", 100); }},
      {"grow_fragments", Rule::kAtomic, [](Shell& s) { s.resize("/frag", 1000000); }},
      {"unlink_fragments", Rule::kAtomic, [](Shell& s) { s.unlink("/frag"); }},
      {"rename_onto_fragments", Rule::kAtomic, [](Shell& s) { s.rename("/f", "/frag"); }},
      {"punch_fragments", Rule::kSteps, [](Shell& s) { s.fallocate("/frag", kPunch, 5000, 900000); }},
      {"close_fragments", Rule::kAtomic,
       [](Shell& s) {
         s.keep_open("/frag");
         s.unlink("/frag");
         s.close_all();
       }},
  };
  return all;
}

const Operation* find_operation(std::string_view name) {
  for (const auto* list : {&operations(), &special_operations()}) {
    for (const Operation& op : *list) {
      if (op.name == name) return &op;
    }
  }
  return nullptr;
}

const char* to_string(World world) {
  switch (world) {
    case World::kPlain: return "plain";
    case World::kFull: return "full";
    case World::kRecycle: return "recycle";
    case World::kRing: return "ring";
    case World::kBrim: return "brim";
    case World::kFragments: return "fragments";
    case World::kWhole: return "whole";
  }
  return "";
}

namespace {

void prepare_plain(Shell& s) {
  s.make("/d", kDir);
  s.make("/e", kDir);
  s.make("/d/inner", kFile);
  s.make("/d/sub", kDir);
  for (const char* name : {"/f", "/g", "/hole", "/holes", "/kept", "/suid"}) s.make(name, kFile);
  s.write("/f", 0, 12800, 'F');
  s.write("/g", 0, 5000, 'G');
  s.write("/hole", 20000, 100, 'H');
  for (uint64_t i = 0; i < format::kInlineExtents; ++i)
    s.write("/holes", 8192 * i, 4096, static_cast<char>('0' + i));
  s.write("/kept", 0, 3000, 'K');
  s.fallocate("/kept", kKeep, 0, 20000);
  s.write("/suid", 0, 100, 'S');
  s.setattr("/suid", mode(06755));
  s.link("/g", "/g2");
  s.setxattr("/f", "user.old", 5);
  s.symlink("/short", 10);
  s.symlink("/long", 2000);
  // As many names as fit into a leaf: one more splits it.
  s.make("/w", kDir);
  s.make(wide_name(0), kFile);
  for (int i = 1; i < kWideNames; ++i) s.link(wide_name(0), wide_name(i));
}

/// A file that takes what is free, but for `left` blocks. It has no bytes to read.
void fill(Shell& s, uint64_t left) {
  s.make("/fill", kFile);
  for (uint64_t at = 0;;) {
    const uint64_t free = s.fs().statfs().blocks_available;
    if (free <= left) return;
    const uint64_t part = std::max<uint64_t>((free - left) / 2, 1);
    s.fallocate("/fill", kKeep, at, part * kBlockSize);
    at += part * kBlockSize;
    if (s.fs().statfs().blocks_available == free) return;
  }
}

/// A record of the least size, unlike all others.
void put_record(Shell& s, int64_t number) { s.setattr("/g", times(number)); }

}  // namespace

void prepare(World world, Shell& s) {
  prepare_plain(s);
  if (world == World::kFull) fill(s, 1);
  if (world == World::kRecycle) fill(s, 6);
  if (world == World::kFragments) {
    s.make("/frag", kFile);
    for (uint64_t i = 0; i < 3 * format::kExtentsPerLeaf; ++i)
      s.write("/frag", i * 8192, 64, static_cast<char>(i));
  }
  static_cast<void>(s.take_outcome());
}

void warm_up(World world, Shell& s) {
  constexpr uint64_t kRecord = 320;  // bytes, at least one record
  const auto journal = [&s] { return s.fs().stats().journal; };
  int64_t n = 2000;
  if (world == World::kRing) {  // once round, and to the end
    const uint64_t ring = s.medium().ring_size();
    while (journal().bytes < ring || ring - s.medium().ring_head() > kRecord) put_record(s, n++);
  }
  if (world == World::kBrim && sync_point::kCompiledIn) {  // twice round, so that both places of the tail are used
    const uint64_t ring = s.medium().ring_size();
    while (journal().bytes < 2 * ring || journal().used_bytes + kRecord < ring) put_record(s, n++);
  }
  static_cast<void>(s.take_outcome());
}

fs::MountOptions mount_options_of(World world) {
  fs::MountOptions options;
  options.atime = fs::AtimeMode::kNever;
  options.inode_cache = 1024;
  if (world == World::kWhole) options.data = fs::DataMode::kAtomic;
  return options;
}

const char* limit_of(World world) {
  switch (world) {
    case World::kFragments: return "extent.one_leaf_a_step";
    case World::kBrim: return "journal.lazy_tail";
    default: return nullptr;
  }
}

}  // namespace udax::crash

// SPDX-License-Identifier: BSD-3-Clause
#include "inode/xattr_store.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "inode/xattr_name.h"

namespace udax::inode {
namespace {

constexpr uint32_t kEntriesStart = sizeof(format::BlockHeader) + sizeof(format::XattrHeader);
constexpr uint32_t kValueStart = sizeof(format::BlockHeader) + sizeof(format::XattrValueHeader);
constexpr uint32_t kEntryAlign = 8;
constexpr uint32_t kEntryMax = static_cast<uint32_t>(
    align_up(sizeof(format::XattrEntry) + format::kNameMax + format::kXattrInlineMax, kEntryAlign));
static_assert(kEntryMax <= format::kXattrSpace);
/// Blocks that one transaction frees: what it remembers about each is looked through for each.
constexpr uint32_t kFreedMax = 1024;

/// An attribute; the bytes are those of its block.
struct Item {
  XattrName name;
  uint32_t value_length = 0;
  DeviceBlock value_block;  // kNoBlock: the value is `value`
  std::span<const std::byte> value;
};

/// The blocks of one inode, on the medium or through a transaction.
class Blocks {
 public:
  Blocks(const journal::MetaStore& meta, uint64_t owner) : meta_(meta), owner_(owner) {}
  Blocks(const alloc::BlockTx& tx, uint64_t owner) : meta_(tx.meta()), tx_(&tx.tx()), owner_(owner) {}
  [[nodiscard]] Result<const std::byte*> read(DeviceBlock b, format::BlockKind kind) const {
    return tx_ != nullptr ? tx_->read_block(b, kind, owner_) : meta_.read(b, kind, owner_);
  }
  [[nodiscard]] const journal::MetaStore& meta() const { return meta_; }

 private:
  const journal::MetaStore& meta_;
  const journal::Tx* tx_ = nullptr;
  uint64_t owner_;
};

const format::BlockHeader& header_of(const std::byte* block) {
  return *reinterpret_cast<const format::BlockHeader*>(block);
}
const format::XattrHeader& xattr_header_of(const std::byte* block) {
  return *reinterpret_cast<const format::XattrHeader*>(block + sizeof(format::BlockHeader));
}
DeviceBlock next_value_block(const std::byte* block) {
  const auto* header = reinterpret_cast<const format::XattrValueHeader*>(block + sizeof(format::BlockHeader));
  return DeviceBlock(header->next);
}

uint32_t entry_size(const Item& item) {
  const size_t inline_size = item.value_block == kNoBlock ? item.value.size() : 0;
  return static_cast<uint32_t>(
      align_up(sizeof(format::XattrEntry) + item.name.name.size() + inline_size, kEntryAlign));
}

// --- Reading ---------------------------------------------------------------------------------------------------------

/// The entry at `at` of a block with `used` bytes of entries; false if it cannot be one.
bool parse_entry(const std::byte* block, uint32_t at, uint32_t used, Item* item, uint32_t* length) {
  if (used - at < sizeof(format::XattrEntry)) return false;
  const std::byte* const start = block + kEntriesStart + at;
  const auto& entry = *reinterpret_cast<const format::XattrEntry*>(start);
  *length = entry.length;
  if (*length > used - at || !is_xattr_name(entry.name_space, entry.name_length)) return false;
  item->value_length = entry.value_length;
  item->value_block = DeviceBlock(entry.value_block);
  const bool is_inline = item->value_block == kNoBlock;
  if (is_inline ? item->value_length > format::kXattrInlineMax
                : item->value_length == 0 || item->value_length > format::kXattrValueMax) {
    return false;
  }
  const uint64_t bytes = sizeof(format::XattrEntry) + entry.name_length + (is_inline ? item->value_length : 0);
  if (*length != align_up(bytes, kEntryAlign)) return false;
  const std::byte* const name = start + sizeof(format::XattrEntry);
  item->name.name_space = static_cast<format::XattrNamespace>(entry.name_space);
  item->name.name = std::string_view(reinterpret_cast<const char*>(name), entry.name_length);
  item->value = is_inline ? std::span<const std::byte>(name + entry.name_length, item->value_length)
                          : std::span<const std::byte>();
  return true;
}

/// Calls `visit(item, offset of the entry)` for the entries of one block, until it gives false.
template <typename Visit>
Status for_each_item(const journal::MetaStore& meta, DeviceBlock b, const std::byte* block, const Visit& visit) {
  const uint32_t used = xattr_header_of(block).used;
  if (used > format::kXattrSpace) return meta.corrupted("an xattr block that makes no sense", b.value);
  uint32_t count = 0;
  for (uint32_t at = 0; at < used; ++count) {
    Item item;
    uint32_t length = 0;
    if (!parse_entry(block, at, used, &item, &length)) {
      return meta.corrupted("an xattr entry that makes no sense", b.value);
    }
    UDAX_TRY(const bool go_on, visit(item, kEntriesStart + at));
    if (!go_on) return {};
    at += length;
  }
  if (count != header_of(block).count) return meta.corrupted("an xattr block with a wrong count", b.value);
  return {};
}

/// The same for the whole chain; `visit_block(block number)` comes before each block's entries.
template <typename VisitBlock, typename Visit>
Status walk(const Blocks& blocks, const format::Inode& inode, const VisitBlock& visit_block, const Visit& visit) {
  bool stopped = false;
  const auto visit_until = [&](const Item& item, uint32_t /*offset*/) -> Result<bool> {
    UDAX_TRY(const bool go_on, visit(item));
    stopped = !go_on;
    return go_on;
  };
  uint32_t steps = 0;
  for (DeviceBlock b{inode.xattr_block}; b != kNoBlock && !stopped;) {
    if (++steps > kXattrChainMax) return blocks.meta().corrupted("a chain of xattr blocks without end", b.value);
    UDAX_TRY(const std::byte* const block, blocks.read(b, format::kKindXattr));
    visit_block(b);
    UDAX_CHECK(for_each_item(blocks.meta(), b, block, visit_until));
    b = DeviceBlock(xattr_header_of(block).next);
  }
  return {};
}

/// Calls `visit(block number, its bytes)` for the blocks of a long value, which are no more and no less than they must.
template <typename Visit>
Status walk_value(const Blocks& blocks, DeviceBlock head, uint32_t length, const Visit& visit) {
  uint32_t left = length;
  for (DeviceBlock b = head; left > 0;) {
    UDAX_TRY(const std::byte* const block, blocks.read(b, format::kKindXattrValue));
    const uint32_t count = header_of(block).count;
    const DeviceBlock next = next_value_block(block);
    if (count == 0 || count > format::kXattrValueSpace || count > left || (next == kNoBlock) != (count == left)) {
      return blocks.meta().corrupted("an xattr value block that makes no sense", b.value);
    }
    left -= count;
    UDAX_CHECK(visit(b, std::span<const std::byte>(block + kValueStart, count)));
    b = next;
  }
  return {};
}

bool same_name(const XattrName& a, const XattrName& b) { return a.name_space == b.name_space && a.name == b.name; }

}  // namespace

Result<std::vector<std::byte>> xattr_get(const journal::MetaStore& meta, const format::Inode& inode,
                                         const XattrName& name) try {
  const Blocks blocks(meta, inode.ino);
  std::vector<std::byte> value;
  bool found = false;
  const auto visit = [&](const Item& item) -> Result<bool> {
    if (!same_name(item.name, name)) return true;
    found = true;
    value.reserve(item.value_length);
    if (item.value_block == kNoBlock) {
      value.assign(item.value.begin(), item.value.end());
      return false;
    }
    const auto append = [&](DeviceBlock, std::span<const std::byte> bytes) -> Status {
      value.insert(value.end(), bytes.begin(), bytes.end());
      return {};
    };
    UDAX_CHECK(walk_value(blocks, item.value_block, item.value_length, append));
    return false;
  };
  UDAX_CHECK(walk(
      blocks, inode, [](DeviceBlock) {}, visit));
  if (!found) return Error::kNoData;
  return value;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status xattr_list(const journal::MetaStore& meta, const format::Inode& inode,
                  const std::function<void(const XattrName&)>& visit) try {
  const auto visit_item = [&](const Item& item) -> Result<bool> {
    visit(item.name);
    return true;
  };
  return walk(
      Blocks(meta, inode.ino), inode, [](DeviceBlock) {}, visit_item);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

// --- Changing --------------------------------------------------------------------------------------------------------

namespace {

/// All attributes of an inode, to be changed and written back.
class Change {
 public:
  Change(alloc::BlockTx& tx, format::Inode& inode, alloc::Purpose purpose)
      : tx_(tx), inode_(inode), purpose_(purpose), blocks_(tx, inode.ino), goal_(DeviceBlock(inode.xattr_block)) {}

  [[nodiscard]] Status load();
  [[nodiscard]] Item* find(const XattrName& name);
  void add(const Item& item) { items_.push_back(item); }
  void remove(Item* item) { items_.erase(items_.begin() + (item - items_.data())); }
  /// Whether listxattr(2) can still give all names.
  [[nodiscard]] bool names_fit() const;

  [[nodiscard]] Result<DeviceBlock> write_value(std::span<const std::byte> value);
  [[nodiscard]] Status free_value(const Item& item);
  /// The new chain for the old one.
  [[nodiscard]] Status store();

 private:
  [[nodiscard]] Result<DeviceBlock> allocate();
  [[nodiscard]] Status free_block(DeviceBlock b);
  [[nodiscard]] Status write_block(DeviceBlock b, DeviceBlock next, std::span<const Item> items);

  alloc::BlockTx& tx_;
  format::Inode& inode_;
  alloc::Purpose purpose_;
  Blocks blocks_;
  DeviceBlock goal_;
  std::vector<Item> items_;
  std::vector<DeviceBlock> old_chain_;
};

/// More groups than a transaction can touch cannot be had by trying again: for the caller there is no room.
Error no_room(Error error) { return error == Error::kAgain ? Error::kNoSpace : error; }

Status Change::load() {
  return walk(
      blocks_, inode_, [this](DeviceBlock b) { old_chain_.push_back(b); },
      [this](const Item& item) -> Result<bool> {
        items_.push_back(item);
        return true;
      });
}

Item* Change::find(const XattrName& name) {
  const auto found =
      std::find_if(items_.begin(), items_.end(), [&](const Item& i) { return same_name(i.name, name); });
  return found == items_.end() ? nullptr : &*found;
}

bool Change::names_fit() const {
  size_t bytes = 0;
  for (const Item& item : items_) bytes += xattr_list_bytes(item.name);
  return bytes <= format::kXattrNamesMax;
}

Result<DeviceBlock> Change::allocate() {
  const Result<DeviceBlock> block = tx_.allocate_block(purpose_, goal_);
  if (!block) return no_room(block.error());
  goal_ = *block + 1;
  inode_.block_count = inode_.block_count + 1;
  return *block;
}

Status Change::free_block(DeviceBlock b) {
  if (inode_.block_count == 0) return tx_.meta().corrupted("an inode with more blocks than it counts", inode_.ino);
  if (const Status freed = tx_.free_metadata(b); !freed) return no_room(freed.error());
  inode_.block_count = inode_.block_count - 1;
  return {};
}

Result<DeviceBlock> Change::write_value(std::span<const std::byte> value) {
  std::vector<DeviceBlock> chain;
  for (size_t at = 0; at < value.size(); at += format::kXattrValueSpace) {
    UDAX_TRY(const DeviceBlock block, allocate());
    chain.push_back(block);
  }
  for (size_t i = 0; i < chain.size(); ++i) {
    UDAX_TRY(std::byte* const image, tx_.tx().create_block(chain[i], format::kKindXattrValue, inode_.ino));
    const auto part =
        value.subspan(i * format::kXattrValueSpace,
                      std::min<size_t>(format::kXattrValueSpace, value.size() - i * format::kXattrValueSpace));
    reinterpret_cast<format::BlockHeader*>(image)->count = static_cast<uint16_t>(part.size());
    auto* header = reinterpret_cast<format::XattrValueHeader*>(image + sizeof(format::BlockHeader));
    header->next = i + 1 < chain.size() ? chain[i + 1].value : 0;
    std::memcpy(image + kValueStart, part.data(), part.size());
  }
  return chain.front();
}

Status Change::free_value(const Item& item) {
  if (item.value_block == kNoBlock) return {};
  const auto free_one = [this](DeviceBlock b, std::span<const std::byte>) { return free_block(b); };
  return walk_value(blocks_, item.value_block, item.value_length, free_one);
}

Status Change::write_block(DeviceBlock b, DeviceBlock next, std::span<const Item> items) {
  UDAX_TRY(std::byte* const image, tx_.tx().create_block(b, format::kKindXattr, inode_.ino));
  uint32_t at = kEntriesStart;
  for (const Item& item : items) {
    const uint32_t size = entry_size(item);
    auto* entry = reinterpret_cast<format::XattrEntry*>(image + at);
    entry->name_space = item.name.name_space;
    entry->name_length = static_cast<uint8_t>(item.name.name.size());
    entry->length = static_cast<uint16_t>(size);
    entry->value_length = item.value_length;
    entry->value_block = item.value_block.value;
    std::byte* const name = image + at + sizeof(format::XattrEntry);
    if (!item.name.name.empty()) std::memcpy(name, item.name.name.data(), item.name.name.size());
    if (!item.value.empty()) std::memcpy(name + item.name.name.size(), item.value.data(), item.value.size());
    at += size;
  }
  reinterpret_cast<format::BlockHeader*>(image)->count = static_cast<uint16_t>(items.size());
  auto* header = reinterpret_cast<format::XattrHeader*>(image + sizeof(format::BlockHeader));
  header->next = next.value;
  header->used = static_cast<uint16_t>(at - kEntriesStart);
  return {};
}

Status Change::store() {
  std::vector<size_t> starts;  // the item that each block begins with
  uint32_t used = format::kXattrSpace;
  for (size_t i = 0; i < items_.size(); ++i) {
    const uint32_t size = entry_size(items_[i]);
    if (used + size > format::kXattrSpace) {
      starts.push_back(i);
      used = 0;
    }
    used += size;
  }
  if (starts.size() > kXattrChainMax) return Error::kNoSpace;
  std::vector<DeviceBlock> chain;
  for (size_t i = 0; i < starts.size(); ++i) {
    UDAX_TRY(const DeviceBlock block, allocate());
    chain.push_back(block);
  }
  const std::span<const Item> items(items_);
  for (size_t i = 0; i < chain.size(); ++i) {
    const size_t end = i + 1 < chain.size() ? starts[i + 1] : items.size();
    const DeviceBlock next = i + 1 < chain.size() ? chain[i + 1] : kNoBlock;
    UDAX_CHECK(write_block(chain[i], next, items.subspan(starts[i], end - starts[i])));
  }
  for (const DeviceBlock b : old_chain_) UDAX_CHECK(free_block(b));
  inode_.xattr_block = chain.empty() ? 0 : chain.front().value;
  return {};
}

}  // namespace

Status xattr_set(alloc::BlockTx& tx, format::Inode& inode, const XattrName& name, std::span<const std::byte> value,
                 XattrSetMode mode) try {
  if (!is_xattr_name(name.name_space, name.name.size())) return Error::kInvalid;
  if (value.size() > format::kXattrValueMax) return Error::kTooBig;
  Change change(tx, inode, alloc::Purpose::kMetadata);
  UDAX_CHECK(change.load());
  Item* const present = change.find(name);
  if (present != nullptr && mode == XattrSetMode::kCreate) return Error::kExists;
  if (present == nullptr && mode == XattrSetMode::kReplace) return Error::kNoData;

  Item item{name, static_cast<uint32_t>(value.size()), kNoBlock, value};
  if (value.size() > format::kXattrInlineMax) {
    UDAX_TRY(item.value_block, change.write_value(value));
    item.value = {};
  }
  if (present != nullptr) {
    UDAX_CHECK(change.free_value(*present));
    *present = item;
  } else {
    change.add(item);
    if (!change.names_fit()) return Error::kNoSpace;
  }
  return change.store();
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status xattr_remove(alloc::BlockTx& tx, format::Inode& inode, const XattrName& name) try {
  Change change(tx, inode, alloc::Purpose::kMustSucceed);
  UDAX_CHECK(change.load());
  Item* const present = change.find(name);
  if (present == nullptr) return Error::kNoData;
  UDAX_CHECK(change.free_value(*present));
  change.remove(present);
  return change.store();
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

// --- Freeing all -----------------------------------------------------------------------------------------------------

namespace {

/// Frees block by block from the chain's head on. When the transaction has enough, the head is edited so that it no
/// longer names what is gone.
class FreeAll {
 public:
  FreeAll(alloc::BlockTx& tx, format::Inode& inode) : tx_(tx), inode_(inode), blocks_(tx, inode.ino) {}
  [[nodiscard]] Status run();

 private:
  /// An entry whose value is gone, or partly: what is left of it.
  struct Cut {
    uint32_t entry = 0;  // bytes from the block's start
    DeviceBlock value_block;
    uint32_t value_length = 0;
  };
  [[nodiscard]] Status free_block(DeviceBlock b);
  [[nodiscard]] Status free_values(DeviceBlock b, const std::byte* block);
  [[nodiscard]] Status save_cuts(DeviceBlock b);

  alloc::BlockTx& tx_;
  format::Inode& inode_;
  Blocks blocks_;
  uint32_t freed_ = 0;
  std::vector<Cut> cuts_;
};

Status FreeAll::free_block(DeviceBlock b) {
  if (freed_ == kFreedMax) return Error::kAgain;
  if (inode_.block_count == 0) return tx_.meta().corrupted("an inode with more blocks than it counts", inode_.ino);
  UDAX_CHECK(tx_.free_metadata(b));
  inode_.block_count = inode_.block_count - 1;
  ++freed_;
  return {};
}

Status FreeAll::free_values(DeviceBlock b, const std::byte* block) {
  const auto visit = [&](const Item& item, uint32_t offset) -> Result<bool> {
    if (item.value_block == kNoBlock) return true;
    cuts_.push_back({offset, item.value_block, item.value_length});
    const auto free_one = [&](DeviceBlock v, std::span<const std::byte> bytes) -> Status {
      cuts_.back().value_block = v;
      UDAX_CHECK(free_block(v));
      cuts_.back().value_length -= static_cast<uint32_t>(bytes.size());
      return {};
    };
    UDAX_CHECK(walk_value(blocks_, item.value_block, item.value_length, free_one));
    cuts_.back().value_block = kNoBlock;
    return true;
  };
  return for_each_item(tx_.meta(), b, block, visit);
}

Status FreeAll::save_cuts(DeviceBlock b) {
  if (cuts_.empty()) return {};
  UDAX_TRY(std::byte* const image, tx_.tx().edit_block(b, format::kKindXattr, inode_.ino));
  for (const Cut& cut : cuts_) {
    auto* entry = reinterpret_cast<format::XattrEntry*>(image + cut.entry);
    entry->value_block = cut.value_block.value;
    entry->value_length = cut.value_length;
  }
  return {};
}

Status FreeAll::run() {
  if (inode_.xattr_block != 0 && tx_.nearly_full()) return Error::kAgain;
  uint32_t steps = 0;
  while (inode_.xattr_block != 0) {
    const DeviceBlock b{inode_.xattr_block};
    if (++steps > kXattrChainMax) return tx_.meta().corrupted("a chain of xattr blocks without end", b.value);
    UDAX_TRY(const std::byte* const block, blocks_.read(b, format::kKindXattr));
    const DeviceBlock next(xattr_header_of(block).next);
    cuts_.clear();
    Status done = free_values(b, block);
    if (done) done = free_block(b);
    if (!done && done.error() == Error::kAgain) UDAX_CHECK(save_cuts(b));
    UDAX_CHECK(done);
    inode_.xattr_block = next.value;
  }
  return {};
}

}  // namespace

Status xattr_free_all(alloc::BlockTx& tx, format::Inode& inode) try {
  return FreeAll(tx, inode).run();
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::inode

// SPDX-License-Identifier: BSD-3-Clause
//
// The index of a directory: a B+tree keyed by the keyed hash of the name, leaves unsorted inside.
//
// Like the extent map it has no state in memory: reads work on the committed directory inode and checked
// blocks, changes on a transaction's shadows. format::DirRoot in the inode's payload is the root; the inode's
// size and block_count are kept; link counts and times are the caller's.
//
// Cookies (seekdir/telldir): the name's hash, 63 bits; it does not change while the name exists, whatever happens
// to others. Names of equal hash (a chance of 2^-63 a pair; the hash is keyed) are in one leaf and are delivered one
// after another. All but the last of them carry the cookie below their hash, so that a listing that stops among
// them goes on at the first of them: such a name may then be delivered twice, never left out.
//
// Errors of the Editor: kExists, kNotFound, kInvalid and kNameTooLong have changed nothing. After any other the
// transaction must be aborted, as its shadows may be half changed. kAgain: it touches too many groups already;
// abort it, and do the same in transactions of their own.
//
// Locks: the directory's rwsem, shared for reads, exclusive until commit has returned for changes.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "alloc/block_allocator.h"
#include "base/error.h"
#include "format/format.h"

namespace udax::dir {

struct Dentry {
  Ino ino;
  uint8_t type = 0;  // DT_...
};

struct Listed {
  std::string_view name;  // valid during the call
  Ino ino;
  uint8_t type = 0;
  uint64_t cookie = 0;  // pass to iterate() to go on behind this entry
};

/// The hash, hence the cookie, of a name.
[[nodiscard]] uint64_t name_hash(const media::Geometry& geometry, std::string_view name);

class Reader {
 public:
  Reader(const journal::MetaStore& meta, const format::Inode& directory) : meta_(meta), inode_(directory) {}

  /// kNotFound, kCorrupted.
  [[nodiscard]] Result<Dentry> lookup(std::string_view name) const;

  /// Delivers entries with a cookie above `after` in cookie order until `visit` returns false (that entry counts as
  /// not delivered). "." and ".." are the caller's: cookies 1 and 2; stored entries begin at kDirHashMin. kCorrupted
  /// when a block on the way is bad (entries before it have been delivered).
  [[nodiscard]] Status iterate(uint64_t after, const std::function<bool(const Listed&)>& visit) const;

  [[nodiscard]] uint64_t entry_count() const;

 private:
  const journal::MetaStore& meta_;
  const format::Inode& inode_;
};

class Editor {
 public:
  /// `directory`: the shadow of the directory's inode.
  Editor(alloc::BlockTx& tx, format::Inode& directory, alloc::Purpose purpose = alloc::Purpose::kMetadata)
      : tx_(tx), inode_(directory), purpose_(purpose) {}

  [[nodiscard]] Result<Dentry> lookup(std::string_view name) const;
  /// kExists; kNoSpace (also: too many names of this one hash); kNameTooLong; kInvalid (empty name, "." or "..",
  /// '/' or NUL in it, inode number 0); kNoMemory; kAgain; kCorrupted.
  [[nodiscard]] Status insert(std::string_view name, Dentry dentry);
  /// Never needs a new block. kNotFound; kNoMemory; kAgain; kCorrupted.
  [[nodiscard]] Status remove(std::string_view name);
  /// Points an existing name at another inode. Never needs a new block. kNotFound; kInvalid (inode number
  /// 0); kNoMemory; kCorrupted.
  [[nodiscard]] Status replace(std::string_view name, Dentry dentry);

 private:
  alloc::BlockTx& tx_;
  format::Inode& inode_;
  alloc::Purpose purpose_;
};

}  // namespace udax::dir

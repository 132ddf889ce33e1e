// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/tree.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace udax::crash {
namespace {

constexpr fs::Caller kReader{0, 0, 1, 022};

struct Hash {
  uint64_t h = 0x243F6A8885A308D3ULL;
  void add(uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15ULL;
    h ^= h >> 29;
  }
  void add(const void* data, size_t size) {
    const auto* p = static_cast<const char*>(data);
    for (; size >= 8; p += 8, size -= 8) {
      uint64_t word = 0;
      std::memcpy(&word, p, 8);
      add(word);
    }
    uint64_t last = 0;
    std::memcpy(&last, p, size);
    add(last + (static_cast<uint64_t>(size) << 56));
  }
  void add(const std::string& s) { add(s.data(), s.size()); }
  void add(format::TimeStamp t) {
    add(static_cast<uint64_t>(t.seconds));
    add(t.nanoseconds);
  }
};

class Reader {
 public:
  Reader(fs::Filesystem& fs, bool keep) : fs_(fs), keep_(keep) {}

  Tree run() {
    visit(kRootIno, "", fs_.getattr(kRootIno));
    return std::move(tree_);
  }

 private:
  void visit(Ino ino, const std::string& path, const Result<fs::Attr>& attr);
  void list(Ino dir, const std::string& path, size_t at);
  void read_content(Ino ino, Node& node);
  void read_xattrs(Ino ino, Node& node);

  fs::Filesystem& fs_;
  const bool keep_;
  Tree tree_;
  std::unordered_map<uint64_t, size_t> seen_;  // inode number -> node
};

void Reader::visit(Ino ino, const std::string& path, const Result<fs::Attr>& attr) {
  const size_t at = tree_.nodes.size();
  Node& node = tree_.nodes.emplace_back();
  node.path = path;
  if (!attr) {
    node.error = to_string(attr.error());
    return;
  }
  const auto [first, is_new] = seen_.try_emplace(ino.value, at);
  node.link = first->second;
  node.mode = attr->mode;
  node.nlink = attr->nlink;
  node.uid = attr->uid;
  node.gid = attr->gid;
  node.rdev_major = attr->rdev_major;
  node.rdev_minor = attr->rdev_minor;
  node.flags = attr->flags;
  node.project_id = attr->project_id;
  node.size = attr->size;
  node.blocks = attr->blocks;
  node.mtime = attr->mtime;
  node.ctime = attr->ctime;
  node.btime = attr->btime;
  if (!is_new) {
    if (node.is_dir()) node.error = "a second name of a directory";
    return;
  }
  read_xattrs(ino, node);
  switch (node.mode & 0170000U) {
    case 0100000U: read_content(ino, node); break;
    case 0120000U: {
      const auto target = fs_.readlink(ino);
      if (target) {
        node.target = *target;
      } else {
        node.error = "target: " + std::string(to_string(target.error()));
      }
      break;
    }
    case 0040000U: list(ino, path, at); break;
    default: break;
  }
}

void Reader::list(Ino dir, const std::string& path, size_t at) {
  struct Name {
    std::string name;
    Ino ino;
    uint8_t type = 0;
  };
  std::vector<Name> names;
  {
    auto open = fs_.open(dir, O_RDONLY, false);
    if (!open) {
      tree_.nodes[at].error = "open: " + std::string(to_string(open.error()));
      return;
    }
    const Status done = fs_.readdir(**open, 0, [&names](const fs::DirEntry& e) {
      if (e.name != "." && e.name != "..") names.push_back({std::string(e.name), e.ino, e.type});
      return true;
    });
    if (!done) tree_.nodes[at].error = "readdir: " + std::string(to_string(done.error()));
  }
  std::sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.name < b.name; });
  for (const Name& n : names) {
    auto attr = fs_.lookup(dir, n.name);
    if (attr && attr->ino != n.ino) attr = Error::kCorrupted;  // readdir and lookup disagree
    if (attr && n.type != ((attr->mode >> 12) & 15U)) attr = Error::kCorrupted;
    visit(n.ino, path + "/" + n.name, attr);
  }
}

void Reader::read_content(Ino ino, Node& node) {
  auto open = fs_.open(ino, O_RDONLY, false);
  if (!open) {
    node.error = "open: " + std::string(to_string(open.error()));
    return;
  }
  Hash hash;
  auto kept = keep_ ? std::make_shared<std::string>() : nullptr;
  static thread_local std::string buffer;
  const Status done = fs_.read(**open, 0, std::min(node.size, kContentMax),
                               [&](std::span<const iovec> pieces, uint64_t) -> Status {
                                 buffer.clear();
                                 for (const iovec& p : pieces)
                                   buffer.append(static_cast<const char*>(p.iov_base), p.iov_len);
                                 hash.add(buffer);
                                 if (kept != nullptr) *kept = buffer;
                                 return {};
                               });
  if (!done) node.error = "read: " + std::string(to_string(done.error()));
  node.content_hash = hash.h;
  node.content = std::move(kept);
}

void Reader::read_xattrs(Ino ino, Node& node) {
  const auto names = fs_.listxattr(ino, kReader);
  if (!names) {
    node.error = "xattrs: " + std::string(to_string(names.error()));
    return;
  }
  std::vector<std::string> sorted;
  for (size_t at = 0; at < names->size(); at += sorted.back().size() + 1) sorted.emplace_back(names->c_str() + at);
  std::sort(sorted.begin(), sorted.end());
  for (const std::string& name : sorted) {
    const auto value = fs_.getxattr(ino, name);
    node.xattrs += name + '=';
    if (value) {
      node.xattrs.append(reinterpret_cast<const char*>(value->data()), value->size());
    } else {
      node.error = name + ": " + std::string(to_string(value.error()));
    }
    node.xattrs += '\0';
  }
}

}  // namespace

Tree read_tree(fs::Filesystem& fs, bool keep) { return Reader(fs, keep).run(); }

uint64_t Tree::digest(Look look) const {
  Hash hash;
  for (const Node& n : nodes) {
    hash.add(n.path);
    for (const uint64_t v :
         {n.link, uint64_t{n.mode}, uint64_t{n.nlink}, uint64_t{n.uid}, uint64_t{n.gid}, uint64_t{n.rdev_major},
          uint64_t{n.rdev_minor}, uint64_t{n.flags}, uint64_t{n.project_id}, n.content_hash}) {
      hash.add(v);
    }
    hash.add(n.btime);
    if (look != Look::kNoDirTimes || !n.is_dir()) {
      hash.add(n.size);
      hash.add(n.mtime);
      hash.add(n.ctime);
    }
    if (look == Look::kAll) hash.add(n.blocks);
    hash.add(n.xattrs);
    hash.add(n.target);
    hash.add(n.error);
  }
  return hash.h;
}

const Node* Tree::find(std::string_view path) const {
  for (const Node& n : nodes) {
    if (n.path == path) return &n;
  }
  return nullptr;
}

bool same_attributes(const Node& a, const Node& b, Look look) {
  if (a.path != b.path || a.link != b.link || a.mode != b.mode || a.nlink != b.nlink || a.uid != b.uid ||
      a.gid != b.gid || a.rdev_major != b.rdev_major || a.rdev_minor != b.rdev_minor || a.flags != b.flags ||
      a.project_id != b.project_id || a.xattrs != b.xattrs || a.target != b.target || a.error != b.error ||
      a.btime != b.btime) {
    return false;
  }
  if (look == Look::kAll && a.blocks != b.blocks) return false;
  if (look == Look::kNoDirTimes && a.is_dir()) return true;
  return a.size == b.size && a.mtime == b.mtime && a.ctime == b.ctime;
}

namespace {

std::string time_text(format::TimeStamp t) {
  return std::to_string(t.seconds % 100000) + "." + std::to_string(t.nanoseconds / 1000000);
}

std::string node_text(const Node& n) {
  char head[200];
  std::snprintf(head, sizeof head, "mode %o nlink %u owner %u:%u size %lu blocks %lu flags %x", n.mode, n.nlink,
                n.uid, n.gid, static_cast<unsigned long>(n.size), static_cast<unsigned long>(n.blocks), n.flags);
  std::string out = head;
  out += " mtime " + time_text(n.mtime) + " ctime " + time_text(n.ctime);
  out += " xattrs " + std::to_string(n.xattrs.size()) + " bytes";
  if (!n.target.empty()) out += " -> " + n.target.substr(0, 20);
  if (!n.error.empty()) out += " ERROR " + n.error;
  return out;
}

void content_difference(const Node& found, const Node& expected, std::string& out) {
  if (!found.content || !expected.content || *found.content == *expected.content) return;
  const std::string& a = *found.content;
  const std::string& b = *expected.content;
  size_t first = 0;
  while (first < std::min(a.size(), b.size()) && a[first] == b[first]) ++first;
  size_t count = 0;
  for (size_t i = first; i < std::max(a.size(), b.size()); ++i)
    count += i >= a.size() || i >= b.size() || a[i] != b[i];
  char line[160];
  std::snprintf(line, sizeof line, "    bytes differ at %zu (%zu in all): found %02x, expected %02x\n", first,
                count, first < a.size() ? static_cast<unsigned char>(a[first]) : 0,
                first < b.size() ? static_cast<unsigned char>(b[first]) : 0);
  out += line;
}

}  // namespace

std::string difference(const Tree& found, const Tree& expected, Look look) {
  std::string out;
  for (const Node& e : expected.nodes) {
    const Node* f = found.find(e.path);
    const std::string name = e.path.empty() ? "/" : e.path.substr(0, 40);
    if (f == nullptr) {
      out += "    missing " + name + "\n";
      continue;
    }
    // Links are numbered by node: all behind it move when one is missing, and that is no difference of theirs.
    Node linked_alike = *f;
    if (found.nodes[f->link].path == expected.nodes[e.link].path) linked_alike.link = e.link;
    if (!same_attributes(linked_alike, e, look)) {
      out += "    " + name + "\n      found    " + node_text(*f) + "\n      expected " + node_text(e) + "\n";
    }
    if (f->content_hash != e.content_hash) {
      out += "    " + name + ": content\n";
      content_difference(*f, e, out);
    }
  }
  for (const Node& f : found.nodes) {
    if (expected.find(f.path) == nullptr)
      out += "    not expected " + f.path.substr(0, 40) + ": " + node_text(f) + "\n";
  }
  return out;
}

}  // namespace udax::crash

// SPDX-License-Identifier: BSD-3-Clause
//
// Reading a folder into the model.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/stress/ack_writer_model.h"

namespace udax::stress {
namespace {

constexpr size_t kNamesBytesMax = 65536;

struct Failure {
  std::string text;
};

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw Failure{path + ": " + what + ": " + std::strerror(errno)};
}

std::map<std::string, std::string> read_xattrs(const std::string& path) {
  std::map<std::string, std::string> result;
  std::string names(kNamesBytesMax, '\0');
  const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) fail(path, "listxattr");
  names.resize(static_cast<size_t>(length));
  for (size_t at = 0; at < names.size(); at += std::strlen(&names[at]) + 1) {
    const char* name = &names[at];
    if (std::strncmp(name, "user.x", 6) != 0) continue;
    std::string value(kNamesBytesMax, '\0');
    const ssize_t bytes = ::lgetxattr(path.c_str(), name, value.data(), value.size());
    if (bytes < 0) fail(path, name);
    value.resize(static_cast<size_t>(bytes));
    result[name] = value;
  }
  return result;
}

Node read_node(const std::string& path, const struct stat& info) {
  Node node;
  node.mode = info.st_mode & 07777U;
  if (S_ISDIR(info.st_mode)) {
    node.type = Type::kFolder;
  } else if (S_ISLNK(info.st_mode)) {
    node.type = Type::kSymlink;
    node.mode = 0;
    node.content = std::filesystem::read_symlink(path).string();
    return node;
  } else {
    std::ifstream stream(path, std::ios::binary);
    std::ostringstream content;
    content << stream.rdbuf();
    if (!stream) {
      if (info.st_size != 0) fail(path, "read");
    }
    node.content = content.str();
    if (node.content.size() != static_cast<uint64_t>(info.st_size)) throw Failure{path + ": st_size is wrong"};
  }
  node.xattrs = read_xattrs(path);
  return node;
}

}  // namespace

std::optional<State> read_folder(const std::string& folder, std::string* why) {
  State state;
  std::map<ino_t, NodePtr> nodes;
  std::map<ino_t, std::pair<nlink_t, nlink_t>> links;  // said, found
  try {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      const std::string path = entry.path().string();
      struct stat info {};
      if (::lstat(path.c_str(), &info) != 0) fail(path, "lstat");
      NodePtr& node = nodes[info.st_ino];
      if (node == nullptr) node = std::make_shared<const Node>(read_node(path, info));
      state.names[path.substr(folder.size() + 1)] = node;
      auto& [said, found] = links[info.st_ino];
      said = info.st_nlink;
      if (S_ISDIR(info.st_mode)) {
        found += 2;
        for (const auto& child : std::filesystem::directory_iterator(path)) {
          if (!child.is_symlink() && child.is_directory()) ++found;
        }
      } else {
        ++found;
      }
    }
    for (const auto& [path, named] : state.names) {
      const auto& node = named;  // clang 14 does not capture a binding
      const auto it = std::find_if(nodes.begin(), nodes.end(), [&](const auto& n) { return n.second == node; });
      const auto& [said, found] = links[it->first];
      if (said != found) throw Failure{path + ": st_nlink is wrong"};
    }
  } catch (const Failure& failure) {
    *why = failure.text;
    return {};
  } catch (const std::filesystem::filesystem_error& error) {
    *why = error.what();
    return {};
  }
  return state;
}

}  // namespace udax::stress

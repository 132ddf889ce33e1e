// SPDX-License-Identifier: BSD-3-Clause
//
// A client that reads and writes files for the program (io_table.h). It is a connection of its own, beside the one for what the program
// maps: where others get SIGBUS, its views become memory of the process, and the board says that what was found there is not
// the file's.
#include <array>

#include "client/client.h"
#include "client/kernel.h"

namespace udax::client {

using direct::BoardSlot;
using direct::Reply;

namespace {

constexpr size_t kBoardBytes = direct::kBoardSlots * sizeof(BoardSlot);

}  // namespace

int Client::open_for_io(const udax_ioc_direct& leave, std::unique_ptr<Client>* out) {
  std::unique_ptr<Client> client(new Client);
  const LockGuard lock(client->mutex_);
  client->is_for_io_ = true;
  const int error = client->start(leave);
  if (error != 0) {
    client->close_all();
    client->forget_board();
  } else {
    *out = std::move(client);
  }
  return error;
}

int Client::take_board(const Descriptor& board) {
  if (!board) return ECONNRESET;
  void* const memory = kernel::map(0, kBoardBytes, PROT_READ, MAP_SHARED, board.get(), 0);
  if (memory == MAP_FAILED) return errno;
  board_ = static_cast<const BoardSlot*>(memory);
  return kernel::advise(kernel::to_address(memory), kBoardBytes, MADV_DONTFORK) == 0 ? 0 : errno;
}

void Client::forget_board() {
  if (board_ != nullptr) kernel::unmap(kernel::to_address(board_), kBoardBytes);
  board_ = nullptr;
}

int Client::take_on(const udax_ioc_direct& leave, bool writable, uint64_t length, IoView* out) {
  const LockGuard lock(mutex_);
  if (is_dead()) return ECONNRESET;
  auto file = std::make_shared<File>();
  file->id.writable = writable;
  files_.reserve(files_.size() + 1);
  Reply reply;
  if (const int error = open_by(leave, direct::kOpenOnBoard, file.get(), &reply); error != 0) return error;
  files_.push_back(file);
  if (reply.value[2] >= direct::kBoardSlots) {
    file.reset();
    close_unused_files();
    return ECONNRESET;
  }
  View view;
  view.prot = writable && (reply.value[1] & direct::kOpenWritable) != 0 ? PROT_READ | PROT_WRITE : PROT_READ;
  view.file = std::move(file);
  MapWish wish;
  wish.length = length;
  wish.prot = view.prot;
  const int error = map_view(wish, &view, &out->address);
  out->is_writable = (view.prot & PROT_WRITE) != 0;
  out->length = length;
  out->slot = &board_[reply.value[2]];
  view.file.reset();
  if (error != 0) close_unused_files();
  return error;
}

void Client::let_go(const IoView& view) {
  const LockGuard lock(mutex_);
  static_cast<void>(unmap_locked(view.address, view.address + view.length, false));
}

// The parent's connection is not the child's: nothing of it may be used, or kept open. What was mapped was not inherited.
void Client::abandon_in_child() {
  dead_.store(true, std::memory_order_release);
  control_.close();
  for (Descriptor* const fd : {&stream_, &life_, &fault_, &tracking_, &pool_file_, &empty_}) fd->reset();
  board_ = nullptr;
}

}  // namespace udax::client

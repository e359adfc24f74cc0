#include "common/ipc/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mgr::ipc {
namespace {

using SendResult = Channel::SendResult;
using ReceiveResult = Channel::ReceiveResult;

class Channels : public testing::Test {
 protected:
  Channels() : ends_(std::move(Channel::pair()).value()), a(ends_.first), b(ends_.second) {}

  static ino_t inode(int fd) {
    struct stat info {};
    EXPECT_EQ(::fstat(fd, &info), 0);
    return info.st_ino;
  }

  std::pair<Channel, Channel> ends_;
  Channel& a;
  Channel& b;
  Record record;
};

TEST_F(Channels, keep_the_borders_of_records_both_ways) {
  EXPECT_EQ(a.send("one"), SendResult::sent);
  EXPECT_EQ(a.send("two"), SendResult::sent);
  EXPECT_EQ(b.send("back"), SendResult::sent);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_EQ(record.text, "one");
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_EQ(record.text, "two");
  EXPECT_EQ(b.receive(record), ReceiveResult::none);
  EXPECT_EQ(record.text, "");
  EXPECT_EQ(a.receive(record, Channel::Wait::yes), ReceiveResult::received);
  EXPECT_EQ(record.text, "back");
}

TEST_F(Channels, carry_a_record_of_the_greatest_size) {
  const std::string text(kMaxRecord, 'x');
  EXPECT_EQ(a.send(text), SendResult::sent);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_EQ(record.text, text);
  EXPECT_DEATH(a.send(std::string(kMaxRecord + 1, 'x')), "CHECK failed");
}

TEST_F(Channels, carry_descriptors_in_order_and_close_on_exec) {
  std::vector<UniqueFd> files;
  std::vector<int> numbers;
  for (std::size_t i = 0; i < kMaxDescriptors; ++i) {
    files.emplace_back(::memfd_create("x", MFD_CLOEXEC));
    numbers.push_back(files.back().get());
  }
  EXPECT_EQ(a.send("take these", numbers), SendResult::sent);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  ASSERT_EQ(record.descriptors.size(), kMaxDescriptors);
  for (std::size_t i = 0; i < kMaxDescriptors; ++i) {
    EXPECT_EQ(inode(record.descriptors[i].get()), inode(numbers[i]));
    EXPECT_EQ(::fcntl(record.descriptors[i].get(), F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(a.send("none"), SendResult::sent);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_TRUE(record.descriptors.empty()) << "those of an earlier record are gone";
}

TEST_F(Channels, drop_a_record_that_is_cut) {
  const std::string text(kMaxRecord + 1, 'x');
  ASSERT_EQ(::send(a.fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(b.receive(record), ReceiveResult::bad);
  EXPECT_EQ(a.send("next"), SendResult::sent);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_EQ(record.text, "next");
}

TEST_F(Channels, tell_that_the_peer_is_gone_after_its_last_record) {
  EXPECT_EQ(a.send("last words"), SendResult::sent);
  a.close();
  EXPECT_FALSE(a.open());
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_EQ(b.receive(record), ReceiveResult::closed);
  EXPECT_EQ(b.receive(record, Channel::Wait::yes), ReceiveResult::closed);
  EXPECT_EQ(b.send("to nobody"), SendResult::closed);
}

TEST_F(Channels, never_wait_for_a_peer_that_does_not_read) {
  const std::string text(kMaxRecord, 'x');
  int sent = 0;
  SendResult result = SendResult::sent;
  while (sent < 100'000 && (result = a.send(text)) == SendResult::sent) ++sent;
  EXPECT_EQ(result, SendResult::would_block);
  EXPECT_GT(sent, 0);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
  EXPECT_EQ(a.send(text), SendResult::sent);
}

TEST_F(Channels, can_be_moved_to_another_owner) {
  Channel moved(a.release());
  EXPECT_FALSE(a.open());
  EXPECT_EQ(moved.send("x"), SendResult::sent);
  EXPECT_EQ(b.receive(record), ReceiveResult::received);
}

TEST(SealedMemfd, holds_a_text_that_nobody_can_change) {
  const std::string text(100'000, 't');
  const UniqueFd fd = std::move(sealed_memfd("traceback", text)).value();
  EXPECT_EQ(read_all(fd.get()).value(), text);
  EXPECT_EQ(read_all(fd.get()).value(), text) << "again from its start";
  EXPECT_LT(::write(fd.get(), "x", 1), 0);
  EXPECT_NE(::ftruncate(fd.get(), 0), 0);
  EXPECT_NE(::ftruncate(fd.get(), 1 << 20), 0);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0), MAP_FAILED);
}

TEST(SealedMemfd, may_be_empty) {
  const UniqueFd fd = std::move(sealed_memfd("empty", "")).value();
  EXPECT_EQ(read_all(fd.get()).value(), "");
}

TEST(ReadAll, stops_at_its_limit_and_fails_on_a_bad_descriptor) {
  const UniqueFd fd = std::move(sealed_memfd("long", std::string(100'000, 'x'))).value();
  const auto some = read_all(fd.get(), 10'000);
  ASSERT_TRUE(some.ok());
  EXPECT_EQ(some->size(), 10'000u);
  EXPECT_FALSE(read_all(-1).ok());
}

}  // namespace
}  // namespace mgr::ipc

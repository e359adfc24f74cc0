#include "common/base/result.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <memory>

#include "common/base/unique_fd.h"

namespace mgr {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error("odd");
  return number / 2;
}

TEST(Result, holds_a_value_or_an_error) {
  EXPECT_TRUE(half(4).ok());
  EXPECT_EQ(half(4).value(), 2);
  EXPECT_FALSE(half(3).ok());
  EXPECT_EQ(half(3).error().message(), "odd");
  EXPECT_EQ(half(3).error().code(), 0);
}

TEST(Result, moves_what_cannot_be_copied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  EXPECT_EQ(**result, 7);
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 7);
}

TEST(Result, of_nothing_is_success_or_an_error) {
  const Result<void> fine;
  EXPECT_TRUE(fine.ok());
  const Result<void> bad(Error("no"));
  EXPECT_EQ(bad.error().message(), "no");
}

TEST(Result, taken_for_what_it_is_not_is_a_bug) {
  EXPECT_DEATH((void)half(3).value(), "CHECK failed");
  EXPECT_DEATH((void)half(4).error(), "CHECK failed");
}

TEST(Error, names_the_object_and_gets_context_as_it_rises) {
  Error error = Error::from_errno("/etc/x", EACCES);
  EXPECT_EQ(error.message(), "/etc/x: Permission denied");
  EXPECT_EQ(error.code(), EACCES);
  EXPECT_EQ(std::move(error).with("open").message(), "open: /etc/x: Permission denied");
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(UniqueFd, closes_what_it_owns_once) {
  int number = -1;
  {
    UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    number = fd.get();
    ASSERT_TRUE(is_open(number));
    UniqueFd other(std::move(fd));
    EXPECT_FALSE(fd);
    EXPECT_EQ(other.get(), number);
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, gives_away_and_takes_anew) {
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd taken(fd.release());
  EXPECT_TRUE(is_open(taken.get()));
  fd.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = fd.get();
  fd.reset();
  EXPECT_FALSE(is_open(number));
  EXPECT_TRUE(is_open(taken.get()));
}

}  // namespace
}  // namespace mgr

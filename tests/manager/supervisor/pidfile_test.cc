#include "manager/supervisor/pidfile.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <optional>

#include "tests/fakes/temporary_directory.h"

namespace mgr::manager {
namespace {

class PidFileTest : public testing::Test {
 protected:
  std::string content() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  bool exists() const { return ::access(path_.c_str(), F_OK) == 0; }

  fakes::TemporaryDirectory directory_;
  std::string path_ = directory_.path() + "/mgr.pid";
  std::string own_ = std::to_string(::getpid()) + "\n";
};

TEST_F(PidFileTest, holds_the_number_and_goes_with_its_owner) {
  {
    const auto file = PidFile::take(path_);
    ASSERT_TRUE(file.ok()) << file.error().message();
    EXPECT_EQ(content(), own_);
  }
  EXPECT_FALSE(exists());
}

TEST_F(PidFileTest, replaces_a_stale_one_even_where_its_number_lives) {
  std::ofstream(path_) << "1\n and what else was in there";
  const auto file = PidFile::take(path_);
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_EQ(content(), own_);
}

TEST_F(PidFileTest, refuses_a_second_owner_and_names_the_first) {
  const auto first = PidFile::take(path_);
  ASSERT_TRUE(first.ok());
  const auto second = PidFile::take(path_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().message(),
            "pidfile: " + path_ + ": it runs already (pid " + std::to_string(::getpid()) + ")");
  EXPECT_EQ(content(), own_);
}

TEST_F(PidFileTest, is_free_when_its_owner_was_killed) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto file = PidFile::take(path_);
    ::_exit(file ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(content(), std::to_string(child) + "\n");
  EXPECT_TRUE(PidFile::take(path_).ok());
}

TEST_F(PidFileTest, leaves_alone_what_another_has_put_in_its_place) {
  {
    const auto file = PidFile::take(path_);
    ASSERT_TRUE(file.ok());
    ASSERT_EQ(::unlink(path_.c_str()), 0);
    std::ofstream(path_) << "4711\n";
  }
  EXPECT_EQ(content(), "4711\n");
}

TEST_F(PidFileTest, says_why_it_can_not_be_written) {
  const auto file = PidFile::take(directory_.path() + "/none/mgr.pid");
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().message(),
            "pidfile: " + directory_.path() + "/none/mgr.pid: No such file or directory");
}

}  // namespace
}  // namespace mgr::manager

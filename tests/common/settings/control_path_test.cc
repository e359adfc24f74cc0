#include "common/net/control_path.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fakes/temporary_directory.h"

namespace mgr::net {
namespace {

class ControlPath : public testing::Test {
 protected:
  ControlPath() {
    environment_.uid = ::geteuid();
    environment_.run_directory = directory_.path() + "/none/run-mgr";
    environment_.tmp_directory = directory_.path();
  }

  std::string tmp_place() const {
    return directory_.path() + "/mgr-" + std::to_string(environment_.uid);
  }
  std::string chosen() const { return *choose_control_socket("shop", environment_); }

  static mode_t mode_of(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 0777 : 0;
  }

  fakes::TemporaryDirectory directory_;
  ControlEnvironment environment_;
};

TEST_F(ControlPath, prefers_the_runtime_directory_of_the_service_manager) {
  environment_.runtime_directory = directory_.path() + ":/elsewhere";
  environment_.xdg_runtime_dir = directory_.path();
  EXPECT_EQ(chosen(), directory_.path() + "/shop.sock");
}

TEST_F(ControlPath, makes_a_private_directory_under_the_user_s_runtime_directory) {
  environment_.xdg_runtime_dir = directory_.path();
  EXPECT_EQ(chosen(), directory_.path() + "/mgr/shop.sock");
  EXPECT_EQ(mode_of(directory_.path() + "/mgr"), 0700u);
}

TEST_F(ControlPath, falls_back_to_a_private_directory_in_tmp) {
  environment_.runtime_directory = directory_.path() + "/missing";
  environment_.xdg_runtime_dir = directory_.path() + "/missing";
  EXPECT_EQ(chosen(), tmp_place() + "/shop.sock");
  EXPECT_EQ(mode_of(tmp_place()), 0700u);
}

TEST_F(ControlPath, root_has_a_place_of_its_own) {
  if (environment_.uid != 0) environment_.uid = 0;  // then the directory is not root's: passed over
  environment_.run_directory = directory_.path() + "/run-mgr";
  const bool root = ::geteuid() == 0;
  EXPECT_EQ(chosen(), root ? environment_.run_directory + "/shop.sock" : "@mgr-0-shop");
}

TEST_F(ControlPath, passes_over_a_directory_that_others_can_write) {
  ASSERT_EQ(::mkdir(tmp_place().c_str(), 0777), 0);
  ASSERT_EQ(::chmod(tmp_place().c_str(), 0777), 0);
  EXPECT_EQ(chosen(), abstract_control_name(environment_.uid, "shop"));
}

TEST_F(ControlPath, passes_over_a_link_that_somebody_put_there) {
  ASSERT_EQ(::symlink("/tmp", tmp_place().c_str()), 0);
  EXPECT_EQ(chosen(), abstract_control_name(environment_.uid, "shop"));
}

TEST_F(ControlPath, passes_over_a_directory_of_another_user) {
  environment_.uid = ::geteuid() + 1;
  ASSERT_EQ(::mkdir(tmp_place().c_str(), 0700), 0);
  EXPECT_EQ(chosen(), abstract_control_name(environment_.uid, "shop"));
}

TEST_F(ControlPath, a_name_that_fits_no_address_is_an_error) {
  EXPECT_FALSE(choose_control_socket(std::string(200, 'x'), environment_));
}

TEST_F(ControlPath, finds_sockets_in_every_place_in_order) {
  environment_.xdg_runtime_dir = directory_.path() + "/xdg";
  environment_.run_directory = directory_.path() + "/run";
  directory_.write("xdg/mgr/b.sock", "");
  directory_.write("xdg/mgr/a.sock", "");
  directory_.write("xdg/mgr/a.sock.123", "");
  directory_.write("xdg/mgr/.sock", "");
  directory_.write("run/c.sock", "");
  const std::string own = abstract_control_name(environment_.uid, "d");
  const std::string table = directory_.write(
      "unix",
      "Num       RefCount Protocol Flags    Type St Inode Path\n"
      "0: 00000002 00000000 00010000 0001 01 1 " +
          own + "\n" + "0: 00000003 00000000 00000000 0001 03 2 " + own + "-connected\n" +
          "0: 00000002 00000000 00010000 0001 01 3 @mgr-0-e\n"
          "0: 00000002 00000000 00010000 0001 01 4 @mgr-77777-f\n"
          "0: 00000002 00000000 00010000 0001 01 5 /run/other.sock\n"
          "0: 00000002 00000000 00010000 0001 01 6 @other\n"
          "0: 00000003 00000000 00000000 0001 03 7\n");

  std::vector<std::string> names;
  for (const ControlCandidate& candidate : find_control_sockets(environment_, table))
    names.push_back(candidate.name);
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b", "c", "d", "e"}));
}

TEST_F(ControlPath, finds_nothing_where_there_is_nothing) {
  EXPECT_TRUE(find_control_sockets(environment_, directory_.path() + "/missing").empty());
}

}  // namespace
}  // namespace mgr::net

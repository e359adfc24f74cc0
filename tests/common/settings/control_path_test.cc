#include "common/net/control_path.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

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

TEST_F(ControlPath, finds_the_directories_of_services_below_the_run_directory) {
  environment_.run_directory = directory_.path() + "/run";
  directory_.write("run/root-s.sock", "");
  directory_.write("run/shop/shop.sock", "");
  directory_.write("run/blog/blog.sock", "");
  for (const std::string name : {"run/a", "run/m", "run/z"}) {  // links to themselves
    const std::string path = directory_.path() + "/" + name;
    ASSERT_EQ(::symlink(path.c_str(), path.c_str()), 0);
  }
  environment_.runtime_directory = directory_.path() + "/run/shop";
  std::vector<std::string> addresses;
  for (const auto& found : find_control_sockets(environment_, directory_.path() + "/missing"))
    addresses.push_back(found.address.substr(directory_.path().size()));
  EXPECT_EQ(addresses, (std::vector<std::string>{"/run/shop/shop.sock", "/run/root-s.sock",
                                                 "/run/blog/blog.sock"}));
}

// Who is vouched for: directories of other users, which only root can make.
class Vouching : public testing::Test {
 protected:
  static constexpr uid_t kService = 65533;
  static constexpr uid_t kOther = 65532;

  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a directory to another user";
    std::string pattern = "/run/mgr-test-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
    dress("", 0, 0755);
    dress("/shop", kService, 0755);
  }
  ~Vouching() override {
    if (!path_.empty()) std::filesystem::remove_all(path_);
  }
  void dress(const std::string& name, uid_t owner, mode_t mode) {
    ::mkdir((path_ + name).c_str(), mode);
    EXPECT_EQ(::chown((path_ + name).c_str(), owner, owner), 0);
    EXPECT_EQ(::chmod((path_ + name).c_str(), mode), 0);
  }

  std::string path_;
};

TEST_F(Vouching, is_for_the_owner_of_the_directory_that_root_made) {
  EXPECT_TRUE(vouched_for(path_ + "/shop/shop.sock", kService));
  EXPECT_FALSE(vouched_for(path_ + "/shop/shop.sock", kOther));
  dress("/shop/deeper", kService, 0700);
  EXPECT_TRUE(vouched_for(path_ + "/shop/deeper/x.sock", kService));
}

TEST_F(Vouching, is_for_nobody_where_others_can_write) {
  dress("/shop", kService, 0775);
  EXPECT_FALSE(vouched_for(path_ + "/shop/shop.sock", kService));
  dress("/shop", kService, 0755);
  dress("", 0, 01777);
  EXPECT_FALSE(vouched_for(path_ + "/shop/shop.sock", kService));
}

TEST_F(Vouching, is_for_nobody_below_a_third_user) {
  dress("", kOther, 0755);
  EXPECT_FALSE(vouched_for(path_ + "/shop/shop.sock", kService));
}

TEST_F(Vouching, looks_at_where_a_link_leads) {
  dress("/tmp", 0, 01777);
  dress("/tmp/shop", kService, 0755);
  ASSERT_EQ(::symlink((path_ + "/tmp/shop").c_str(), (path_ + "/link").c_str()), 0);
  EXPECT_FALSE(vouched_for(path_ + "/link/shop.sock", kService));
}

TEST_F(Vouching, is_for_nobody_at_an_abstract_name_or_nowhere) {
  EXPECT_FALSE(vouched_for("@mgr-65533-shop", kService));
  EXPECT_FALSE(vouched_for(path_ + "/nowhere/shop.sock", kService));
}

TEST_F(ControlPath, finds_nothing_where_there_is_nothing) {
  EXPECT_TRUE(find_control_sockets(environment_, directory_.path() + "/missing").empty());
}

}  // namespace
}  // namespace mgr::net

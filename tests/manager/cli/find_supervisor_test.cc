#include "manager/cli/find_supervisor.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <filesystem>

#include "tests/fakes/control_server.h"
#include "tests/fakes/temporary_directory.h"

namespace mgr::cli {
namespace {

class FindSupervisor : public testing::Test {
 protected:
  FindSupervisor() {
    places_.control.uid = ::geteuid();
    places_.control.xdg_runtime_dir = directory_.path();
    places_.control.run_directory = directory_.path() + "/run";
    places_.control.tmp_directory = directory_.path() + "/tmp";
    places_.proc_net_unix = directory_.path() + "/unix";
    std::filesystem::create_directories(directory_.path() + "/mgr");
    std::filesystem::create_directories(directory_.path() + "/run");
  }

  std::string serve(const std::string& place) {
    const std::string address = directory_.path() + "/" + place;
    servers_.emplace_back(address, [](const std::string&) { return ""; });
    return address;
  }
  std::string found(const Target& target = {}) const {
    const Result<std::string> result = find_supervisor(target, places_);
    return result ? *result : result.error().message();
  }

  fakes::TemporaryDirectory directory_;
  Places places_;
  std::deque<fakes::ControlServer> servers_;
};

TEST_F(FindSupervisor, the_only_live_one_is_the_one) {
  directory_.write("mgr/stale.sock", "");
  const std::string address = serve("mgr/shop.sock");
  EXPECT_EQ(found(), address);
}

TEST_F(FindSupervisor, none_is_an_error) {
  EXPECT_EQ(found(), "no supervisor runs");
  directory_.write("mgr/stale.sock", "");
  EXPECT_EQ(found(), "no supervisor runs");
}

TEST_F(FindSupervisor, several_are_listed_with_what_picks_each) {
  const std::string a = serve("mgr/a.sock");
  const std::string b = serve("run/b.sock");
  const std::string second_a = serve("run/a.sock");
  EXPECT_EQ(found(), "several supervisors run; name one: -i a (" + a + "), --control " + second_a +
                         ", -i b (" + b + ")");
}

TEST_F(FindSupervisor, a_name_picks_one) {
  serve("mgr/a.sock");
  const std::string b = serve("run/b.sock");
  EXPECT_EQ(found({.instance = "b"}), b);
  EXPECT_EQ(found({.instance = "c"}).substr(0, 40), "no supervisor called 'c' runs; others: -");
}

TEST_F(FindSupervisor, the_control_flag_wins_over_everything) {
  places_.variables["MGR_CONTROL"] = "/variable";
  EXPECT_EQ(found({.control = "/flag", .instance = "x", .file = "/nowhere"}), "/flag");
}

TEST_F(FindSupervisor, the_variable_wins_over_the_file_and_the_places) {
  serve("mgr/a.sock");
  places_.variables["MGR_CONTROL"] = "/variable";
  EXPECT_EQ(found({.file = "/nowhere"}), "/variable");
  places_.variables["MGR_CONTROL"] = "off";
  EXPECT_EQ(found(), "MGR_CONTROL: control is off, so nothing can be asked");
}

TEST_F(FindSupervisor, a_file_means_its_control_or_its_name) {
  serve("mgr/a.sock");
  const std::string shop = serve("mgr/shop.sock");
  EXPECT_EQ(found({.file = directory_.write("x.yaml", "control: /c.sock\n")}), "/c.sock");
  EXPECT_EQ(found({.file = directory_.write("x.yaml", "name: shop\n")}), shop);
  EXPECT_EQ(found({.file = directory_.write("shop.yaml", "app: a\n")}), shop);
  EXPECT_EQ(found({.file = directory_.write("off.yaml", "control: off\n")}),
            directory_.path() + "/off.yaml: control is off, so nothing can be asked");
}

TEST_F(FindSupervisor, a_file_that_is_broken_now_still_names_its_supervisor) {
  serve("mgr/a.sock");
  const std::string shop = serve("mgr/shop.sock");
  EXPECT_EQ(found({.file = directory_.write("shop.yaml", "app: [\n")}), shop);
  EXPECT_EQ(found({.file = directory_.write("x.yaml", "name: shop\nworkers: many\n")}), shop);
}

TEST_F(FindSupervisor, a_file_that_has_gone_too) {
  const std::string shop = serve("mgr/shop.sock");
  EXPECT_EQ(found({.file = "/nowhere/shop.yaml"}), shop);
  EXPECT_EQ(found({.file = "/nowhere/x.yaml"}).substr(0, 76),
            "/nowhere/x.yaml: No such file or directory; no supervisor called 'x' runs; o");
}

TEST_F(FindSupervisor, abstract_sockets_are_found_too) {
  const std::string name = "find-test-" + std::to_string(::getpid());
  const std::string address = net::abstract_control_name(::geteuid(), name);
  const fakes::ControlServer server(address, [](const std::string&) { return ""; });
  places_.proc_net_unix = "/proc/net/unix";
  EXPECT_EQ(found({.instance = name}), address);
}

TEST_F(FindSupervisor, a_server_of_another_user_is_not_trusted) {
  const std::string address = serve("mgr/a.sock");
  places_.control.uid = ::geteuid() + 1;
  if (::geteuid() == 0) {
    // Root's servers are everyone's to use.
    EXPECT_TRUE(connect_supervisor(address, places_).ok());
  } else {
    EXPECT_NE(connect_supervisor(address, places_).error().message().find("neither you nor root"),
              std::string::npos);
  }
}

TEST_F(FindSupervisor, nobody_at_an_address_is_told) {
  EXPECT_EQ(connect_supervisor("/nowhere/x", places_).error().message(),
            "no supervisor answers at /nowhere/x: No such file or directory");
  EXPECT_FALSE(connect_supervisor(std::string(300, 'x'), places_));
}

}  // namespace
}  // namespace mgr::cli

#include "manager/supervisor/listeners.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

namespace mgr::manager {
namespace {

class ListenersTest : public testing::Test {
 protected:
  ListenersTest()
      : null_(::open("/dev/null", O_WRONLY)),
        log_(null_.get(), LogFormat::text, LogLevel::info, "test"),
        directory_(std::filesystem::temp_directory_path() /
                   ("mgr-listeners-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(directory_);
  }
  ~ListenersTest() override { std::filesystem::remove_all(directory_); }

  static net::BindAddress address(const std::string& text) {
    auto parsed = net::parse_bind_address(text);
    CHECK(parsed);
    return *parsed;
  }
  Result<void> open(Listeners& listeners, const std::string& text, int slots) {
    return listeners.open({address(text)}, {}, slots);
  }
  static int port_of(const Listeners& listeners, std::size_t index = 0) {
    const auto text = listeners.states().at(index).address;
    return std::stoi(text.substr(text.rfind(':') + 1));
  }
  static int port_of_free() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof in;
    CHECK(::bind(fd.get(), reinterpret_cast<sockaddr*>(&in), sizeof in) == 0);
    CHECK(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&in), &length) == 0);
    return ntohs(in.sin_port);
  }
  static UniqueFd connect_to(int port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<uint16_t>(port));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&in), sizeof in) != 0) fd.reset();
    return fd;
  }
  // Accepts everything that waits, by slot.
  static std::map<int, int> accept_all(const Listeners& listeners) {
    std::map<int, int> counts;
    for (const auto& info : listeners.sockets()) {
      for (;;) {
        const UniqueFd fd(::accept4(listeners.fd(info.id), nullptr, nullptr, SOCK_CLOEXEC));
        if (!fd) break;
        ++counts[info.slot];
      }
    }
    return counts;
  }

  UniqueFd null_;
  Log log_;
  std::filesystem::path directory_;
};

TEST_F(ListenersTest, SpreadsConnectionsOverTheActiveSlotsOnly) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 4));
  ASSERT_TRUE(listeners.start());
  const int port = port_of(listeners);
  for (const std::vector<int>& active :
       std::vector<std::vector<int>>{{0, 1, 2, 3}, {0, 1}, {1, 3}, {2}}) {
    listeners.set_active(active);
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 200; ++i) {
      clients.push_back(connect_to(port));
      ASSERT_TRUE(clients.back());
    }
    const auto counts = accept_all(listeners);
    int sum = 0;
    for (const auto& [slot, count] : counts) {
      EXPECT_NE(std::find(active.begin(), active.end(), slot), active.end()) << "slot " << slot;
      sum += count;
    }
    EXPECT_EQ(sum, 200);
    EXPECT_EQ(counts.size(), active.size());
  }
}

TEST_F(ListenersTest, AddsSlotsWhileItListens) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 1));
  ASSERT_TRUE(listeners.start());
  ASSERT_TRUE(listeners.ensure_slots(8));
  const UniqueFd before = connect_to(port_of(listeners));
  EXPECT_EQ(accept_all(listeners), (std::map<int, int>{{0, 1}}));
  listeners.set_active({7});
  const UniqueFd after = connect_to(port_of(listeners));
  EXPECT_EQ(accept_all(listeners), (std::map<int, int>{{7, 1}}));
}

TEST_F(ListenersTest, ConnectionsInheritTcpNodelayInEverySlot) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 2));
  ASSERT_EQ(listeners.sockets().size(), 2u);
  for (const auto& info : listeners.sockets()) {
    int on = 0;
    socklen_t length = sizeof on;
    ASSERT_EQ(::getsockopt(listeners.fd(info.id), IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
    EXPECT_TRUE(on);
  }
}

TEST_F(ListenersTest, AnEmptyActiveSetMeansAll) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 2));
  ASSERT_TRUE(listeners.start());
  listeners.set_active({});
  const UniqueFd client = connect_to(port_of(listeners));
  EXPECT_TRUE(client);
  EXPECT_EQ(accept_all(listeners).size(), 1u);
}

TEST_F(ListenersTest, ASecondOneOnThePortIsRefused) {
  Listeners first({}, log_);
  ASSERT_TRUE(open(first, "127.0.0.1:0", 2));
  ASSERT_TRUE(first.start());
  Listeners second({}, log_);
  const auto text = first.states().front().address;
  const auto opened = open(second, text, 2);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message(), "bind " + text + ": Address already in use");
}

TEST_F(ListenersTest, RefusesConnectionsBeforeItListens) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 1));
  EXPECT_FALSE(connect_to(port_of(listeners)));
  ASSERT_TRUE(listeners.start());
  EXPECT_TRUE(connect_to(port_of(listeners)));
}

TEST_F(ListenersTest, CountsWhatWaitsInTheQueue) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 2));
  ASSERT_TRUE(listeners.start());
  listeners.set_active({0, 1});
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(connect_to(port_of(listeners)));
  EXPECT_EQ(listeners.states().front().queued, 5);
  accept_all(listeners);
  EXPECT_EQ(listeners.states().front().queued, 0);
}

TEST_F(ListenersTest, AnEmptyHostIsBothFamiliesOnOnePort) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, ":0", 1));
  ASSERT_TRUE(listeners.start());
  for (std::size_t i = 1; i < listeners.states().size(); ++i) {
    EXPECT_EQ(port_of(listeners, i), port_of(listeners, 0));
  }
  EXPECT_TRUE(connect_to(port_of(listeners)));
}

TEST_F(ListenersTest, AUnixSocketIsSharedAndHasItsMode) {
  const std::string path = directory_ / "app.sock";
  Listeners listeners({.backlog = 16, .socket_mode = 0600, .socket_group = {}}, log_);
  ASSERT_TRUE(open(listeners, "unix:" + path, 4));
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(listeners.sockets().size(), 1u);
  EXPECT_EQ(listeners.sockets().front().slot, -1);
  EXPECT_STREQ(listeners.states().front().balance, "shared");
  listeners.close();
  EXPECT_NE(::stat(path.c_str(), &info), 0);
}

TEST_F(ListenersTest, CountsWhatWaitsInTheQueueOfAUnixSocket) {
  const std::string path = directory_ / "queue.sock";
  Listeners listeners({.backlog = 16, .socket_mode = 0600, .socket_group = {}}, log_);
  ASSERT_TRUE(open(listeners, "unix:" + path, 1));
  ASSERT_TRUE(listeners.start());
  const auto where = net::make_unix_address(path);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(clients.back().get(), where->get(), where->length), 0);
  }
  EXPECT_EQ(listeners.states().front().queued, 3);
  accept_all(listeners);
  EXPECT_EQ(listeners.states().front().queued, 0);
}

TEST_F(ListenersTest, ReplacesAStaleUnixSocketAndRefusesALiveOne) {
  const std::string path = directory_ / "app.sock";
  {
    const UniqueFd stale(::socket(AF_UNIX, SOCK_STREAM, 0));
    const auto where = net::make_unix_address(path);
    ASSERT_EQ(::bind(stale.get(), where->get(), where->length), 0);
  }
  Listeners first({}, log_);
  ASSERT_TRUE(open(first, "unix:" + path, 1));
  ASSERT_TRUE(first.start());
  Listeners second({}, log_);
  const auto opened = open(second, "unix:" + path, 1);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message(), "bind unix:" + path + ": Address already in use");
}

TEST_F(ListenersTest, NeverReplacesAFileThatIsNoSocket) {
  const std::string path = directory_ / "data";
  { const UniqueFd file(::open(path.c_str(), O_CREAT | O_WRONLY, 0600)); }
  Listeners listeners({}, log_);
  EXPECT_FALSE(open(listeners, "unix:" + path, 1));
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
}

TEST_F(ListenersTest, AnInheritedSocketIsSharedAndComesFirst) {
  Listeners owner({}, log_);
  ASSERT_TRUE(open(owner, "127.0.0.1:0", 1));
  UniqueFd copy(::fcntl(owner.fd(owner.sockets().front().id), F_DUPFD_CLOEXEC, 3));
  std::vector<UniqueFd> inherited;
  inherited.push_back(std::move(copy));
  Listeners listeners({}, log_);
  ASSERT_TRUE(listeners.open({address("unix:@mgr-test-" + std::to_string(::getpid()))},
                             std::move(inherited), 4));
  EXPECT_EQ(listeners.states().at(0).address, owner.states().at(0).address);
  EXPECT_STREQ(listeners.states().at(0).balance, "shared");
  EXPECT_EQ(listeners.sockets().size(), 2u);
}

// ---- a change of addresses

using Time = std::chrono::milliseconds;

TEST_F(ListenersTest, WhatIsPreparedRefusesConnectionsUntilItIsCommitted) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 2));
  ASSERT_TRUE(listeners.start());
  listeners.set_active({1});
  const int port = port_of_free();
  const std::string text = "127.0.0.1:" + std::to_string(port);
  ASSERT_TRUE(listeners.prepare({address("127.0.0.1:0"), address(text)}));
  EXPECT_FALSE(connect_to(port));
  EXPECT_EQ(listeners.sockets().size(), 2u) << "workers are not given them yet";
  EXPECT_EQ(listeners.states().size(), 1u);
  ASSERT_TRUE(listeners.ensure_slots(3));
  listeners.commit(Time(0));
  EXPECT_EQ(listeners.sockets().size(), 6u);
  const UniqueFd client = connect_to(port);
  EXPECT_TRUE(client);
  EXPECT_EQ(accept_all(listeners), (std::map<int, int>{{1, 1}})) << "steered as the others are";
  EXPECT_FALSE(listeners.close_left(Time(60'000)));
  EXPECT_EQ(listeners.states().size(), 2u);
}

TEST_F(ListenersTest, WhatIsAbandonedIsClosedAndNothingElse) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 2));
  ASSERT_TRUE(listeners.start());
  const std::string path = directory_ / "new.sock";
  ASSERT_TRUE(listeners.prepare({address("unix:" + path)}));
  EXPECT_TRUE(std::filesystem::exists(path));
  listeners.abandon();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(connect_to(port_of(listeners)));
  EXPECT_EQ(listeners.sockets().size(), 2u);
}

TEST_F(ListenersTest, AnAddressThatCannotBeBoundLeavesNothingPrepared) {
  Listeners stranger({}, log_);
  ASSERT_TRUE(open(stranger, "127.0.0.1:0", 1));
  ASSERT_TRUE(stranger.start());
  const std::string taken = stranger.states().front().address;
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 1));
  ASSERT_TRUE(listeners.start());
  const std::string path = directory_ / "new.sock";
  const auto prepared = listeners.prepare({address("unix:" + path), address(taken)});
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().message(), "bind " + taken + ": Address already in use");
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(listeners.states().size(), 1u);
}

TEST_F(ListenersTest, AnAddressThatLeavesTakesNoNewConnectionsAndClosesWhenItsQueueIsEmpty) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 2));
  ASSERT_TRUE(listeners.start());
  listeners.set_active({0, 1});
  const int port = port_of(listeners);
  const UniqueFd queued = connect_to(port);
  ASSERT_TRUE(listeners.prepare({address("unix:@mgr-leaves-" + std::to_string(::getpid()))}));
  listeners.commit(Time(1000));
  UniqueFd late(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(static_cast<uint16_t>(port));
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_NE(::connect(late.get(), reinterpret_cast<sockaddr*>(&in), sizeof in), 0);
  EXPECT_EQ(errno, EINPROGRESS) << "neither connected nor refused";
  EXPECT_TRUE(listeners.close_left(Time(3900)));
  EXPECT_TRUE(listeners.close_left(Time(4100))) << "something waits";
  EXPECT_EQ(accept_all(listeners).size(), 1u);
  EXPECT_FALSE(listeners.close_left(Time(4200)));
  EXPECT_EQ(listeners.sockets().size(), 1u);
  EXPECT_FALSE(connect_to(port));
}

TEST_F(ListenersTest, AnAddressDoesNotLeaveForEverWhereNobodyAccepts) {
  Listeners listeners({}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 1));
  ASSERT_TRUE(listeners.start());
  const UniqueFd queued = connect_to(port_of(listeners));
  ASSERT_TRUE(listeners.prepare({address("unix:@mgr-ever-" + std::to_string(::getpid()))}));
  listeners.commit(Time(0));
  EXPECT_TRUE(listeners.close_left(Time(29'900)));
  EXPECT_FALSE(listeners.close_left(Time(30'000)));
}

TEST_F(ListenersTest, AnAddressThatComesBackWhileItLeavesTakesConnectionsAgain) {
  Listeners listeners({}, log_);
  const int port = port_of_free();
  const std::string text = "127.0.0.1:" + std::to_string(port);
  ASSERT_TRUE(open(listeners, text, 1));
  ASSERT_TRUE(listeners.start());
  const auto other = address("unix:@mgr-back-" + std::to_string(::getpid()));
  ASSERT_TRUE(listeners.prepare({other}));
  listeners.commit(Time(0));
  ASSERT_TRUE(listeners.prepare({other, address(text)}));
  EXPECT_TRUE(listeners.close_left(Time(10'000))) << "it is wanted again";
  listeners.commit(Time(10'000));
  EXPECT_TRUE(connect_to(port));
  EXPECT_FALSE(listeners.close_left(Time(60'000)));
  EXPECT_TRUE(connect_to(port));
}

TEST_F(ListenersTest, AWiderAddressIncludesTheNarrowOneWhichStays) {
  Listeners listeners({}, log_);
  const int port = port_of_free();
  const std::string narrow = "127.0.0.1:" + std::to_string(port);
  const std::string wide = "0.0.0.0:" + std::to_string(port);
  ASSERT_TRUE(open(listeners, narrow, 2));
  ASSERT_TRUE(listeners.start());
  ASSERT_TRUE(listeners.prepare({address(wide)}));
  listeners.commit(Time(0));
  EXPECT_FALSE(listeners.close_left(Time(60'000))) << "nothing leaves";
  EXPECT_TRUE(connect_to(port));
  ASSERT_EQ(listeners.states().size(), 1u);
  EXPECT_EQ(listeners.states().front().address, wide);
  EXPECT_EQ(listeners.states().front().queued, 1);
  const auto same = listeners.prepare({address(wide), address(":" + std::to_string(port))});
  ASSERT_FALSE(same);
  EXPECT_EQ(same.error().message(),
            "bind :" + std::to_string(port) + ": " + wide + " is open already, for '" + wide + "'");
  ASSERT_TRUE(listeners.prepare({address(narrow)}));
  listeners.commit(Time(60'000));
  ASSERT_EQ(listeners.states().size(), 1u);
  EXPECT_EQ(listeners.states().front().address, narrow);
  EXPECT_EQ(listeners.states().front().queued, 1) << "what waited waits still";
  EXPECT_TRUE(listeners.close_left(Time(62'900)));
  EXPECT_FALSE(listeners.close_left(Time(63'000)));
  EXPECT_TRUE(connect_to(port));
}

TEST_F(ListenersTest, AnIncludedAddressLeavesWithTheOneThatIncludesIt) {
  Listeners listeners({}, log_);
  const int port = port_of_free();
  const auto wide = address("0.0.0.0:" + std::to_string(port));
  const auto other = address("127.0.0.1:" + std::to_string(port_of_free()));
  ASSERT_TRUE(open(listeners, "127.0.0.1:" + std::to_string(port), 2));
  ASSERT_TRUE(listeners.start());
  ASSERT_TRUE(listeners.prepare({wide}));
  listeners.commit(Time(0));
  ASSERT_TRUE(listeners.prepare({other}));
  listeners.commit(Time(0));
  EXPECT_TRUE(listeners.close_left(Time(2900)));
  ASSERT_TRUE(listeners.prepare({wide, other}));
  listeners.commit(Time(2900));
  EXPECT_FALSE(listeners.close_left(Time(60'000))) << "both have come back";
  EXPECT_TRUE(connect_to(port));
  ASSERT_TRUE(listeners.prepare({other}));
  listeners.commit(Time(60'000));
  EXPECT_TRUE(listeners.close_left(Time(62'900)));
  listeners.close_left(Time(90'000));
  EXPECT_FALSE(listeners.leaving());
  EXPECT_FALSE(connect_to(port));
}

TEST_F(ListenersTest, SharedIsOneSocketForAllWorkers) {
  Listeners listeners({.share = true}, log_);
  ASSERT_TRUE(open(listeners, "127.0.0.1:0", 4));
  ASSERT_TRUE(listeners.start());
  ASSERT_TRUE(listeners.ensure_slots(8));
  listeners.set_active({3});
  ASSERT_EQ(listeners.sockets().size(), 1u);
  EXPECT_EQ(listeners.sockets().front().slot, -1);
  EXPECT_TRUE(listeners.shared(listeners.sockets().front().id));
  EXPECT_STREQ(listeners.states().front().balance, "shared");
  EXPECT_TRUE(connect_to(port_of(listeners)));
  EXPECT_EQ(listeners.queued_on(listeners.sockets().front().id), 1);
}

TEST_F(ListenersTest, NamesADescriptorThatIsNotOpen) {
  Listeners listeners({}, log_);
  const auto opened = open(listeners, "fd://987", 1);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message(), "bind fd://987: not an open descriptor: Bad file descriptor");
}

}  // namespace
}  // namespace mgr::manager

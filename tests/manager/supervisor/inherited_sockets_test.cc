#include "manager/supervisor/inherited_sockets.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>

#include "common/base/log.h"
#include "common/net/unix_socket.h"
#include "manager/supervisor/listeners.h"

namespace mgr::manager {
namespace {

// In a child, whose descriptors from 3 on are these; what `look` returns is true.
template <typename Look>
void with_environment(const char* names, int count, Look look) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (int i = 0; i < count; ++i) ::dup2(2, 3 + i);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    if (names) ::setenv("LISTEN_FDNAMES", names, 1);
    const auto sockets = InheritedSockets::take_from_environment();
    const bool removed =
        !std::getenv("LISTEN_PID") && !std::getenv("LISTEN_FDS") && !std::getenv("LISTEN_FDNAMES");
    ::_exit(removed && look(sockets) ? 0 : 1);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(InheritedSocketsTest, are_listeners_whatever_their_name_but_admin_and_the_stored_ones) {
  with_environment("http:admin:mgr-1-0-x:", 4, [](const InheritedSockets& sockets) {
    return sockets.listeners.size() == 2 && sockets.listeners[0].get() == 3 &&
           sockets.listeners[1].get() == 6 && sockets.admin.size() == 1 &&
           sockets.admin[0].get() == 4 && sockets.stored.size() == 1 &&
           sockets.stored[0].name == "mgr-1-0-x" && sockets.stored[0].fd.get() == 5;
  });
}

TEST(InheritedSocketsTest, need_no_names) {
  with_environment(nullptr, 2, [](const InheritedSockets& sockets) {
    return sockets.listeners.size() == 2 && sockets.stored.empty();
  });
}

TEST(InheritedSocketsTest, of_another_process_are_left_alone) {
  ::setenv("LISTEN_PID", "1", 1);
  ::setenv("LISTEN_FDS", "3", 1);
  const auto sockets = InheritedSockets::take_from_environment();
  EXPECT_TRUE(sockets.listeners.empty());
  EXPECT_EQ(std::getenv("LISTEN_FDS"), nullptr);
}

// ---- what Listeners makes of the store

class StoredListenersTest : public testing::Test {
 protected:
  ~StoredListenersTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<Listeners> opened(const std::string& bind, int slots) {
    auto listeners = std::make_unique<Listeners>(options_, log_);
    listeners->set_store({[this](const std::string& name, int fd) {
                            if (room_) kept_[name] = UniqueFd(::dup(fd));
                            return room_;
                          },
                          [this](const std::string& name) { forgotten_.push_back(name); }});
    std::vector<InheritedSockets::Socket> stored;
    for (auto& [name, fd] : kept_) stored.push_back({name, UniqueFd(::dup(fd.get()))});
    std::reverse(stored.begin(), stored.end());
    listeners->offer(std::move(stored));
    const auto address = net::parse_bind_address(bind);
    CHECK(address);
    const auto done = listeners->open({*address}, {}, slots);
    EXPECT_TRUE(done.ok());
    EXPECT_TRUE(listeners->start().ok());
    return listeners;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, fd] : kept_) names.push_back(name);
    return names;
  }
  static UniqueFd connect_to(const std::string& address) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&in), sizeof in), 0);
    return fd;
  }

  // Unix sockets: "unix:/path" or "unix:@name", as in `bind`.
  std::string path() const { return directory_ / "http.sock"; }
  static UniqueFd connect_to_unix(const std::string& address) {
    const auto at = net::make_unix_address(address.substr(5));
    CHECK(at);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(fd.get(), at->get(), at->length) != 0) fd.reset();
    return fd;
  }
  static int accepted(const Listeners& listeners) {
    int count = 0;
    for (const auto& socket : listeners.sockets()) {
      while (UniqueFd(::accept4(listeners.fd(socket.id), nullptr, nullptr, SOCK_CLOEXEC))) ++count;
    }
    return count;
  }
  unsigned mode_of_path() const {
    struct stat info {};
    return ::stat(path().c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }

  Log log_{2, LogFormat::text, LogLevel::error, "test"};
  std::filesystem::path directory_ = [] {
    std::string name = std::filesystem::temp_directory_path() / "mgr-stored-XXXXXX";
    CHECK(::mkdtemp(name.data()));
    return name;
  }();
  Listeners::Options options_;
  bool room_ = true;  // in the store
  std::map<std::string, UniqueFd> kept_;
  std::vector<std::string> forgotten_;
};

TEST_F(StoredListenersTest, names_say_slot_and_address) {
  opened("127.0.0.1:0", 2);
  EXPECT_EQ(names(), (std::vector<std::string>{"mgr-0-0-127.0.0.1%3A0", "mgr-1-0-127.0.0.1%3A0"}));
}

TEST_F(StoredListenersTest, come_back_as_the_slots_that_they_were_with_what_waits_in_them) {
  std::vector<UniqueFd> clients;
  std::string address;
  {
    const auto before = opened("127.0.0.1:0", 3);
    address = before->states().at(0).address;
    before->set_active({2});
    clients.push_back(connect_to(address));
  }
  clients.push_back(connect_to(address));  // while nobody runs
  const auto after = opened("127.0.0.1:0", 3);
  EXPECT_EQ(after->states().at(0).address, address);
  EXPECT_EQ(after->states().at(0).queued, 2);
  EXPECT_EQ(forgotten_, std::vector<std::string>());
  const auto& sockets = after->sockets();
  ASSERT_EQ(sockets.size(), 3u);
  for (const auto& socket : sockets) {
    int accepted = 0;
    while (UniqueFd(::accept4(after->fd(socket.id), nullptr, nullptr, SOCK_CLOEXEC))) ++accepted;
    EXPECT_EQ(accepted > 0, socket.slot == 2) << socket.slot;
  }
  for (int slot = 0; slot < 3; ++slot) {
    after->set_active({slot});
    clients.push_back(connect_to(address));
    const auto id = sockets.at(static_cast<std::size_t>(slot)).id;
    EXPECT_TRUE(UniqueFd(::accept4(after->fd(id), nullptr, nullptr, SOCK_CLOEXEC)));
  }
}

TEST_F(StoredListenersTest, more_slots_than_before_get_siblings_and_fewer_leave_parked_ones) {
  opened("127.0.0.1:0", 2);
  EXPECT_EQ(opened("127.0.0.1:0", 4)->sockets().size(), 4u);
  EXPECT_EQ(opened("127.0.0.1:0", 1)->sockets().size(), 4u);
}

TEST_F(StoredListenersTest, what_bind_does_not_name_is_forgotten) {
  opened("127.0.0.1:0", 2);
  opened("127.0.0.2:0", 1);
  std::sort(forgotten_.begin(), forgotten_.end());
  EXPECT_EQ(forgotten_,
            (std::vector<std::string>{"mgr-0-0-127.0.0.1%3A0", "mgr-1-0-127.0.0.1%3A0"}));
}

TEST_F(StoredListenersTest, names_that_are_none_of_ours_and_gaps_are_forgotten) {
  opened("127.0.0.1:0", 3);
  kept_.erase("mgr-1-0-127.0.0.1%3A0");
  kept_["mgr-x"] = UniqueFd(::dup(2));
  const auto after = opened("127.0.0.1:0", 2);
  EXPECT_EQ(after->sockets().size(), 2u);
  EXPECT_EQ(forgotten_, (std::vector<std::string>{"mgr-x", "mgr-2-0-127.0.0.1%3A0"}));
}

TEST_F(StoredListenersTest, unix_sockets_come_back_with_what_waits_in_them) {
  for (const std::string& bind :
       {"unix:" + path(), fmt::format("unix:@mgr-stored-test-{}", ::getpid())}) {
    std::vector<UniqueFd> clients;
    {
      const auto before = opened(bind, 2);
      clients.push_back(connect_to_unix(bind));
    }
    clients.push_back(connect_to_unix(bind));  // while nobody runs
    ASSERT_TRUE(clients.back()) << bind;
    const auto after = opened(bind, 3);
    EXPECT_EQ(after->sockets().size(), 1u);
    EXPECT_EQ(after->states().at(0).queued, 2);
    EXPECT_EQ(accepted(*after), 2);
    EXPECT_EQ(forgotten_, std::vector<std::string>());
    kept_.clear();
  }
}

TEST_F(StoredListenersTest, a_path_that_comes_back_has_the_mode_of_the_new_settings) {
  opened("unix:" + path(), 1);
  EXPECT_EQ(mode_of_path(), 0660u);
  options_.socket_mode = 0600;
  const auto after = opened("unix:" + path(), 1);
  EXPECT_EQ(mode_of_path(), 0600u);
}

TEST_F(StoredListenersTest, a_path_that_is_not_stored_is_removed_at_the_end) {
  room_ = false;
  opened("unix:" + path(), 1);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(StoredListenersTest, a_socket_whose_path_is_gone_is_bound_anew) {
  for (const bool replaced : {false, true}) {
    opened("unix:" + path(), 1);
    std::filesystem::remove(path());
    // By one that nobody has any more.
    if (replaced) {
      ASSERT_TRUE(net::bind_unix_socket(path(), {}).ok());
    }
    const auto after = opened("unix:" + path(), 1);
    const auto client = connect_to_unix("unix:" + path());
    EXPECT_EQ(accepted(*after), 1) << replaced;
    EXPECT_EQ(forgotten_.size(), 1u);
    forgotten_.clear();
    kept_.clear();
  }
}

TEST_F(StoredListenersTest, a_unix_socket_that_bind_does_not_name_refuses_and_its_path_is_gone) {
  opened("unix:" + path(), 1);
  const std::string name = kept_.begin()->first;
  ASSERT_TRUE(connect_to_unix("unix:" + path()));
  const std::string second = path() + ".2";
  std::filesystem::create_hard_link(path(), second);
  opened("127.0.0.1:0", 1);
  EXPECT_EQ(forgotten_, std::vector<std::string>{name});
  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_FALSE(connect_to_unix("unix:" + second));
  EXPECT_EQ(errno, ECONNREFUSED);
}

}  // namespace
}  // namespace mgr::manager

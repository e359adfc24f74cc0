#include "manager/supervisor/notify.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "common/ipc/channel.h"
#include "tests/fakes/temporary_directory.h"
#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

using State = ServiceReport::State;

// The service manager's end of $NOTIFY_SOCKET.
class Listener {
 public:
  explicit Listener(const std::string& address)
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const auto target = net::make_unix_address(address).value();
    EXPECT_EQ(::bind(socket_.get(), target.get(), target.length), 0);
  }
  // The next message; empty: none has come.
  std::string next() {
    std::string text(4096, '\0');
    const ssize_t n = ::recv(socket_.get(), text.data(), text.size(), 0);
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
  }
  std::string wait() {
    pollfd poll{socket_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&poll, 1, 5000), 1);
    return next();
  }

 private:
  UniqueFd socket_;
};

class NotifierTest : public testing::Test {
 protected:
  NotifierTest()
      : log_file_(::memfd_create("log", MFD_CLOEXEC)),
        log_(log_file_.get(), LogFormat::text, LogLevel::info, "test") {}

  std::string address() const { return directory_.path() + "/notify"; }
  std::string logged() { return ipc::read_all(log_file_.get()).value(); }

  fakes::TemporaryDirectory directory_;
  UniqueFd log_file_;
  Log log_;
  EventLoop loop_;
};

const std::string kReady = "READY=1\nMAINPID=" + std::to_string(::getpid()) + "\n";

TEST_F(NotifierTest, says_what_has_changed_and_nothing_twice) {
  Listener manager(address());
  Notifier notifier(loop_, {.socket = address()}, log_);
  notifier.tell({State::starting, "starting", Millis(182'000)});
  EXPECT_EQ(manager.next(), "EXTEND_TIMEOUT_USEC=182000000\nSTATUS=starting");
  notifier.tell({State::ready, "2 workers, generation 1"});
  EXPECT_EQ(manager.next(), kReady + "STATUS=2 workers, generation 1");
  notifier.tell({State::ready, "2 workers, generation 1"});
  EXPECT_EQ(manager.next(), "");
  notifier.tell({State::ready, "3 workers, generation 1"});
  EXPECT_EQ(manager.next(), "STATUS=3 workers, generation 1");
  notifier.tell({State::reloading, "3 workers, generation 1; reloading"});
  EXPECT_EQ(manager.next().substr(0, 26), "RELOADING=1\nMONOTONIC_USEC");
  notifier.tell({State::ready, "3 workers, generation 1; reloading"});
  EXPECT_EQ(manager.next(), kReady);
}

TEST_F(NotifierTest, says_nothing_more_after_the_stop) {
  Listener manager(address());
  Notifier notifier(loop_, {.socket = address()}, log_);
  notifier.tell({State::stopping, "cannot start: import: no module 'x'", Millis(36'000)});
  EXPECT_EQ(manager.next(),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=36000000\nSTATUS=cannot start: import: no module 'x'");
  notifier.tell({State::stopping, "stopping"});
  notifier.tell({State::ready, ""});
  EXPECT_EQ(manager.next(), "");
}

TEST_F(NotifierTest, a_line_break_in_an_error_is_no_second_assignment) {
  Listener manager(address());
  Notifier notifier(loop_, {.socket = address()}, log_);
  notifier.tell({State::starting, "import: a\nMAINPID=1\r\nREADY=1"});
  EXPECT_EQ(manager.next(), "STATUS=import: a MAINPID=1  READY=1");
}

TEST_F(NotifierTest, a_long_status_is_cut_between_characters) {
  Listener manager(address());
  Notifier notifier(loop_, {.socket = address()}, log_);
  std::string text = "x";
  for (int i = 0; i < 300; ++i) text += "é";
  notifier.tell({State::starting, text});
  EXPECT_EQ(manager.next(), "STATUS=" + text.substr(0, 399) + " …");
}

TEST_F(NotifierTest, an_abstract_socket_is_one_too) {
  const std::string name = "@notify-test-" + std::to_string(::getpid());
  Listener manager(name);
  Notifier notifier(loop_, {.socket = name}, log_);
  notifier.tell({State::starting, "x"});
  EXPECT_EQ(manager.next(), "STATUS=x");
}

TEST_F(NotifierTest, what_a_busy_service_manager_does_not_take_is_sent_later_in_order) {
  Listener manager(address());
  Notifier notifier(loop_, {.socket = address()}, log_);
  // The queue of a datagram socket is net.unix.max_dgram_qlen long, at most some hundreds.
  int told = 0;
  const UniqueFd filler(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto target = net::make_unix_address(address()).value();
  while (::sendto(filler.get(), "F", 1, MSG_DONTWAIT, target.get(), target.length) == 1) ++told;
  ASSERT_EQ(errno, EAGAIN);
  notifier.tell({State::ready, "a"});
  notifier.tell({State::reloading, "a"});
  notifier.tell({State::ready, "a"});
  while (told-- > 0) EXPECT_EQ(manager.next(), "F");
  EXPECT_EQ(manager.next(), "");
  std::vector<std::string> came;
  Timer look(loop_, [&] {
    for (std::string text; !(text = manager.next()).empty();) came.push_back(text);
    if (came.size() == 3) loop_.stop();
  });
  look.start_repeating(Millis(5));
  loop_.run();
  EXPECT_EQ(came[0], kReady + "STATUS=a");
  EXPECT_EQ(came[1].substr(0, 11), "RELOADING=1");
  EXPECT_EQ(came[2], kReady);
  EXPECT_EQ(logged(), "");
}

TEST_F(NotifierTest, a_socket_where_nobody_is_costs_one_warning) {
  Notifier notifier(loop_, {.socket = address()}, log_);
  notifier.tell({State::starting, "a"});
  notifier.tell({State::ready, "b"});
  const std::string text = logged();
  EXPECT_NE(text.find("[warning] the service manager could not be notified: No such file"),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find('\n'), text.size() - 1);
}

TEST_F(NotifierTest, an_address_of_another_kind_is_told_and_left_alone) {
  Notifier notifier(loop_, {.socket = "vsock:2:1234"}, log_);
  notifier.tell({State::starting, "a"});
  EXPECT_NE(logged().find("NOTIFY_SOCKET: 'vsock:2:1234' is no path and no abstract socket"),
            std::string::npos);
}

TEST_F(NotifierTest, shows_that_the_loop_turns_twice_in_each_period_of_the_watchdog) {
  Listener manager(address());
  Notifier notifier(loop_, {.socket = address(), .watchdog = std::chrono::milliseconds(100)}, log_);
  const Millis began = loop_.now();
  int count = 0;
  Timer look(loop_, [&] {
    for (std::string text; !(text = manager.next()).empty(); ++count) {
      EXPECT_EQ(text, "WATCHDOG=1\n");
    }
    if (count >= 3) loop_.stop();
  });
  look.start_repeating(Millis(5));
  loop_.run();
  EXPECT_GE(loop_.now() - began, Millis(140));
}

class NotifyEnvironment : public testing::Test {
 protected:
  ~NotifyEnvironment() override { (void)NotifyOptions::take_from_environment(); }
  static NotifyOptions taken(const char* socket, const std::string& usec, const std::string& pid) {
    ::setenv("NOTIFY_SOCKET", socket, 1);
    ::setenv("WATCHDOG_USEC", usec.c_str(), 1);
    ::setenv("WATCHDOG_PID", pid.c_str(), 1);
    return NotifyOptions::take_from_environment();
  }
};

TEST_F(NotifyEnvironment, is_taken_so_that_no_child_inherits_it) {
  const NotifyOptions options = taken("/run/x", "30000000", std::to_string(::getpid()));
  EXPECT_EQ(options.socket, "/run/x");
  EXPECT_EQ(options.watchdog, std::chrono::seconds(30));
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    EXPECT_EQ(std::getenv(name), nullptr) << name;
  }
}

TEST_F(NotifyEnvironment, a_watchdog_of_another_process_or_no_number_is_none) {
  EXPECT_EQ(taken("/run/x", "30000000", "1").watchdog.count(), 0);
  EXPECT_EQ(taken("/run/x", "often", "").watchdog.count(), 0);
  EXPECT_EQ(taken("/run/x", "-5", "").watchdog.count(), 0);
}

// ---- the descriptor store

class StoreTest : public NotifierTest {
 protected:
  // The next message, and the inode of what came with it.
  static std::pair<std::string, ino_t> receive(int socket) {
    char text[512];
    iovec part{text, sizeof text};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return {"", 0};
    ino_t inode = 0;
    if (const cmsghdr* rights = CMSG_FIRSTHDR(&header)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
      inode = inode_of(fd);
      ::close(fd);
    }
    return {std::string(text, static_cast<std::size_t>(n)), inode};
  }
  static ino_t inode_of(int fd) {
    struct stat info {};
    EXPECT_EQ(::fstat(fd, &info), 0);
    return info.st_ino;
  }

  StoreTest() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const auto target = net::make_unix_address(address()).value();
    EXPECT_EQ(::bind(socket_.get(), target.get(), target.length), 0);
  }

  UniqueFd socket_;
};

TEST_F(StoreTest, gets_each_descriptor_once_by_its_name) {
  Notifier notifier(loop_, {.socket = address(), .store = 2}, log_);
  notifier.keep("mgr-0-0-a", log_file_.get());
  EXPECT_EQ(
      receive(socket_.get()),
      std::pair(std::string("FDSTORE=1\nFDPOLL=0\nFDNAME=mgr-0-0-a\n"), inode_of(log_file_.get())));
  notifier.keep("mgr-0-0-a", log_file_.get());
  EXPECT_EQ(receive(socket_.get()).first, "");
  notifier.forget("mgr-0-0-a");
  EXPECT_EQ(receive(socket_.get()).first, "FDSTOREREMOVE=1\nFDNAME=mgr-0-0-a\n");
  notifier.keep("mgr-0-0-a", log_file_.get());
  EXPECT_NE(receive(socket_.get()).second, ino_t{0});
}

TEST_F(StoreTest, that_is_full_gets_no_more_and_is_named_once) {
  Notifier notifier(loop_, {.socket = address(), .store = 1}, log_);
  for (const char* name : {"a", "b", "c"}) notifier.keep(name, log_file_.get());
  EXPECT_NE(receive(socket_.get()).first, "");
  EXPECT_EQ(receive(socket_.get()).first, "");
  EXPECT_EQ(logged().find("keeps no more than 1 descriptors"),
            logged().rfind("keeps no more than 1 descriptors"));
  EXPECT_NE(logged().find("FileDescriptorStoreMax"), std::string::npos);
}

TEST_F(StoreTest, that_is_none_is_not_spoken_to) {
  Notifier notifier(loop_, {.socket = address()}, log_);
  notifier.keep("a", log_file_.get());
  notifier.forget("a");
  EXPECT_EQ(receive(socket_.get()).first, "");
  EXPECT_EQ(logged(), "");
}

TEST_F(StoreTest, loses_nothing_while_nobody_reads) {
  Notifier notifier(loop_, {.socket = address(), .store = 500}, log_);
  Timer turning(loop_, [] {});
  turning.start_repeating(Millis(1));
  for (int i = 0; i < 100; ++i) {
    notifier.keep("name" + std::to_string(i), log_file_.get());
    notifier.tell({State::ready, std::to_string(i)});
  }
  int kept = 0;
  for (int i = 0; i < 5000 && kept < 100; ++i) {
    const auto [text, inode] = receive(socket_.get());
    if (inode != 0) ++kept;
    if (text.empty()) {
      ::usleep(1000);
      loop_.run_nowait();
    }
  }
  EXPECT_EQ(kept, 100);
}

TEST(NotifyOptionsTest, the_size_of_the_store_is_taken_from_the_environment) {
  ::setenv("FDSTORE", "12", 1);
  EXPECT_EQ(NotifyOptions::take_from_environment().store, 12);
  EXPECT_EQ(std::getenv("FDSTORE"), nullptr);
  ::setenv("FDSTORE", "many", 1);
  EXPECT_EQ(NotifyOptions::take_from_environment().store, 0);
}

// What a life cycle is told as.
class Reports : public LifecycleTest {
 protected:
  // The state that is reported while the settings are read.
  State state_while_reloading() {
    State seen = State::starting;
    life_->reload(
        [&]() -> Result<Lifecycle::Prepared> {
          seen = report().state;
          if (bad_configuration_) return Error("mgr.yaml:3: keep_alive: …");
          return Lifecycle::Prepared{std::make_shared<const Settings>(settings_), {}, {}};
        },
        [](const Outcome&) {});
    return seen;
  }
  ServiceReport report() const { return service_report(*life_); }
};

TEST_F(Reports, ready_comes_with_the_last_worker_of_the_first_start) {
  start(2);
  EXPECT_EQ(report().state, State::starting);
  EXPECT_EQ(report().patience, 3 * Millis(60'000) + kLeaveTime);
  load_mold();
  boot_one();
  EXPECT_EQ(report().state, State::starting);
  boot_one();
  EXPECT_EQ(report().state, State::ready);
  EXPECT_EQ(report().status, "2 workers, generation 1");
  EXPECT_EQ(report().patience, Millis(0));
}

TEST_F(Reports, a_worker_that_died_is_missing_in_the_status) {
  start_ready(2);
  dies(current(0).id, kKilled);
  EXPECT_EQ(report().state, State::ready);
  EXPECT_EQ(report().status, "1 of 2 workers, generation 1");
}

TEST_F(Reports, a_reload_that_is_rolled_back_is_ready_again_and_says_why) {
  start_ready(2);
  EXPECT_EQ(state_while_reloading(), State::reloading);
  EXPECT_EQ(report().state, State::reloading);
  EXPECT_EQ(report().status, "2 workers, generation 1; reloading");
  fail_mold("import", "no module 'x'");
  EXPECT_EQ(report().state, State::ready);
  EXPECT_EQ(report().status,
            "2 workers, generation 1; last reload rolled back: import: no module 'x'");
}

TEST_F(Reports, a_refused_reload_is_a_reload_too) {
  start_ready(2);
  bad_configuration_ = true;
  EXPECT_EQ(state_while_reloading(), State::reloading);
  EXPECT_EQ(report().state, State::ready);
  EXPECT_EQ(
      report().status,
      "2 workers, generation 1; last reload refused: configuration: mgr.yaml:3: keep_alive: …");
}

TEST_F(Reports, a_first_start_that_failed_is_a_stop_that_says_why) {
  start(2);
  std::vector<ServiceReport> seen;
  life_->set_observer([&] { seen.push_back(report()); });
  fail_mold("import", "no module 'x'");
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.front().state, State::stopping);
  EXPECT_EQ(seen.front().status.substr(0, 36), "cannot start: import: no module 'x';");
}

TEST_F(Reports, a_stop_asks_for_the_time_that_the_settings_give_it) {
  start_ready(2);
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(report().state, State::stopping);
  EXPECT_EQ(report().patience, Millis(30'000) + kCutTime + 2 * kLeaveTime);
}

}  // namespace
}  // namespace mgr::manager

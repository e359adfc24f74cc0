#include "common/ipc/messages.h"

#include <gtest/gtest.h>

#include "common/ipc/channel.h"

namespace mgr::ipc {
namespace {

template <typename T>
T mold_round_trip(const T& message) {
  const auto decoded = decode_mold_message(encode(MoldMessage(message)));
  EXPECT_TRUE(decoded.ok());
  return std::get<T>(decoded.value());
}
template <typename T>
T worker_round_trip(const T& message) {
  const auto decoded = decode_worker_message(encode(WorkerMessage(message)));
  EXPECT_TRUE(decoded.ok());
  return std::get<T>(decoded.value());
}
template <typename T>
T command_round_trip(const T& message) {
  const auto decoded = decode_worker_command(encode(WorkerCommand(message)));
  EXPECT_TRUE(decoded.ok());
  return std::get<T>(decoded.value());
}

TEST(Messages, of_molds_arrive_as_they_were_sent) {
  const Loaded loaded = mold_round_trip(
      Loaded{"/usr/bin/python3", "3.11.2", "asgi", 123, {"thread 'x'", "epoll descriptor 9"}});
  EXPECT_EQ(loaded.interpreter, "/usr/bin/python3");
  EXPECT_EQ(loaded.python, "3.11.2");
  EXPECT_EQ(loaded.interface, "asgi");
  EXPECT_EQ(loaded.duration_ms, 123);
  EXPECT_EQ(loaded.left_open, (std::vector<std::string>{"thread 'x'", "epoll descriptor 9"}));
  const LoadFailed failed = mold_round_trip(LoadFailed{"import", "No module named 'x'", 4});
  EXPECT_EQ(failed.stage, "import");
  EXPECT_EQ(failed.error, "No module named 'x'");
  EXPECT_EQ(failed.exit_status, 4);
  const Forked forked = mold_round_trip(Forked{1ull << 40, 4711});
  EXPECT_EQ(forked.worker, 1ull << 40);
  EXPECT_EQ(forked.pid, 4711);
  EXPECT_EQ(mold_round_trip(ForkFailed{7, "EAGAIN"}).error, "EAGAIN");
  const auto fork = decode_mold_command(encode(MoldCommand(Fork{9, 3, 5, 100})));
  EXPECT_EQ(std::get<Fork>(fork.value()).worker, 9u);
  EXPECT_EQ(std::get<Fork>(fork.value()).slot, 3);
  EXPECT_EQ(std::get<Fork>(fork.value()).record, 5);
  EXPECT_EQ(std::get<Fork>(fork.value()).max_requests, 100u);
  const auto older =
      decode_mold_command(R"({"v": 1, "type": "fork", "worker": 9, "slot": 3, "record": 5})");
  EXPECT_EQ(std::get<Fork>(older.value()).max_requests, 0u);
}

TEST(Messages, of_workers_arrive_as_they_were_sent) {
  EXPECT_EQ(worker_round_trip(Ready{"asgi2"}).interface, "asgi2");
  const BootFailed failed = worker_round_trip(BootFailed{"lifespan", "startup failed", 3});
  EXPECT_EQ(failed.stage, "lifespan");
  EXPECT_EQ(failed.exit_status, 3);
  (void)worker_round_trip(StoppedAccepting{});
  (void)worker_round_trip(LastWords{});
  (void)mold_round_trip(LastWords{});
  EXPECT_EQ(mold_round_trip(Executes{"/usr/bin/python3"}).interpreter, "/usr/bin/python3");
  EXPECT_EQ(worker_round_trip(Stuck{4}).threads, 4);
  (void)worker_round_trip(Spent{});
}

TEST(Messages, of_log_files_and_levels_go_to_molds_and_workers) {
  const Reopen reopen = command_round_trip(Reopen{7, true, false});
  EXPECT_EQ(reopen.serial, 7u);
  EXPECT_TRUE(reopen.log);
  EXPECT_FALSE(reopen.access_log);
  const auto to_mold = decode_mold_command(encode(MoldCommand(Reopen{8, false, true})));
  EXPECT_EQ(std::get<Reopen>(to_mold.value()).serial, 8u);
  EXPECT_TRUE(std::get<Reopen>(to_mold.value()).access_log);
  EXPECT_EQ(worker_round_trip(Reopened{9}).serial, 9u);
  EXPECT_EQ(mold_round_trip(Reopened{9}).serial, 9u);
  for (const LogLevel level : {LogLevel::debug, LogLevel::error}) {
    EXPECT_EQ(command_round_trip(SetLogLevel{level}).level, level);
  }
  for (const char* level : {"-1", "4", "\"info\""}) {
    const std::string text =
        std::string(R"({"v": 1, "type": "set_log_level", "level": )") + level + "}";
    EXPECT_FALSE(decode_worker_command(text).ok()) << level;
    EXPECT_FALSE(decode_mold_command(text).ok()) << level;
  }
}

TEST(Messages, to_workers_arrive_as_they_were_sent) {
  const Listen listen =
      command_round_trip(Listen{{{1, "127.0.0.1:80", false}, {2, "unix:/run/ä.sock", true}}});
  ASSERT_EQ(listen.entries.size(), 2u);
  EXPECT_EQ(listen.entries[0].id, 1u);
  EXPECT_FALSE(listen.entries[0].shared);
  EXPECT_EQ(listen.entries[1].address, "unix:/run/ä.sock");
  EXPECT_TRUE(listen.entries[1].shared);
  EXPECT_EQ(command_round_trip(Release{{4, 5}}).ids, (std::vector<std::uint64_t>{4, 5}));
  const Drain drain = command_round_trip(Drain{true, 1500});
  EXPECT_TRUE(drain.last);
  EXPECT_EQ(drain.timeout_ms, 1500);
  (void)command_round_trip(Hold{});
  (void)command_round_trip(Quit{});
  (void)command_round_trip(TryAccept{});
  (void)command_round_trip(CloseAfterResponse{});
  (void)command_round_trip(KeepAfterResponse{});
}

TEST(Messages, carry_the_order_of_a_mold) {
  MoldOrder order;
  order.generation = 7;
  order.load = false;
  order.check_only = true;
  order.settings = {{"app", "main:app"}, {"bind", {"127.0.0.1:80"}}};
  const auto decoded = decode_mold_order(encode(order));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->generation, 7);
  EXPECT_FALSE(decoded->load);
  EXPECT_TRUE(decoded->check_only);
  EXPECT_EQ(decoded->settings, order.settings);
  EXPECT_FALSE(decode_mold_order("[]").ok());
  EXPECT_FALSE(decode_mold_order(R"({"v": 2})").ok());
}

// What applications put into their errors must not end the process that reports it.
TEST(Messages, with_texts_of_any_length_and_bytes_fit_a_record) {
  for (const std::string& piece : {std::string("x"), std::string("\x01"), std::string("\""),
                                   std::string("\xff"), std::string("ä"), std::string("\xe2")}) {
    std::string text;
    while (text.size() < 10'000) text += piece;
    EXPECT_LE(encode(WorkerMessage(BootFailed{"import", text, 4})).size(), kMaxRecord);
    EXPECT_LE(encode(MoldMessage(LoadFailed{"import", text, 4})).size(), kMaxRecord);
    EXPECT_LE(encode(MoldMessage(ForkFailed{1, text})).size(), kMaxRecord);
    const std::string loaded =
        encode(MoldMessage(Loaded{text, text, "asgi", 1, std::vector<std::string>(50, text)}));
    EXPECT_LE(loaded.size(), kMaxRecord);
    EXPECT_TRUE(decode_mold_message(loaded).ok());
  }
}

TEST(Messages, that_are_cut_keep_their_beginning) {
  const auto decoded =
      decode_worker_message(encode(WorkerMessage(BootFailed{"import", std::string(5000, 'x'), 4})));
  const std::string& error = std::get<BootFailed>(decoded.value()).error;
  EXPECT_TRUE(error.starts_with("xxxxxxxx"));
  EXPECT_TRUE(error.ends_with("…"));
  EXPECT_GE(error.size(), 500u);
}

TEST(Messages, that_are_none_are_errors) {
  for (const char* text : {"", "x", "[]", "{}", "1", R"({"v": 1})", R"({"v": 2, "type": "ready"})",
                           R"({"v": 1, "type": "tea"})", R"({"v": 1, "type": "ready"})",
                           R"({"v": 1, "type": "ready", "interface": 3})",
                           R"({"v": "1", "type": "stopped_accepting"})",
                           R"({"v": 1, "type": "drain", "last": true})"}) {
    EXPECT_FALSE(decode_worker_message(text).ok()) << text;
    EXPECT_FALSE(decode_worker_command(text).ok()) << text;
    EXPECT_FALSE(decode_mold_message(text).ok()) << text;
    EXPECT_FALSE(decode_mold_command(text).ok()) << text;
  }
  EXPECT_NE(
      decode_worker_message(R"({"v": 9, "type": "ready"})").error().message().find("version 9"),
      std::string::npos);
}

}  // namespace
}  // namespace mgr::ipc

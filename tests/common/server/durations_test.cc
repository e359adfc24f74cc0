#include "tests/common/server/holding.h"

namespace mgr::server {
namespace {

// A server whose loop keeps account of its turns, as a worker's does.
class Durations : public HoldingTest {
 protected:
  void keep_account() {
    waits_.emplace(
        loop, [this] { ipc::end_run(counters, ipc::monotonic_ns()); },
        [this] { ipc::begin_run(counters, ipc::monotonic_ns()); });
  }
  std::uint64_t counted() const {
    std::uint64_t sum = 0;
    for (const auto& bucket : counters.durations) sum += bucket.load();
    return sum;
  }
  milliseconds sum() const { return milliseconds(counters.duration_sum_ns.load() / 1'000'000); }

 private:
  std::optional<WaitWatcher> waits_;
};

TEST_F(Durations, run_from_the_request_to_the_end_of_the_response) {
  keep_account();
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  turn_for(milliseconds(60));
  EXPECT_EQ(counted(), 0u);
  answer(exchange, 200, "late");
  client.response();
  EXPECT_EQ(counted(), 1u);
  EXPECT_EQ(counters.durations[5].load() + counters.durations[6].load(), 0u) << "at most 50 ms";
  EXPECT_GE(sum(), milliseconds(60));
  EXPECT_LT(sum(), milliseconds(5000));
}

TEST_F(Durations, of_requests_on_one_connection_are_their_own) {
  keep_account();
  start();
  Client client = connect();
  for (int i = 0; i < 3; ++i) {
    turn_for(milliseconds(20));
    client.send(kGet);
    client.response();
  }
  EXPECT_EQ(counted(), 3u);
  EXPECT_LT(sum(), milliseconds(60)) << "the pauses between them count for nothing";
}

TEST_F(Durations, are_counted_once_however_a_request_ends) {
  keep_account();
  ServerOptions options;
  options.limit_body = 10;
  start(options);
  Client lost = connect();
  Exchange& of_lost = hold(lost);
  lost.reset();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  of_lost.release();
  EXPECT_EQ(counted(), 1u);

  Client aborted = connect();
  hold(aborted).release();
  EXPECT_EQ(aborted.response().status, 500);
  EXPECT_EQ(counted(), 2u);

  Client broken = connect();
  Exchange& of_broken =
      hold(broken, "POST /later HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  broken.send("b\r\nelevenbytes\r\n");
  EXPECT_EQ(broken.response().status, 413);
  of_broken.release();
  EXPECT_EQ(counted(), 3u);
  EXPECT_EQ(requests(0) + requests(4) + requests(5), 3u);
}

TEST_F(Durations, of_refused_heads_are_unknown) {
  keep_account();
  start();
  EXPECT_EQ(status_of("nonsense\r\n\r\n"), 400);
  EXPECT_EQ(requests(4), 1u);
  EXPECT_EQ(counted(), 0u);
}

TEST_F(Durations, are_not_counted_where_nobody_keeps_account_of_turns) {
  start();
  Client client = connect();
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  EXPECT_EQ(counted(), 0u);
}

}  // namespace
}  // namespace mgr::server

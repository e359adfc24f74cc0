#include "manager/supervisor/events.h"

#include <set>

#include "manager/supervisor/event_stream.h"
#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

using Names = std::vector<std::string>;

class Events : public LifecycleTest {
 protected:
  void start_and_listen(int workers) {
    start(workers);
    life_->set_on_event([this](const Event& event) {
      names_.emplace_back(to_string(event.kind));
      last_ = event.fields;
    });
  }
  void serve(int workers) {
    start_and_listen(workers);
    load_mold();
    boot_all();
    ASSERT_EQ(life_->phase(), Phase::running);
    names_.clear();
  }

  Names names_;
  nlohmann::ordered_json last_;
};

TEST_F(Events, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kEventKinds; ++i) {
    EXPECT_TRUE(names.insert(to_string(static_cast<EventKind>(i))).second) << i;
  }
  EXPECT_FALSE(names.contains("?"));
}

TEST_F(Events, TellAStart) {
  start_and_listen(2);
  load_mold();
  EXPECT_EQ(last_["interface"], "asgi");
  boot_one();
  EXPECT_EQ(last_,
            (nlohmann::ordered_json{{"slot", 0}, {"pid", 101}, {"generation", 1}, {"boot_ms", 0}}));
  boot_all();
  EXPECT_EQ(last_, (nlohmann::ordered_json{{"workers", 2}}));
  EXPECT_EQ(names_, (Names{"generation_loaded", "worker_ready", "worker_ready", "ready"}));
}

TEST_F(Events, TellADeathAndWhenTheNextOneComes) {
  serve(1);
  dies(current(0).id, kKilled);
  EXPECT_EQ(names_, Names{"worker_died"});
  EXPECT_EQ(last_["how"], "killed by signal 9 (Killed)");
  EXPECT_EQ(last_["retry_ms"], 0);
  EXPECT_FALSE(last_.contains("stage"));
  boot_fails(fork_one());
  EXPECT_EQ(last_["stage"], "lifespan");
  EXPECT_EQ(last_["error"], "no database");
}

TEST_F(Events, TellAReload) {
  serve(1);
  reload();
  EXPECT_EQ(last_, (nlohmann::ordered_json{{"generation", 2}}));
  load_mold();
  run_on();
  EXPECT_EQ(names_, (Names{"reload_begun", "generation_loaded", "worker_ready", "worker_left",
                           "reload_finished"}));
}

TEST_F(Events, TellAReloadThatIsTakenBackOrRefused) {
  serve(1);
  reload();
  fail_mold("import", "SyntaxError");
  EXPECT_EQ(names_, (Names{"reload_begun", "reload_rolled_back"}));
  EXPECT_EQ(last_, (nlohmann::ordered_json{
                       {"generation", 2}, {"stage", "import"}, {"error", "SyntaxError"}}));
  bad_configuration_ = true;
  reload();
  EXPECT_EQ(names_.back(), "reload_refused");
  EXPECT_EQ(last_["stage"], "configuration");
}

TEST_F(Events, TellScaleRestartAndDrain) {
  serve(1);
  life_->scale(Lifecycle::ScaleTo{2}, noting(others_));
  EXPECT_EQ(last_, (nlohmann::ordered_json{{"from", 1}, {"to", 2}}));
  boot_all();
  life_->restart({1}, noting(others_));
  EXPECT_EQ(last_["slots"], (std::vector<int>{1}));
  run_on();
  life_->set_traffic(Traffic::drained, noting(others_));
  life_->set_traffic(Traffic::drained, noting(others_));
  life_->set_traffic(Traffic::open, noting(others_));
  EXPECT_EQ(names_, (Names{"scaled", "worker_ready", "restart_begun", "worker_ready",
                           "restart_finished", "worker_left", "drained", "undrained"}));
}

TEST_F(Events, TellRecycling) {
  settings_.max_requests = 10;
  serve(1);
  world_->requests[current(0).record] = 11;
  pass(Millis(600));
  EXPECT_EQ(names_.front(), "worker_recycled");
  EXPECT_EQ(last_["reason"], "max_requests: 11 of 10");
}

TEST_F(Events, EndWithTheStop) {
  settings_.drain_delay = Millis(1000);
  serve(1);
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(last_["how"], "graceful");
  pass(Millis(1000));
  leavers_leave();
  EXPECT_EQ(names_, (Names{"stopping", "worker_left", "stopped"}));
  EXPECT_EQ(last_, (nlohmann::ordered_json{{"exit_status", 0}}));
}

TEST(WireText, IsOneServerSentEventWhateverTheText) {
  EXPECT_EQ(wire_text("T", "x", {{"error", "a\nb\xff"}}),
            "event: x\ndata: {\"time\":\"T\",\"event\":\"x\",\"error\":\"a\\nb\xef\xbf\xbd\"}\n\n");
}

}  // namespace
}  // namespace mgr::manager

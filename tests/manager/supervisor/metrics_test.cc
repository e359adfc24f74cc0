#include "manager/supervisor/metrics.h"

#include <unistd.h>

#include "manager/supervisor/process_info.h"
#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

// A life without processes, and real records that the test writes as workers would.
class MetricsTest : public LifecycleTest {
 protected:
  void serve(int workers) {
    start_ready(workers);
    metrics_.emplace(Metrics::Sources{*world_, *life_, listeners_, board_, totals_, log_});
    for (int slot = 0; slot < workers; ++slot) take(current(slot).record);
  }
  void take(int record) {
    board_.clear(record);
    totals_.open(record);
  }
  ipc::WorkerRecord& record(int slot) { return board_.record(current(slot).record); }
  // The sample's line without the name; "absent" where there is none.
  std::string value(const std::string& name) {
    const std::string text = "\n" + metrics_->text();
    const std::size_t at = text.find("\n" + name + " ");
    if (at == std::string::npos) return "absent";
    const std::size_t from = at + name.size() + 2;
    return text.substr(from, text.find('\n', from) - from);
  }

  ipc::Scoreboard board_ = std::move(ipc::Scoreboard::create()).value();
  Totals totals_{board_};
  Listeners listeners_{{}, log_};
  std::optional<Metrics> metrics_;
};

TEST_F(MetricsTest, CountRequestsByClassOverAllWorkers) {
  serve(2);
  ipc::bump(record(0).requests[2], 3);
  ipc::bump(record(1).requests[2], 4);
  ipc::bump(record(1).requests[5]);
  ipc::bump(record(0).requests[0], 2);
  EXPECT_EQ(value("mgr_http_requests_total{status=\"2xx\"}"), "7");
  EXPECT_EQ(value("mgr_http_requests_total{status=\"5xx\"}"), "1");
  EXPECT_EQ(value("mgr_http_requests_total{status=\"4xx\"}"), "0");
  EXPECT_EQ(value("mgr_http_requests_total{status=\"aborted\"}"), "2");
}

TEST_F(MetricsTest, KeepTheCountersOfAWorkerThatWasKilled) {
  serve(1);
  ipc::bump(record(0).requests[2], 3);
  const int old = current(0).record;
  dies(current(0).id, kKilled);
  totals_.close(old, ipc::monotonic_ns());
  boot_all();
  take(current(0).record);
  ipc::bump(record(0).requests[2], 4);
  EXPECT_EQ(value("mgr_http_requests_total{status=\"2xx\"}"), "7");
  EXPECT_EQ(value("mgr_worker_restarts_total{reason=\"killed\"}"), "1");
  EXPECT_EQ(value("mgr_worker_restarts_total{reason=\"signal\"}"), "0");
}

TEST_F(MetricsTest, AddUpGaugesAndShowThemBySlot) {
  serve(2);
  ipc::set(record(0).in_flight, 2);
  ipc::set(record(1).in_flight, 5);
  ipc::set(record(1).connections, 9);
  EXPECT_EQ(value("mgr_http_requests_in_flight"), "7");
  EXPECT_EQ(value("mgr_connections"), "9");
  EXPECT_EQ(value("mgr_worker_http_requests_in_flight{slot=\"0\"}"), "2");
  EXPECT_EQ(value("mgr_worker_http_requests_in_flight{slot=\"1\"}"), "5");
  EXPECT_EQ(value("mgr_worker_connections{slot=\"1\"}"), "9");
}

TEST_F(MetricsTest, TakeNoGaugeThatCanNotBe) {
  serve(1);
  record(0).in_flight.store(~std::uint64_t{0});
  EXPECT_EQ(value("mgr_http_requests_in_flight"), "0");
  record(0).in_flight.store(100'000'000);
  EXPECT_EQ(value("mgr_http_requests_in_flight"), "100000000");
}

TEST_F(MetricsTest, ShowALagThatGrowsWhileAWorkerHangs) {
  serve(1);
  ipc::begin_run(record(0), ipc::monotonic_ns() - 40'000'000'000);
  const double first = std::stod(value("mgr_worker_loop_lag_seconds{slot=\"0\"}"));
  EXPECT_GE(first, 40);
  EXPECT_GE(std::stod(value("mgr_worker_busy_seconds_total")), 40);
  ::usleep(1000);
  EXPECT_GT(std::stod(value("mgr_worker_loop_lag_seconds{slot=\"0\"}")), first);
}

TEST_F(MetricsTest, HaveAsManySeriesAsSlotsHoweverManyWorkersCome) {
  serve(2);
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  EXPECT_EQ(value("mgr_worker_connections{slot=\"0\"}"), "0");
  EXPECT_EQ(value("mgr_worker_connections{slot=\"1\"}"), "absent");
  EXPECT_EQ(value("mgr_workers{state=\"leaving\"}"), "1");
  EXPECT_EQ(value("mgr_workers{state=\"ready\"}"), "1");
  EXPECT_EQ(value("mgr_workers_target"), "1");
}

TEST_F(MetricsTest, LeaveOutTheMemoryOfAProcessThatCanNotBeRead) {
  serve(1);
  ASSERT_FALSE(resident_bytes(-1));
  // The made-up pid of the fake world may belong to somebody.
  if (!resident_bytes(current(0).pid)) {
    EXPECT_EQ(value("mgr_worker_resident_memory_bytes{slot=\"0\"}"), "absent");
  }
  EXPECT_GT(std::stod(value("process_resident_memory_bytes")), 1e6);
}

TEST_F(MetricsTest, TellReadinessAndReloads) {
  serve(1);
  EXPECT_EQ(value("mgr_ready"), "1");
  EXPECT_EQ(value("mgr_degraded"), "0");
  EXPECT_EQ(value("mgr_generation"), "1");
  EXPECT_EQ(value("mgr_last_reload_successful"), "1") << "there was none";
  bad_configuration_ = true;
  reload();
  EXPECT_EQ(value("mgr_reloads_total{result=\"refused\"}"), "1");
  EXPECT_EQ(value("mgr_last_reload_successful"), "0");
  bad_configuration_ = false;
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(value("mgr_reloads_total{result=\"ok\"}"), "1");
  EXPECT_EQ(value("mgr_reloads_total{result=\"rolled_back\"}"), "0");
  EXPECT_EQ(value("mgr_last_reload_successful"), "1");
  EXPECT_EQ(value("mgr_generation"), "2");
  EXPECT_GE(std::stod(value("mgr_last_reload_duration_seconds")), 1);
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(value("mgr_ready"), "0");
}

TEST_F(MetricsTest, ShowTheHistogramInSeconds) {
  serve(1);
  ipc::count_duration(record(0), 400'000);
  ipc::count_duration(record(0), 40'000'000'000);
  EXPECT_EQ(value("mgr_http_request_duration_seconds_bucket{le=\"0.0005\"}"), "1");
  EXPECT_EQ(value("mgr_http_request_duration_seconds_bucket{le=\"30\"}"), "1");
  EXPECT_EQ(value("mgr_http_request_duration_seconds_bucket{le=\"+Inf\"}"), "2");
  EXPECT_EQ(value("mgr_http_request_duration_seconds_count"), "2");
  EXPECT_EQ(value("mgr_http_request_duration_seconds_sum"), "40.0004");
}

TEST(ProcessInfo, knows_when_a_process_began) {
  const auto began = start_time(::getpid());
  ASSERT_TRUE(began);
  const auto now = static_cast<double>(::time(nullptr));
  EXPECT_GT(*began, now - 600);
  EXPECT_LT(*began, now + 2);
  EXPECT_FALSE(start_time(-1));
}

}  // namespace
}  // namespace mgr::manager

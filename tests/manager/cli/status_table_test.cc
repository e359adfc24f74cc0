#include "manager/cli/status_table.h"

#include <gtest/gtest.h>

namespace mgr::cli {
namespace {

using nlohmann::json;

TEST(StatusTable, shows_supervisor_workers_and_those_that_leave) {
  const json status = json::parse(R"({
    "version": "0.1.0", "name": "shop", "pid": 1, "generation": 3, "state": "running",
    "uptime_s": 3725.5, "target_workers": 2, "reloads": 2,
    "last_reload": {"ok": false, "stage": "import", "error": "No module\nTraceback", "duration_s": 1},
    "listeners": [{"address": ":80", "balance": "random", "queued": 0},
                  {"address": "unix:/a", "balance": "shared", "queued": 3}],
    "workers": [
      {"slot": 0, "pid": 12, "generation": 3, "state": "ready", "uptime_s": 90, "requests": 10,
       "in_flight": 1, "connections": 2, "busy": 0.034, "rss": 20971520, "restarts": 0,
       "last_exit": null},
      {"slot": 1, "pid": null, "generation": 3, "state": "backoff", "restarts": 4,
       "last_exit": "killed by signal 9", "retry_s": 3.25}],
    "leaving": [{"slot": 1, "pid": 9, "generation": 2, "in_flight": 1, "deadline_s": 25.0}]})");
  EXPECT_EQ(status_text(status),
            "shop: running, 1 of 2 workers ready, generation 3, up 1h2m, pid 1, mgr 0.1.0\n"
            "listening: :80, unix:/a (3 queued)\n"
            "last reload: failed at import: No module\n"
            "\n"
            "SLOT  PID  GEN  STATE    UPTIME  REQUESTS  IN FLIGHT  CONNECTIONS  BUSY  RSS       "
            "RESTARTS  LAST EXIT\n"
            "0     12   3    ready    1m30s   10        1          2            3%    20.0 MiB  0"
            "         -\n"
            "1     -    3    backoff  -       -         -          -            -     -         4"
            "         killed by signal 9; next in 3.2s\n"
            "1     9    2    leaving  -       -         1          -            -     -         -"
            "         cut in 25.0s\n");
}

TEST(StatusTable, survives_a_document_of_another_shape) {
  for (const char* text : {"{}", R"({"workers": 5, "leaving": null})", R"({"workers": [1, {}]})",
                           R"({"last_reload": {}, "listeners": [null]})"})
    EXPECT_NE(status_text(json::parse(text)).find("SLOT"), std::string::npos) << text;
}

}  // namespace
}  // namespace mgr::cli

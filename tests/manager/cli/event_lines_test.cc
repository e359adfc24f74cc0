#include "manager/cli/event_lines.h"

#include <gtest/gtest.h>

namespace mgr::cli {
namespace {

using Strings = std::vector<std::string>;

TEST(EventReader, cuts_events_that_come_in_any_pieces) {
  const std::string stream =
      "event: ready\ndata: {\"a\": 1}\n\n: a comment\n\nevent: x\ndata: {\"b\": 2}\n\n";
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    EventReader reader;
    Strings events;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      for (auto& event : reader.take(std::string_view(stream).substr(at, piece))) {
        events.push_back(std::move(event));
      }
    }
    EXPECT_EQ(events, (Strings{"{\"a\": 1}", "{\"b\": 2}"})) << "in pieces of " << piece;
  }
}

TEST(EventReader, keeps_an_event_until_it_is_complete) {
  EventReader reader;
  EXPECT_EQ(reader.take("data: x\n"), Strings{});
  EXPECT_EQ(reader.take("\n"), Strings{"x"});
}

TEST(EventText, begins_with_time_and_name_and_quotes_what_has_spaces) {
  const auto event = nlohmann::ordered_json::parse(
      R"({"time": "2026-11-28T02:00:00.000+00:00", "event": "worker_died", "slot": 0,)"
      R"x( "how": "killed by signal 9 (Killed)", "stage": "boot", "slots": [1, 2], "empty": ""})x");
  EXPECT_EQ(event_text(event),
            "2026-11-28T02:00:00.000+00:00 worker_died slot=0 "
            "how=\"killed by signal 9 (Killed)\" stage=boot slots=[1,2] empty=\"\"");
}

TEST(EventText, stays_one_line) {
  EXPECT_EQ(event_text({{"event", "x"}, {"error", "a\nb"}}), "x error=\"a\\nb\"");
}

}  // namespace
}  // namespace mgr::cli

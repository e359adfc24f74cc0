#include "manager/supervisor/text_writer.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

namespace mgr::manager {
namespace {

using Type = TextWriter::Type;

TEST(TextWriter, writes_a_family_and_its_samples) {
  TextWriter to;
  to.family("app_things_total", Type::counter, "Things.");
  to.sample(3);
  to.family("app_size_bytes", Type::gauge, "Size.");
  to.sample(0.25, {{"slot", "0"}, {"state", "ready"}});
  EXPECT_EQ(to.take(),
            "# HELP app_things_total Things.\n"
            "# TYPE app_things_total counter\n"
            "app_things_total 3\n"
            "# HELP app_size_bytes Size.\n"
            "# TYPE app_size_bytes gauge\n"
            "app_size_bytes{slot=\"0\",state=\"ready\"} 0.25\n");
}

TEST(TextWriter, escapes_what_would_end_a_value_or_a_line) {
  TextWriter to;
  to.family("x", Type::gauge, "a\\b\n\"c\"");
  to.sample(1, {{"l", "a\\b\n\"c\" é"}});
  EXPECT_EQ(to.take(),
            "# HELP x a\\\\b\\n\"c\"\n"
            "# TYPE x gauge\n"
            "x{l=\"a\\\\b\\n\\\"c\\\" é\"} 1\n");
}

TEST(TextWriter, writes_numbers_that_no_reader_takes_for_others) {
  TextWriter to;
  to.family("x", Type::gauge, "");
  for (const double value : {0.0, 9007199254740992.0, 1e-7, 1.0 / 3, -2.5}) to.sample(value);
  to.sample(std::numeric_limits<double>::infinity());
  to.sample(-std::numeric_limits<double>::infinity());
  to.sample(std::nan(""));
  const std::string text = to.take();
  EXPECT_EQ(text.substr(text.find("x 0")),
            "x 0\nx 9007199254740992\nx 1e-07\nx 0.3333333333333333\nx -2.5\n"
            "x +Inf\nx -Inf\nx NaN\n");
}

TEST(TextWriter, writes_a_histogram_cumulatively) {
  TextWriter to;
  to.family("d_seconds", Type::histogram, "D.");
  constexpr std::array<double, 2> kBounds{0.0005, 1};
  constexpr std::array<std::uint64_t, 3> kCounts{2, 0, 3};
  to.histogram(kBounds, kCounts, 7.5);
  EXPECT_EQ(to.take(),
            "# HELP d_seconds D.\n"
            "# TYPE d_seconds histogram\n"
            "d_seconds_bucket{le=\"0.0005\"} 2\n"
            "d_seconds_bucket{le=\"1\"} 2\n"
            "d_seconds_bucket{le=\"+Inf\"} 5\n"
            "d_seconds_sum 7.5\n"
            "d_seconds_count 5\n");
}

TEST(TextWriter, aborts_on_names_that_the_format_does_not_have) {
  TextWriter to;
  EXPECT_DEATH(to.sample(1), "CHECK failed") << "no family";
  EXPECT_DEATH(to.family("a-b", Type::gauge, ""), "CHECK failed");
  EXPECT_DEATH(to.family("1a", Type::gauge, ""), "CHECK failed");
  EXPECT_DEATH(to.family("", Type::gauge, ""), "CHECK failed");
  to.family("a", Type::gauge, "");
  EXPECT_DEATH(to.sample(1, {{"b c", "d"}}), "CHECK failed");
}

}  // namespace
}  // namespace mgr::manager

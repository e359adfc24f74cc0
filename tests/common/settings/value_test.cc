#include "common/settings/value.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace mgr::settings {
namespace {

using namespace std::chrono_literals;

TEST(Duration, takes_units_plain_seconds_and_fractions) {
  EXPECT_EQ(*parse_duration("500ms"), 500ms);
  EXPECT_EQ(*parse_duration("30s"), 30s);
  EXPECT_EQ(*parse_duration("5m"), 5min);
  EXPECT_EQ(*parse_duration("2h"), 2h);
  EXPECT_EQ(*parse_duration("7"), 7s);
  EXPECT_EQ(*parse_duration("0"), 0s);
  EXPECT_EQ(*parse_duration("0.5"), 500ms);
  EXPECT_EQ(*parse_duration("1.5m"), 90s);
  EXPECT_EQ(*parse_duration(".5s"), 500ms);
}

TEST(Duration, refuses_what_is_none) {
  for (const char* text : {"", "s", "abc", "5 s", "5d", "-5", "+5", "5s5", "1e3", "1,5", "0x10",
                           "5S", "inf", "nan", ".", "1.2.3", "..", "5 minutes", "ms"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Duration, refuses_what_it_cannot_hold_exactly) {
  EXPECT_EQ(parse_duration("0.0001").error().message(), "'0.0001' is finer than a millisecond");
  EXPECT_FALSE(parse_duration("0.5ms"));
  EXPECT_FALSE(parse_duration("99999999999999999999h"));
}

TEST(Duration, is_written_in_its_largest_whole_unit) {
  EXPECT_EQ(format_duration(0s), "0s");
  EXPECT_EQ(format_duration(1500ms), "1500ms");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(120s), "2m");
  EXPECT_EQ(format_duration(24h), "24h");
}

TEST(Size, takes_bytes_and_powers_of_1024) {
  EXPECT_EQ(*parse_size("8190"), 8190);
  EXPECT_EQ(*parse_size("64k"), 64 * 1024);
  EXPECT_EQ(*parse_size("16M"), 16 << 20);
  EXPECT_EQ(*parse_size("1g"), 1 << 30);
  EXPECT_EQ(*parse_size("0"), 0);
}

TEST(Size, refuses_what_is_none_or_overflows) {
  for (const char* text :
       {"", "k", "1q", "1kb", "-1", "1.5m", "1 k", "99999999999999999999", "9999999999999999g"})
    EXPECT_FALSE(parse_size(text)) << text;
}

TEST(Size, is_written_in_its_largest_whole_unit) {
  EXPECT_EQ(format_size(0), "0");
  EXPECT_EQ(format_size(8190), "8190");
  EXPECT_EQ(format_size(65536), "64k");
  EXPECT_EQ(format_size(3 << 20), "3m");
}

TEST(Mode, is_octal_in_every_spelling) {
  EXPECT_EQ(*parse_mode("0660"), 0660);
  EXPECT_EQ(*parse_mode("660"), 0660);
  EXPECT_EQ(*parse_mode("0o600"), 0600);
  EXPECT_EQ(format_mode(0660), "0660");
  EXPECT_EQ(format_mode(7), "0007");
  for (const char* text : {"", "rw", "0880", "-1", "0x10", "0o"})
    EXPECT_FALSE(parse_mode(text)) << text;
}

TEST(Switch, knows_the_words_that_yaml_tools_write) {
  for (const char* text : {"on", "true", "yes", "1"}) EXPECT_TRUE(*parse_switch(text)) << text;
  for (const char* text : {"off", "false", "no", "0"}) EXPECT_FALSE(*parse_switch(text)) << text;
  for (const char* text : {"", "On!", "2", "maybe"}) EXPECT_FALSE(parse_switch(text).ok()) << text;
}

TEST(Integer, is_whole_and_decimal) {
  EXPECT_EQ(*parse_integer("-3"), -3);
  for (const char* text : {"", "+3", "1.5", "1x", " 1", "0x10", "99999999999999999999"})
    EXPECT_FALSE(parse_integer(text)) << text;
}

TEST(Quotes, keep_a_message_on_one_line) {
  EXPECT_EQ(in_quotes("a\nb\x1b"), "'a\\x0ab\\x1b'");
  EXPECT_LT(in_quotes(std::string(1000, 'x')).size(), 100u);
}

TEST(Json, is_spelled_as_the_file_would_spell_it) {
  EXPECT_EQ(*spelled_from_json(5), Spelled("5"));
  EXPECT_EQ(*spelled_from_json(true), Spelled("true"));
  EXPECT_EQ(*spelled_from_json({"a", 1}), Spelled(Texts{"a", "1"}));
  EXPECT_EQ(*spelled_from_json({{"A", "b"}}), Spelled(TextMap{{"A", "b"}}));
  EXPECT_FALSE(spelled_from_json(nullptr));
  EXPECT_FALSE(spelled_from_json(nlohmann::json::array({nlohmann::json::array()})));
  EXPECT_FALSE(spelled_from_json({{"a", nullptr}}));
}

TEST(Quotes, escape_what_is_no_utf8_and_cut_between_characters) {
  EXPECT_EQ(in_quotes("d\xe9"), "'d\\xe9'");
  EXPECT_EQ(in_quotes("\xed\xa0\x80"), "'\\xed\\xa0\\x80'");
  const std::string cut = in_quotes(std::string(79, 'x') + "ää");
  EXPECT_EQ(cut, "'" + std::string(79, 'x') + "ä…'");
}

TEST(Switches, take_the_spellings_of_yaml) {
  for (const char* yes : {"true", "True", "TRUE"}) EXPECT_TRUE(*parse_switch(yes));
  for (const char* no : {"false", "False", "FALSE"}) EXPECT_FALSE(*parse_switch(no));
  EXPECT_FALSE(parse_switch("tRUE").ok());
}

}  // namespace
}  // namespace mgr::settings

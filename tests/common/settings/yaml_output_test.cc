#include "common/settings/sources/yaml_output.h"

#include <gtest/gtest.h>

#include <map>

#include "common/settings/sources/yaml_file.h"

namespace mgr::settings {
namespace {

// What a file reads as, by setting.
std::map<std::string, Spelled> read_back(const std::string& text) {
  const GivenValues values = read_yaml(text, "mgr.yaml");
  EXPECT_EQ(values.errors, std::vector<std::string>{}) << text;
  std::map<std::string, Spelled> result;
  for (const Given& given : values.values) result[given.name] = given.value;
  return result;
}

TEST(YamlOutput, is_read_back_as_it_was_whatever_the_texts_contain) {
  const std::vector<std::string> texts{
      "plain", "",     "on",   "null", "~",      "0022", "1.5",
      "a: b",  "a #b", "#",    "- x",  "{a: b}", "[1]",  "'quoted'",
      "\"",    "a\\b", "über", "*",    "&a",     "!t",   " x ",
      "a, b",  "?",    "%x",   "@x",   "---",    "a\tb", "%(h)s \"%(r)s\""};
  for (const std::string& text : texts) {
    const auto values = read_back(
        write_yaml("head", {{"app", text, "", "beside"}, {"bind", {text, "x"}, "above", ""}}, ""));
    EXPECT_EQ(values.at("app"), Spelled(text)) << text;
    EXPECT_EQ(values.at("bind"), Spelled(Texts{text, "x"})) << text;
  }
  const auto map = read_back(write_yaml("", {{"env", {{"A: ", "b: c"}, {"D", ""}}, "", ""}}, ""));
  EXPECT_EQ(map.at("env"), Spelled(TextMap{{"A: ", "b: c"}, {"D", ""}}));
}

TEST(YamlOutput, makes_a_comment_of_every_line) {
  const std::string text =
      write_yaml("one\ntwo", {{"workers", 4, "above\nit", "beside"}}, "last\nline");
  EXPECT_EQ(text, "# one\n# two\n\n# above\n# it\nworkers: 4  # beside\n\n# last\n# line\n");
  EXPECT_EQ(read_back(text).at("workers"), Spelled("4"));
}

TEST(YamlOutput, without_settings_is_an_empty_file_with_comments) {
  EXPECT_EQ(write_yaml("head", {}, "tail"), "# head\n\n# tail\n");
  EXPECT_TRUE(read_back(write_yaml("head", {}, "tail")).empty());
}

}  // namespace
}  // namespace mgr::settings

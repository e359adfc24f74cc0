#include "common/settings/env_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/fakes/temporary_directory.h"

namespace mgr {
namespace {

using Variables = std::map<std::string, std::string>;

TEST(EnvFile, takes_lines_comments_quotes_and_export) {
  const auto variables = parse_env_file(
      "# comment\n\nA=1\n export B = two words \r\nC=\"x\\ny \\\"z\\\" \\$H "
      "\\d\"\nD='a\\nb'\nE=\nA=2\n"
      "URL=postgres://u:p@h/db?a=b#c");
  ASSERT_TRUE(variables) << variables.error().message();
  EXPECT_EQ(*variables, (Variables{{"A", "2"},
                                   {"B", "two words"},
                                   {"C", "x\ny \"z\" $H \\d"},
                                   {"D", "a\\nb"},
                                   {"E", ""},
                                   {"URL", "postgres://u:p@h/db?a=b#c"}}));
}

TEST(EnvFile, an_empty_file_has_no_variables) {
  const fakes::TemporaryDirectory directory;
  EXPECT_TRUE(read_env_file(directory.write("empty", ""))->empty());
}

TEST(EnvFile, names_the_line_of_an_error) {
  EXPECT_EQ(parse_env_file("A=1\nnonsense\n").error().message(),
            "2: a line that is not NAME=VALUE");
  EXPECT_EQ(parse_env_file("A=\"x\n").error().message(), "1: the quote is not closed");
  EXPECT_EQ(parse_env_file("A=\"x\" y\"\n").error().message(), "1: text behind the closing quote");
  EXPECT_FALSE(parse_env_file("1A=x"));
  EXPECT_FALSE(parse_env_file("=x"));
}

TEST(EnvFile, names_the_file_of_an_error) {
  const fakes::TemporaryDirectory directory;
  const std::string path = directory.write("env", "x\n");
  EXPECT_EQ(read_env_file(path).error().message(), path + ":1: a line that is not NAME=VALUE");
  EXPECT_EQ(read_env_file("/nowhere/env").error().message(),
            "/nowhere/env: No such file or directory");
  EXPECT_FALSE(read_env_file(directory.path()));
}

TEST(EnvFile, a_byte_order_mark_is_no_part_of_the_first_name) {
  EXPECT_EQ(*parse_env_file("\xef\xbb\xbf"
                            "A=1\n"),
            (Variables{{"A", "1"}}));
}

TEST(EnvFile, bytes_that_are_no_utf8_are_refused) {
  EXPECT_EQ(parse_env_file("A=1\nB=\xff\n").error().message(), "2: not UTF-8");
}

TEST(EnvFile, a_fifo_is_refused_and_not_waited_for) {
  const fakes::TemporaryDirectory directory;
  const std::string path = directory.path() + "/fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(read_env_file(path).error().message(), path + ": is no regular file");
}

}  // namespace
}  // namespace mgr

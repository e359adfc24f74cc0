#include "common/settings/sources/yaml_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fakes/temporary_directory.h"

namespace mgr::settings {
namespace {

GivenValues read(std::string_view text) {
  return read_yaml(text, "mgr.yaml");
}

std::string first_error(std::string_view text) {
  const GivenValues result = read(text);
  return result.errors.empty() ? "" : result.errors.front();
}

TEST(Yaml, gives_values_with_their_lines) {
  const GivenValues result = read("# x\napp: main:app\nbind:\n  - :80\n  - unix:@a\nenv: {A: 1}\n");
  EXPECT_TRUE(result.errors.empty());
  ASSERT_EQ(result.values.size(), 3u);
  EXPECT_EQ(result.values[0].value, Spelled("main:app"));
  EXPECT_EQ(result.values[0].where, "mgr.yaml:2: app");
  EXPECT_EQ(result.values[1].value, Spelled(Texts{":80", "unix:@a"}));
  EXPECT_EQ(result.values[1].origin, "file:3");
  EXPECT_EQ(result.values[2].value, Spelled(TextMap{{"A", "1"}}));
}

TEST(Yaml, an_empty_file_is_an_empty_map) {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "{}", "---\n# x\n...\n"}) {
    const GivenValues result = read(text);
    EXPECT_TRUE(result.errors.empty()) << text << ": " << result.errors.front();
    EXPECT_TRUE(result.values.empty()) << text;
  }
}

TEST(Yaml, a_value_that_is_missing_is_told_with_the_line_of_its_key) {
  EXPECT_EQ(first_error("workers:\n\n\napp: a:b\n").substr(0, 39),
            "mgr.yaml:1: workers: no value is given;");
  EXPECT_EQ(first_error("app: a\nworkers: ~\n").substr(0, 20), "mgr.yaml:2: workers:");
  EXPECT_EQ(first_error("workers: null\n").substr(0, 20), "mgr.yaml:1: workers:");
}

TEST(Yaml, a_key_given_twice_names_both_lines) {
  EXPECT_EQ(first_error("workers: 1\napp: a\nworkers: 2\n"),
            "mgr.yaml:3: workers: given twice, first in line 1");
  EXPECT_EQ(first_error("{workers: 1, workers: 2}"),
            "mgr.yaml:1: workers: given twice, first in line 1");
  EXPECT_FALSE(first_error("env: {A: 1, A: 2}\n").empty());
}

TEST(Yaml, an_unknown_key_comes_with_the_nearest_known_one) {
  EXPECT_EQ(first_error("\nkeepalive: 5\n"),
            "mgr.yaml:2: 'keepalive': unknown setting; the nearest known one is keep_alive");
  EXPECT_EQ(first_error("<<: {workers: 1}\n").substr(0, 33), "mgr.yaml:1: '<<': unknown setting");
}

TEST(Yaml, a_second_document_is_refused) {
  EXPECT_EQ(first_error("workers: 1\n---\nworkers: 2\n"),
            "mgr.yaml:3: a second document; one is allowed");
  EXPECT_FALSE(first_error("workers: 1\n...\napp: a\n").empty());
}

TEST(Yaml, a_root_that_is_no_map_is_refused) {
  for (const char* text : {"- workers\n", "workers\n", "[a, b]\n", "5\n"})
    EXPECT_EQ(first_error(text), "mgr.yaml:1: a map of settings is needed: `name: value` lines")
        << text;
}

TEST(Yaml, a_tab_is_named_as_such) {
  constexpr const char* kTab = "mgr.yaml:2: a tab; YAML is indented by spaces alone";
  EXPECT_EQ(first_error("env:\n\tA: b\n"), kTab);
  EXPECT_EQ(first_error("workers: 2\n\tapp: a:b\n"), kTab);
  EXPECT_EQ(first_error("env:\n  \tA: b\n"), kTab);
}

TEST(Yaml, a_tab_behind_a_colon_or_inside_a_text_is_none_of_our_business) {
  EXPECT_TRUE(first_error("workers:\t2\n").empty());
  EXPECT_TRUE(first_error("env:\n  A: |\n    x\n    \ty\n").empty());
}

TEST(Yaml, a_quote_that_is_never_closed_does_not_pass) {
  EXPECT_NE(first_error("app: 'main:app\n").find("a quote is not closed"), std::string::npos);
  EXPECT_NE(first_error("app: \"main:app\nworkers: 2\n").find("a quote is not closed"),
            std::string::npos);
}

TEST(Yaml, text_that_is_no_yaml_names_a_line_of_the_file) {
  EXPECT_EQ(first_error("app: a: b\n").substr(0, 21), "mgr.yaml:1: not YAML:");
  EXPECT_EQ(first_error("app: [a\n").substr(0, 10), "mgr.yaml:1");
  EXPECT_EQ(first_error("app: {a\n").substr(0, 10), "mgr.yaml:1");
  EXPECT_EQ(first_error("a: *x\n").substr(0, 21), "mgr.yaml:1: not YAML:");
}

TEST(Yaml, text_that_is_not_utf_8_is_refused) {
  EXPECT_EQ(first_error("app: a\nname: \xff\n"), "mgr.yaml:2: not UTF-8");
  EXPECT_EQ(first_error("name: \xc3"), "mgr.yaml:1: not UTF-8");
  EXPECT_TRUE(first_error("\xef\xbb\xbf"
                          "app: m\xc3\xb3"
                          "dulo\n")
                  .empty());
}

TEST(Yaml, values_nested_too_deep_are_refused) {
  EXPECT_FALSE(first_error("bind: [[a]]\n").empty());
  EXPECT_FALSE(first_error("bind: [~]\n").empty());
  EXPECT_FALSE(first_error("env: {A: [1]}\n").empty());
  EXPECT_FALSE(first_error("env: {A: }\n").empty());
  EXPECT_FALSE(first_error("? [a]\n: 1\n").empty());
}

TEST(Yaml, tells_everything_that_is_wrong_at_once) {
  EXPECT_EQ(read("nope: 1\nworkers:\nworkers: 3\n").errors.size(), 3u);
}

TEST(YamlFile, that_cannot_be_read_is_an_error) {
  const fakes::TemporaryDirectory directory;
  EXPECT_EQ(read_yaml_file("/nowhere/x.yaml", "x.yaml").errors.front(),
            "x.yaml: No such file or directory");
  EXPECT_EQ(read_yaml_file(directory.path(), "d").errors.front(), "d: Is a directory");
  const std::string large = directory.write("large", std::string((1 << 20) + 1, '#'));
  EXPECT_EQ(read_yaml_file(large, "large").errors.front(), "large: larger than 1 MB");
}

TEST(YamlFile, what_is_nearly_utf8_is_refused) {
  for (const char* bytes : {"\xed\xa0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
                            "\xc0\x80", "\xff", "\xe2\x82"}) {
    const GivenValues result = read_yaml("app: x\nname: \"" + std::string(bytes) + "\"\n", "t");
    ASSERT_EQ(result.errors.size(), 1u);
    EXPECT_EQ(result.errors.front(), "t:2: not UTF-8");
  }
  const GivenValues fine =
      read_yaml("name: \"\xc2\x80 \xed\x9f\xbf \xee\x80\x80 \xf4\x8f\xbf\xbf\"\n", "t");
  EXPECT_TRUE(fine.errors.empty());
}

TEST(YamlFile, a_fifo_is_refused_and_not_waited_for) {
  const fakes::TemporaryDirectory directory;
  const std::string path = directory.path() + "/fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  for (const Pipes pipes : {Pipes::refused, Pipes::inherited})
    EXPECT_EQ(read_yaml_file(path, "fifo", pipes).errors.front(), "fifo: is no regular file");
}

TEST(YamlFile, an_inherited_pipe_is_read_once) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "workers: 3\n", 11), 11);
  ::close(ends[1]);
  const std::string path = "/dev/fd/" + std::to_string(ends[0]);
  EXPECT_EQ(read_yaml_file(path, "pipe", Pipes::refused).errors.front(),
            "pipe: is no regular file");
  EXPECT_EQ(read_yaml_file(path, "pipe", Pipes::inherited).values.front().name, "workers");
  ::close(ends[0]);
}

TEST(YamlFile, dev_null_is_an_empty_file) {
  EXPECT_TRUE(read_yaml_file("/dev/null", "null", Pipes::refused).errors.empty());
}

}  // namespace
}  // namespace mgr::settings

#include "manager/cli/command_line.h"

#include <gtest/gtest.h>

#include "common/settings/table.h"

namespace mgr::cli {
namespace {

using settings::Texts;

CommandLine accepted(const Texts& arguments) {
  const auto result = parse_command_line(arguments);
  if (const auto* early = std::get_if<EarlyExit>(&result)) {
    ADD_FAILURE() << early->text;
    return {};
  }
  return std::get<CommandLine>(result);
}

std::string refused(const Texts& arguments) {
  const auto result = parse_command_line(arguments);
  const auto* early = std::get_if<EarlyExit>(&result);
  if (!early) return "accepted";
  EXPECT_EQ(early->status, kUsageError);
  EXPECT_EQ(std::count(early->text.begin(), early->text.end(), '\n'), 1) << early->text;
  return early->text;
}

std::string help(const Texts& arguments) {
  const auto result = parse_command_line(arguments);
  const auto* early = std::get_if<EarlyExit>(&result);
  if (!early) return "";
  EXPECT_EQ(early->status, 0);
  return early->text;
}

TEST(CommandLine, gives_run_its_application_file_and_settings) {
  const CommandLine line = accepted({"run", "main:app", "-c", "a.yaml", "--keep-alive", "7",
                                     "--bind", ":80", "--bind=unix:@a", "--env", "A=1", "--env",
                                     "B=2", "--access-log", "-", "--name", ""});
  EXPECT_EQ(line.verb, Verb::run);
  EXPECT_EQ(line.file, "a.yaml");
  EXPECT_EQ(line.values, (CommandLineValues{{"app", {"main:app"}},
                                            {"keep_alive", {"7"}},
                                            {"bind", {":80", "unix:@a"}},
                                            {"env", {"A=1", "B=2"}},
                                            {"access_log", {"-"}},
                                            {"name", {""}}}));
}

TEST(CommandLine, takes_the_application_in_any_place) {
  EXPECT_EQ(accepted({"run", "--bind", ":80", "main:app"}).values["app"], (Texts{"main:app"}));
  EXPECT_EQ(accepted({"check", "--app", "main:app"}).values["app"], (Texts{"main:app"}));
  EXPECT_EQ(accepted({"run", "--workers", "2", "--", "main:app"}).values["app"],
            (Texts{"main:app"}));
}

TEST(CommandLine, keeps_values_as_they_are) {
  for (const std::string value : {"[::1]:80", "[a,b]", "a,b", "x=y", "{}", "%41", "'q'", "a b"}) {
    EXPECT_EQ(accepted({"run", "--bind", value}).values["bind"], (Texts{value}));
    EXPECT_EQ(accepted({"run", "--root-path", value}).values["root_path"], (Texts{value}));
  }
}

TEST(CommandLine, has_a_flag_for_every_setting) {
  for (const settings::Setting& setting : settings::table()) {
    const CommandLine line = accepted({"run", setting.flag(), "A=1"});
    EXPECT_EQ(line.values.at(setting.name), (Texts{"A=1"})) << setting.name;
  }
}

TEST(CommandLine, names_the_values_of_a_flag_that_is_given_twice_and_what_is_allowed) {
  EXPECT_EQ(refused({"run", "a:b", "--keep-alive", "5", "--keep-alive", "6"}),
            "mgr run: --keep-alive: '5' and '6': it is given more than once; allowed: " +
                settings::find("keep_alive")->allowed + "; see mgr run --help\n");
  EXPECT_EQ(refused({"run", "a:b", "--keep-alive"}),
            "mgr run: --keep-alive: no value is given; allowed: " +
                settings::find("keep_alive")->allowed + "; see mgr run --help\n");
}

TEST(CommandLine, refuses_what_it_does_not_know_and_names_the_nearest) {
  EXPECT_EQ(
      refused({"run", "--keepalive", "5"}),
      "mgr run: unknown flag '--keepalive'; the nearest known one is --keep-alive; see mgr run "
      "--help\n");
  EXPECT_EQ(refused({"frobnicate"}), "mgr: unknown command 'frobnicate'; see mgr --help\n");
  EXPECT_EQ(refused({}), "mgr: a command is needed; see mgr --help\n");
  EXPECT_EQ(refused({"run", "a", "b"}),
            "mgr run: argument 'b' is one too many; see mgr run --help\n");
  EXPECT_NE(
      refused({"run", "a", "--app", "b"}).find("--app: 'a' and 'b': it is given more than once"),
      std::string::npos);
  EXPECT_NE(refused({"status", "--bind", ":80"}).find("--bind"), std::string::npos);
  EXPECT_NE(refused({"run", "--statsd-host", "x"}).find("--statsd-host"), std::string::npos);
  EXPECT_NE(refused({"--workers", "2"}).find("--workers"), std::string::npos);
}

TEST(CommandLine, takes_nothing_for_a_flag_behind_two_dashes) {
  EXPECT_EQ(refused({"scale", "--", "-3", "--control", "/c"}),
            "mgr scale: argument '--control' is one too many; see mgr scale --help\n");
  EXPECT_NE(refused({"scale", "--", "-x"}).find("'-x'"), std::string::npos);
}

TEST(CommandLine, refuses_a_flag_without_its_value_and_one_given_twice) {
  EXPECT_NE(refused({"run", "--workers"}).find("--workers"), std::string::npos);
  EXPECT_NE(refused({"run", "--workers", "1", "--workers", "2"}).find("--workers"),
            std::string::npos);
  EXPECT_NE(refused({"status", "-c"}).find("--config"), std::string::npos);
}

TEST(CommandLine, scale_takes_a_number_or_a_change) {
  EXPECT_EQ(accepted({"scale", "12"}).scale.number, 12);
  EXPECT_FALSE(accepted({"scale", "12"}).scale.relative);
  EXPECT_EQ(accepted({"scale", "+2"}).scale.number, 2);
  EXPECT_TRUE(accepted({"scale", "+2"}).scale.relative);
  EXPECT_EQ(accepted({"scale", "-1"}).scale.number, -1);
  EXPECT_TRUE(accepted({"scale", "-99"}).scale.relative);
  EXPECT_EQ(accepted({"scale", "-1", "-i", "shop"}).target.instance, "shop");
  EXPECT_EQ(accepted({"scale", "-i", "shop", "-3"}).scale.number, -3);
  EXPECT_EQ(accepted({"scale", "--", "-3"}).scale.number, -3);
}

TEST(CommandLine, scale_refuses_what_is_no_number_or_out_of_range) {
  for (const std::string text : {"0", "513", "abc", "+", "-", "+0", "-0", "1.5", "", " ", "1x",
                                 "-1x", "+600", "99999999999999999999", "--1", "++1", "0x1"})
    EXPECT_NE(refused({"scale", text}), "accepted") << text;
  EXPECT_NE(refused({"scale"}), "accepted");
  EXPECT_NE(refused({"scale", "1", "2"}), "accepted");
}

TEST(CommandLine, restart_takes_slots) {
  EXPECT_TRUE(accepted({"restart"}).slots.empty());
  EXPECT_EQ(accepted({"restart", "0", "3"}).slots, (std::vector<int>{0, 3}));
  for (const std::string text : {"x", "-1", "512", "1.5", ""})
    EXPECT_NE(refused({"restart", text}), "accepted") << text;
}

TEST(CommandLine, log_level_takes_a_level) {
  EXPECT_EQ(accepted({"log-level", "debug"}).level, "debug");
  EXPECT_EQ(refused({"log-level", "loud"}),
            "mgr log-level: 'loud' is not known; allowed: debug, info, warning or error\n");
  EXPECT_NE(refused({"log-level"}), "accepted");
  EXPECT_NE(refused({"log-level", "info", "debug"}), "accepted");
}

TEST(CommandLine, clients_name_their_supervisor) {
  const CommandLine line = accepted({"stop", "--now", "--control", "/c", "-i", "n", "-c", "f"});
  EXPECT_TRUE(line.now);
  EXPECT_EQ(line.target.control, "/c");
  EXPECT_EQ(line.target.instance, "n");
  EXPECT_EQ(line.target.file, "f");
  EXPECT_FALSE(accepted({"status"}).target.control);
  EXPECT_TRUE(accepted({"status", "--json"}).json);
  EXPECT_TRUE(accepted({"events", "--json"}).json);
}

TEST(CommandLine, config_prints_one_thing) {
  EXPECT_EQ(accepted({"config"}).output, ConfigOutput::text);
  EXPECT_EQ(accepted({"config", "--schema"}).output, ConfigOutput::schema);
  EXPECT_NE(refused({"config", "--json", "--schema"}), "accepted");
}

TEST(CommandLine, import_takes_a_file_or_words_that_are_not_its_own) {
  EXPECT_EQ(accepted({"import", "gunicorn.conf.py"}).import_file, "gunicorn.conf.py");
  const CommandLine line =
      accepted({"import", "--", "gunicorn", "--help", "-c", "stop", "--", "--workers"});
  EXPECT_EQ(line.verb, Verb::import_settings);
  EXPECT_EQ(line.import_words, (Texts{"gunicorn", "--help", "-c", "stop", "--", "--workers"}));
  EXPECT_FALSE(line.import_file);
  EXPECT_NE(refused({"import"}).find("FILE"), std::string::npos);
  EXPECT_NE(refused({"import", "a", "--", "gunicorn"}).find("exclude"), std::string::npos);
  EXPECT_NE(refused({"import", "a", "b"}), "accepted");
  EXPECT_NE(refused({"import", "--workers", "2"}), "accepted");
}

TEST(CommandLine, helps_everywhere) {
  const std::string top = help({"--help"});
  for (const char* verb : {"run", "check", "config", "status", "metrics", "ready", "scale",
                           "reload", "restart", "stop", "upgrade", "import", "drain", "undrain",
                           "reopen", "log-level", "events", "version"}) {
    EXPECT_NE(top.find(verb), std::string::npos) << verb;
    EXPECT_NE(help({verb, "--help"}).find(verb), std::string::npos) << verb;
  }
  EXPECT_NE(help({"run", "--help"}).find("--keep-alive"), std::string::npos);
}

TEST(CommandLine, the_version_has_a_flag_and_a_command) {
  EXPECT_EQ(accepted({"--version"}).verb, Verb::version);
  EXPECT_EQ(accepted({"version"}).verb, Verb::version);
}

TEST(CommandLine, help_for_what_is_no_command_is_refused) {
  EXPECT_TRUE(refused({"top", "--help"}).starts_with("mgr: unknown command 'top'"));
}

TEST(CommandLine, a_flag_before_the_command_is_told_where_it_belongs) {
  EXPECT_NE(refused({"--workers", "run", "a:b"}).find("it comes after the command"),
            std::string::npos);
}

}  // namespace
}  // namespace mgr::cli

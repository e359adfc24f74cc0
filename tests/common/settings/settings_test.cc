#include "common/settings/settings.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/settings/application_name.h"

namespace mgr {
namespace {

using namespace std::chrono_literals;

Settings unusual() {
  Settings settings;
  settings.app = "pkg.main:make()";
  settings.interface = Interface::asgi2;
  settings.env = {{"A", "1,2=3"}, {"B", ""}};
  settings.bind = {":0", "unix:/run/a b.sock"};
  settings.socket_mode = 0600;
  settings.workers = 7;
  settings.preload = PreloadMode::off;
  settings.boot_timeout = 1500ms;
  settings.crash_backoff = {250ms, 90s};
  settings.limit_body = 12345;
  settings.forwarded = ForwardedFamily::off;
  settings.trusted_proxies = {};
  settings.server_header = false;
  settings.log_level = LogLevel::error;
  settings.access_log = "-";
  settings.config_file = "/etc/mgr/shop.yaml";
  return settings;
}

TEST(Settings, come_back_from_json_as_they_were) {
  for (const Settings& settings : {Settings{}, unusual()}) {
    const Result<Settings> back = Settings::from_json(settings.to_json());
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(back->to_json(), settings.to_json());
  }
  const Settings back = *Settings::from_json(unusual().to_json());
  EXPECT_EQ(back.crash_backoff.longest, 90s);
  EXPECT_EQ(back.env, unusual().env);
  EXPECT_EQ(back.config_file, "/etc/mgr/shop.yaml");
}

TEST(Settings, from_json_names_what_is_wrong) {
  EXPECT_EQ(Settings::from_json({{"nope", 1}}).error().message(), "nope: unknown setting");
  EXPECT_EQ(Settings::from_json({{"workers", 1000}}).error().message(),
            "workers: '1000' is out of range; allowed: auto or 1 to 512");
  EXPECT_FALSE(Settings::from_json({{"workers", nullptr}}));
  EXPECT_FALSE(Settings::from_json(nlohmann::json::array()));
}

TEST(DerivedName, is_the_given_one_first) {
  Settings settings = unusual();
  settings.name = "given";
  EXPECT_EQ(settings.derived_name(), "given");
}

TEST(DerivedName, is_the_stem_of_the_configuration_file) {
  EXPECT_EQ(unusual().derived_name(), "shop");
  Settings settings;
  settings.config_file = "/etc/my app.conf.yaml";
  EXPECT_EQ(settings.derived_name(), "my-app.conf");
  settings.config_file = "/etc/.yaml";
  EXPECT_EQ(settings.derived_name(), ".yaml");
}

TEST(DerivedName, is_application_and_first_address_without_a_file) {
  Settings settings;
  settings.app = "pkg.main:app";
  EXPECT_EQ(settings.derived_name(), "pkg.main-8000");
  settings.bind = {"unix:/run/web.sock", ":80"};
  EXPECT_EQ(settings.derived_name(), "pkg.main-web");
  settings.bind = {"unix:@x/y"};
  EXPECT_EQ(settings.derived_name(), "pkg.main-x-y");
  settings.bind = {"fd://3"};
  EXPECT_EQ(settings.derived_name(), "pkg.main-fd3");
  settings.app = "build/shop.so:second";
  EXPECT_EQ(settings.derived_name(), "shop-fd3");
}

TEST(LibraryName, is_a_path_and_what_the_library_exports) {
  const auto plain = settings::library_named_by("build/hello.so");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->path, "build/hello.so");
  EXPECT_EQ(plain->symbol, "mgr_application");
  const auto named = settings::library_named_by("/opt/a:b/lib.so:second_1");
  ASSERT_TRUE(named);
  EXPECT_EQ(named->path, "/opt/a:b/lib.so");
  EXPECT_EQ(named->symbol, "second_1");
}

TEST(LibraryName, is_not_what_names_a_python_application) {
  for (const char* app : {"", "main", "main:app", "pkg.so.main:app", ".so", "lib.so:", "lib.so:1st",
                          "lib.so:a b", "lib.so:factory()", "a\n.so"}) {
    EXPECT_FALSE(settings::library_named_by(app)) << app;
  }
}

}  // namespace
}  // namespace mgr

#include "manager/supervisor/source_files.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "common/settings/application_name.h"

namespace mgr::manager {

SourceFiles source_files_of(const Settings& settings) {
  SourceFiles sources;
  const std::filesystem::path base = settings.chdir;
  const auto add = [&](const std::filesystem::path& path) {
    std::error_code error;
    const bool tree = std::filesystem::is_directory(path, error);
    (tree ? sources.trees : sources.files).push_back(path.lexically_normal().string());
  };
  if (settings.reload_paths.empty()) add(base);
  for (const auto& path : settings.reload_paths) add(base / path);
  if (const auto library = settings::library_named_by(settings.app)) add(base / library->path);
  if (!settings.env_file.empty()) add(base / settings.env_file);
  if (!settings.config_file.empty()) add(settings.config_file);
  return sources;
}

bool is_source_name(std::string_view name) {
  return name.ends_with(".py") && !name.starts_with('.') && !name.starts_with('#');
}

bool is_source_directory(std::string_view name) {
  constexpr std::array<std::string_view, 4> kIgnored{"__pycache__", "node_modules", "site-packages",
                                                     "venv"};
  return !name.starts_with('.') &&
         std::find(kIgnored.begin(), kIgnored.end(), name) == kIgnored.end();
}

}  // namespace mgr::manager

mgr_common_test(settings_test
  settings/address_test.cc
  settings/control_path_test.cc
  settings/cpus_test.cc
  settings/env_file_test.cc
  settings/interpreter_test.cc
  settings/settings_test.cc
  settings/table_test.cc
  settings/value_test.cc
)

mgr_common_test(settings_sources_test
  settings/environment_test.cc
  settings/loader_test.cc
  settings/reference_test.cc
  settings/schema_test.cc
  settings/yaml_file_test.cc
  settings/yaml_output_test.cc
)
target_link_libraries(settings_sources_test PRIVATE mgr_settings_sources)

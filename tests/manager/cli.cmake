add_executable(cli_test
  cli/client_test.cc
  cli/command_line_test.cc
  cli/commands_test.cc
  cli/event_lines_test.cc
  cli/find_supervisor_test.cc
  cli/status_table_test.cc
)
target_link_libraries(cli_test PRIVATE mgr_cli GTest::gtest_main Threads::Threads)
gtest_discover_tests(cli_test DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 120)

if(TARGET mgr)
  find_program(SYSTEM_PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
  add_test(NAME readme_has_the_settings_reference_that_the_program_prints
           COMMAND ${SYSTEM_PYTHON3} ${CMAKE_SOURCE_DIR}/tests/manager/reference_test.py
                   $<TARGET_FILE:mgr> ${CMAKE_SOURCE_DIR}/README.md)
  set_tests_properties(readme_has_the_settings_reference_that_the_program_prints
                       PROPERTIES TIMEOUT 60)
  add_test(NAME bad_command_lines_get_one_clear_line_and_the_status_of_the_contract
           COMMAND ${SYSTEM_PYTHON3} ${CMAKE_SOURCE_DIR}/tests/manager/cli/bad_input_test.py
                   $<TARGET_FILE:mgr>)
  set_tests_properties(bad_command_lines_get_one_clear_line_and_the_status_of_the_contract
                       PROPERTIES TIMEOUT 120)
endif()

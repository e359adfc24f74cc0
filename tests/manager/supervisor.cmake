add_executable(supervisor_test
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/active_clock_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/backoff_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/busy_ratios_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/core_file_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/events_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/inherited_sockets_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/hangs_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/lifecycle_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/listeners_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/metrics_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/notify_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/pidfile_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/program_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/recycling_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/restarts_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/scaling_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/saved_state_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/stack_answer_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/text_writer_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/totals_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/traffic_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/upgrade_change_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/supervisor/worker_state_test.cc
)
target_link_libraries(supervisor_test PRIVATE mgr_manager GTest::gtest_main)
gtest_discover_tests(supervisor_test DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 60)

add_executable(import_test
  ${CMAKE_CURRENT_SOURCE_DIR}/import/foreign_command_line_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/import/settings_file_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/import/translation_test.cc
)
target_link_libraries(import_test PRIVATE mgr_import GTest::gtest_main)
gtest_discover_tests(import_test DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 60)

if(TARGET mgr)
  add_test(NAME import_knows_every_setting_of_the_gunicorn_and_uvicorn_that_debian_has
           COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider --tb=short
                   ${CMAKE_CURRENT_SOURCE_DIR}/import/import_test.py)
  set_tests_properties(import_knows_every_setting_of_the_gunicorn_and_uvicorn_that_debian_has
    PROPERTIES TIMEOUT 300 ENVIRONMENT "MGR_BIN=$<TARGET_FILE:mgr>;PYTHONDONTWRITEBYTECODE=1")
endif()

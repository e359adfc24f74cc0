mgr_common_test(server_test
  server/support.cc
  server/basics_test.cc
)

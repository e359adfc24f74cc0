mgr_common_test(server_test
  server/support.cc
  server/basics_test.cc
  server/connection_test.cc
  server/pipelining_test.cc
  server/refusals_test.cc
  server/response_test.cc
)

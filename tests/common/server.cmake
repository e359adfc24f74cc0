mgr_common_test(server_test
  server/access_log_test.cc
  server/basics_test.cc
  server/connection_test.cc
  server/forwarded_test.cc
  server/fuzz_test.cc
  server/listener_test.cc
  server/pipelining_test.cc
  server/refusals_test.cc
  server/response_test.cc
  server/support.cc
)

mgr_common_test(server_allocations_test
  server/allocations_test.cc
  server/support.cc
)

# mgr_add_application(NAME SOURCE…): builds NAME.so, which `mgr run path/to/NAME.so` serves. An
# ordinary target: target_link_libraries() and its like apply.
function(mgr_add_application name)
  if(NOT ARGN)
    message(FATAL_ERROR "mgr_add_application(${name}): no sources; expected NAME SOURCE…")
  endif()
  add_library(${name} MODULE ${ARGN})
  target_link_libraries(${name} PRIVATE mgr::sdk)
  # Coroutines need C++20. Only the application is to be seen from outside, so that nothing of it
  # meets another copy in the worker.
  set_target_properties(${name} PROPERTIES
    PREFIX "" SUFFIX ".so"
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
endfunction()

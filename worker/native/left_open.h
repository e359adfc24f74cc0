#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace mgr::native {

// What loading an application leaves open that must not be shared by forked workers. The rules are
// those of worker/python/mgr_host/left_open.py.
class LeftOpen {
 public:
  // What is open now.
  LeftOpen();
  // What has come since, as phrases for people: "thread 'reporter'", "listening socket
  // 127.0.0.1:9999", "epoll descriptor 9".
  std::vector<std::string> since() const;

 private:
  std::set<std::string> threads_;
  std::map<int, std::string> descriptors_;
};

}  // namespace mgr::native

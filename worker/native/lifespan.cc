#include "worker/native/lifespan.h"

#include <utility>

namespace mgr::native {
namespace {

std::string last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return "StartupFailed";
  text = text.substr(0, end + 1);
  const std::size_t line = text.find_last_of('\n');
  return std::string(line == std::string_view::npos ? text : text.substr(line + 1));
}

}  // namespace

Lifespan::Lifespan(Dispatcher& dispatcher, LifespanMode mode)
    : Call(MGR_SCOPE_LIFESPAN), dispatcher_(dispatcher), mode_(mode) {}

void Lifespan::start_up() {
  if (mode_ == LifespanMode::off) {
    started_ = true;
    return;
  }
  event_ = MGR_MESSAGE_STARTUP;
  running_ = true;
  dispatcher_.start(*this);
}

void Lifespan::shut_down() {
  if (!running_ || startup_ != Said::complete) {
    stopped_ = true;
    return;
  }
  event_ = MGR_MESSAGE_SHUTDOWN;
  if (std::exchange(waiting_, false)) dispatcher_.wake(*this);
}

void Lifespan::cancel() {
  if (std::exchange(running_, false)) dispatcher_.cancel(*this);
}

const mgr_field* Lifespan::headers(std::size_t& count) {
  count = 0;
  return nullptr;
}

bool Lifespan::receive(mgr_message& message) {
  message = {std::exchange(event_, 0), 0, {}};
  told_ = told_ || message.type == MGR_MESSAGE_STARTUP;
  waiting_ = message.type == 0;
  return !waiting_;
}

int Lifespan::send_head(int, const mgr_field*, std::size_t) {
  answered_ = true;
  return MGR_SENT_WRONG_SCOPE;
}

int Lifespan::send_body(std::string_view, bool) {
  answered_ = true;
  return MGR_SENT_WRONG_SCOPE;
}

int Lifespan::flow() const {
  return MGR_FLOW_OPEN;
}

int Lifespan::say(Said& phase, bool& over, Said said) {
  if (phase != Said::nothing) return MGR_SENT_WRONG_ORDER;
  phase = said;
  over = true;
  return MGR_SENT;
}

int Lifespan::send_lifespan(int message, std::string_view text) {
  if (message >= MGR_SHUTDOWN_COMPLETE && startup_ != Said::complete) return MGR_SENT_WRONG_ORDER;
  switch (message) {
    case MGR_STARTUP_COMPLETE:
      return say(startup_, started_, Said::complete);
    case MGR_STARTUP_FAILED:
      if (startup_ == Said::nothing) {
        failure_ = {"the application's start-up failed: " + last_line(text), std::string(text)};
      }
      return say(startup_, started_, Said::failed);
    case MGR_SHUTDOWN_COMPLETE:
      return say(shutdown_, stopped_, Said::complete);
    case MGR_SHUTDOWN_FAILED:
      if (shutdown_ == Said::nothing) {
        dispatcher_.log().error("the application's shutdown failed: {}", text);
      }
      return say(shutdown_, stopped_, Said::failed);
    default:
      return MGR_SENT_WRONG_SCOPE;
  }
}

void Lifespan::finished(int outcome, std::string_view type, std::string_view what) {
  running_ = false;
  started_ = stopped_ = true;
  if (outcome == MGR_RETURNED) return;
  const std::string raised = describe_exception(type, what);
  if (startup_ == Said::complete) {
    if (shutdown_ != Said::failed) dispatcher_.log().error("lifespan failed: {}", raised);
  } else if (startup_ == Said::nothing && mode_ == LifespanMode::on) {
    failure_ = {"lifespan failed: " + raised, raised};
  } else if (startup_ == Said::nothing && told_ && !answered_) {
    // One that has no lifespan seldom listens before it fails.
    dispatcher_.log().warning(
        "the application's start-up failed: {}; by `lifespan: auto` it is taken for one without "
        "lifespan and served",
        raised);
  } else if (startup_ == Said::nothing) {
    dispatcher_.log().info("the application does not support lifespan ({})", raised);
  }
}

}  // namespace mgr::native

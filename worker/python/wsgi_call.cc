#include "worker/python/wsgi_call.h"

#include <algorithm>
#include <utility>

#include "worker/python/wsgi_host.h"

namespace mgr::python {

using server::Exchange;

void WsgiCall::drop(By who) {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  if (who == By::loop) {
    host_.give_back(*this);
  } else {
    delete this;
  }
}

void WsgiCall::reset() {
  head.status = 0;
  stage_ = Stage::over;
  sending_.clear();
  incoming_.clear();
  queued_.clear();
  in_.clear();
  large_ = {};
  file_.reset();
  in_used_ = 0;
  body_given_ = 0;
  head_sent_ = blocked_ = feeding_ = asked_ = false;
  has_large_ = last_ = done_ = false;
  large_waits_ = last_queued_ = input_complete_ = input_wanted_ = false;
  lost_ = complete_ = failed_ = finished_ = parked_ = marked_ = false;
  running_ = stuck_ = false;
  head_given_ = last_given_ = is_lent_ = false;
}

// ---- the loop's side

void WsgiCall::begin(Exchange& exchange) {
  reset();
  exchange_ = &exchange;
  stage_ = Stage::gathering;
  input_complete_ = !exchange.request().has_body;
  exchange.set_observer(this);
  if (!input_complete_) feed();
  if (stage_ != Stage::gathering || !is_ready()) return;
  stage_ = Stage::queued;
  host_.enqueue(*this);
}

// A short body is awaited, so that slow clients hold no thread; a long one, one of unknown length,
// and one that the client sends on request, are the application's to wait for.
bool WsgiCall::is_ready() const {
  if (input_complete_) return true;
  bool short_body = false;
  for (const server::HeaderField& field : exchange_->request().headers) {
    if (field.name == "expect") return true;
    if (field.name == "content-length") {
      short_body = field.value.size() < 6 && std::stoul(std::string(field.value)) <= kInputAhead;
    }
  }
  return !short_body;
}

// Moves what has come of the body to where the application finds it.
void WsgiCall::feed() {
  if (feeding_ || !exchange_ || input_complete_) return;
  feeding_ = true;
  for (;;) {
    const std::string_view body = exchange_->body();
    std::size_t count = 0;
    {
      const auto lock = host_.lock();
      count = std::min(body.size(), kInputAhead - std::min(incoming_.size(), kInputAhead));
      incoming_.append(body.substr(0, count));
      input_complete_ = exchange_->body_complete() && count == body.size();
    }
    if (count == 0) break;
    exchange_->consume(count);
  }
  feeding_ = false;
}

void WsgiCall::on_body(Exchange&) noexcept {
  // Before the application has asked, the server's own limit holds.
  if (stage_ != Stage::gathering && !asked_) return;
  feed();
  if (stage_ == Stage::gathering && input_complete_) {
    stage_ = Stage::queued;
    host_.enqueue(*this);
  }
  tell();
}

void WsgiCall::on_drain(Exchange& exchange) noexcept {
  blocked_ = false;
  if (exchange.response_complete()) {
    done_ = true;
  } else {
    pump();
  }
  tell_and_attend_later();
}

void WsgiCall::on_disconnect(Exchange&) noexcept {
  lose();
  tell_and_attend_later();
}

// A thread can't be interrupted: the client has its answer, and the application finds it gone.
void WsgiCall::on_timeout(Exchange& exchange) noexcept {
  exchange.time_out();
  lose();
  {
    const auto lock = host_.lock();
    stuck_ = running_;
    if (stuck_) host_.count_stuck();
  }
  tell_and_attend_later();
}

// Wakes whoever waits. True: the call is to end.
bool WsgiCall::tell() {
  bool due;
  {
    const auto lock = host_.lock();
    complete_ = done_;
    if (done_) large_waits_ = false;
    if (parked_ && (lost_ || complete_)) {
      parked_ = false;
      host_.close_later(*this);
    }
    due = (finished_ && (complete_ || lost_)) || (lost_ && stage_ == Stage::gathering);
  }
  changed_.notify_all();
  host_.told();
  return due;
}

// From inside of an exchange's call, which leaves the end to attend().
void WsgiCall::tell_and_attend_later() {
  if (tell()) host_.attend_later(*this);
}

void WsgiCall::attend() {
  bool feed_now;
  bool failed;
  {
    const auto lock = host_.lock();
    feed_now = std::exchange(input_wanted_, false);
    failed = failed_;
  }
  if (feed_now && exchange_) {
    if (!std::exchange(asked_, true)) exchange_->want_body();
    feed();
  }
  pump();
  if (failed) answer_for_the_application();
  if (tell()) end();
}

void WsgiCall::end() {
  if (!exchange_) return;
  stage_ = Stage::over;
  {
    const auto lock = host_.lock();
    lost_ = true;
  }
  std::exchange(exchange_, nullptr)->release();
  drop(By::loop);
}

// RFC 9110 15.6.1, while nothing has been sent; else the client must notice that the end is
// missing.
void WsgiCall::answer_for_the_application() {
  if (lost_ || done_) return;
  if (exchange_->head_flushed()) {
    exchange_->abort();
  } else {
    exchange_->respond(500, "text/plain; charset=utf-8", "Internal Server Error");
  }
  done_ = true;
}

void WsgiCall::lose() {
  const auto lock = host_.lock();
  lost_ = true;
  large_waits_ = false;
  file_.reset();
}

// What the other side has left to be sent becomes the loop's. False: there is nothing.
bool WsgiCall::take_output() {
  const auto lock = host_.lock();
  sending_.swap(queued_);
  has_large_ = large_waits_;
  last_ = last_queued_;
  return !sending_.empty() || has_large_ || last_;
}

// Gives the exchange as much as it takes.
void WsgiCall::pump() {
  while (!blocked_ && !lost_ && !done_) {
    if (sending_.empty() && !has_large_ && !last_ && !take_output()) return;
    if (!head_sent_) send_head();
    if (lost_) return;
    if (!sending_.empty()) {
      took(exchange_->send_body(sending_, !last_ || has_large_));
      sending_.clear();
    } else if (has_large_) {
      send_slice();
    } else {
      took(exchange_->send_body({}, false));
    }
  }
}

void WsgiCall::send_slice() {
  if (file_) {
    has_large_ = false;
    took(exchange_->send_file(std::move(file_), file_offset_, file_count_, false));
    return;
  }
  const std::string_view slice = large_.substr(0, kSlice);
  const bool whole = slice.size() == large_.size();
  const auto result = exchange_->send_body(slice, !(whole && last_));
  large_.remove_prefix(slice.size());
  if (whole) {
    has_large_ = false;
    const auto lock = host_.lock();
    large_waits_ = false;
  }
  took(result);
}

void WsgiCall::send_head() {
  head_sent_ = true;
  std::vector<server::HeaderField>& fields = host_.scratch_fields();
  fields.clear();
  std::string_view rest = head.text;
  for (const WsgiHead::Field& field : head.fields) {
    fields.push_back(
        {rest.substr(0, field.name_size), rest.substr(field.name_size, field.value_size)});
    rest.remove_prefix(field.name_size + field.value_size);
  }
  took(exchange_->send_head(head.status, fields, head.reason));
}

void WsgiCall::took(Exchange::SendResult result) {
  switch (result) {
    case Exchange::SendResult::sent:
      break;
    case Exchange::SendResult::full:
      blocked_ = true;
      break;
    case Exchange::SendResult::closed:
      return lose();
    case Exchange::SendResult::too_long:
    case Exchange::SendResult::too_short:
    case Exchange::SendResult::bad_head:
    case Exchange::SendResult::wrong_order:
      // Start_response() and the count of the body have let nothing of this pass; but a file may
      // have been cut meanwhile.
      host_.log().error("{}: the response was broken off", line());
      exchange_->abort();
      return lose();
  }
  done_ = exchange_->response_complete();
}

// ---- the application's side

std::string WsgiCall::line() const {
  return std::string(request().method) + " " + std::string(request().target);
}

bool WsgiCall::lost() const {
  const auto lock = host_.lock();
  return lost_;
}

bool WsgiCall::wait(bool (WsgiCall::*ready)() const) {
  if (host_.is_direct()) {
    while (!(this->*ready)()) {
      if (!host_.turn()) return false;
    }
    return true;
  }
  Py_BEGIN_ALLOW_THREADS;
  {
    auto lock = host_.lock();
    changed_.wait(lock, [&] { return (this->*ready)(); });
  }
  Py_END_ALLOW_THREADS;
  return true;
}

WsgiCall::Sent WsgiCall::send(std::string_view data, bool last, Wake wake) {
  head_given_ = true;
  last_given_ = last;
  body_given_ += data.size();
  if (host_.is_direct()) return send_directly(data, last);
  auto lock = host_.lock();
  if (!has_room()) {
    lock.unlock();
    if (!wait(&WsgiCall::has_room)) return Sent::failed;
    lock.lock();
  }
  if (lost_) return Sent::closed;
  last_queued_ = last;
  if (data.size() <= kQueued) {
    queued_.append(data);
    if (wake == Wake::now) host_.attend_later(*this, std::move(lock));
    return Sent::taken;
  }
  large_ = data;
  large_waits_ = true;
  if (last) return lend(std::move(lock));
  host_.attend_later(*this, std::move(lock));
  if (!wait(&WsgiCall::large_is_taken)) return Sent::failed;
  return lost() ? Sent::closed : Sent::taken;
}

// With the lock.
void WsgiCall::leave_thread() {
  if (std::exchange(running_, false)) host_.count_idle();
  if (std::exchange(stuck_, false)) host_.uncount_stuck();
}

WsgiCall::Sent WsgiCall::lend(std::unique_lock<std::mutex> lock) {
  parked_ = is_lent_ = true;
  leave_thread();
  host_.attend_later(*this, std::move(lock));
  return Sent::lent;
}

WsgiCall::Sent WsgiCall::send_directly(std::string_view data, bool last) {
  if (lost_) return Sent::closed;
  last_queued_ = last;
  large_ = data;
  large_waits_ = !data.empty();
  pump();
  complete_ = done_;
  if (lost_) return Sent::closed;
  if (last && !complete_) {
    parked_ = is_lent_ = true;
    return Sent::lent;
  }
  if (!wait(&WsgiCall::large_is_taken)) return Sent::failed;
  return lost_ ? Sent::closed : Sent::taken;
}

WsgiCall::Sent WsgiCall::send_file(UniqueFd file, std::uint64_t offset, std::uint64_t count) {
  head_given_ = last_given_ = true;
  body_given_ += count;
  if (!wait(&WsgiCall::has_room)) return Sent::failed;
  auto lock = host_.lock();
  if (lost_) return Sent::closed;
  file_ = std::move(file);
  file_offset_ = offset;
  file_count_ = count;
  large_waits_ = last_queued_ = true;
  if (!host_.is_direct()) return lend(std::move(lock));
  pump();
  complete_ = done_;
  if (lost_) return Sent::closed;
  if (complete_) return Sent::taken;
  parked_ = is_lent_ = true;
  return Sent::lent;
}

void WsgiCall::fail() {
  if (last_given_) return;
  {
    const auto lock = host_.lock();
    failed_ = true;
  }
  if (host_.is_direct()) attend();
}

void WsgiCall::finish() {
  auto lock = host_.lock();
  finished_ = true;
  leave_thread();
  if (host_.is_direct()) {
    attend();
  } else {
    host_.attend_later(*this, std::move(lock));
  }
}

WsgiCall::Input WsgiCall::more_input() {
  in_.clear();
  in_used_ = 0;
  for (;;) {
    auto lock = host_.lock();
    const bool complete = input_complete_;
    if (!incoming_.empty()) {
      in_.swap(incoming_);
      // What follows comes while this is read.
      input_wanted_ = !complete;
      lock = {};
      if (!complete && !host_.is_direct()) host_.attend_later(*this);
      return Input::some;
    }
    if (complete) return Input::end;
    if (lost_ || complete_) return Input::closed;
    input_wanted_ = true;
    lock = {};
    if (host_.is_direct()) {
      attend();
    } else {
      host_.attend_later(*this);
    }
    if (!wait(&WsgiCall::input_is_known)) return Input::failed;
  }
}

}  // namespace mgr::python

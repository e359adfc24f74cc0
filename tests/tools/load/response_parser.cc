#include "tests/tools/load/response_parser.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace mgr::load {
namespace {

constexpr std::size_t kLongestLine = 64 * 1024;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool parse_number(std::string_view text, int base, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::size_t ResponseParser::feed(std::string_view data) {
  std::size_t taken = 0;
  while (taken < data.size() && !complete() && !malformed()) {
    const std::string_view rest = data.substr(taken);
    switch (state_) {
      case State::head:
      case State::chunk_head:
      case State::chunk_end:
      case State::trailers:
        taken += take_line(rest);
        break;
      case State::fixed_body:
        taken += take_body(rest, State::complete);
        break;
      case State::chunk_data:
        taken += take_body(rest, State::chunk_end);
        break;
      case State::body_until_eof:
        remaining_ = rest.size();
        taken += take_body(rest, State::body_until_eof);
        break;
      case State::complete:
      case State::malformed:
        break;
    }
  }
  bytes_seen_ += taken;
  return taken;
}

bool ResponseParser::finish_at_eof() {
  if (state_ == State::body_until_eof) state_ = State::complete;
  return complete();
}

void ResponseParser::reset() {
  std::string line = std::move(line_);
  std::string body = std::move(body_);
  line.clear();
  body.clear();
  *this = ResponseParser();
  line_ = std::move(line);
  body_ = std::move(body);
}

std::size_t ResponseParser::take_line(std::string_view data) {
  const std::size_t end = data.find('\n');
  const std::size_t taken = end == std::string_view::npos ? data.size() : end + 1;
  line_.append(data.substr(0, taken));
  if (line_.size() > kLongestLine) {
    state_ = State::malformed;
  } else if (end != std::string_view::npos) {
    finish_line();
    line_.clear();
  }
  return taken;
}

std::size_t ResponseParser::take_body(std::string_view data, State next) {
  const std::size_t taken = std::min<std::uint64_t>(data.size(), remaining_);
  if (body_.size() < kKeptBody)
    body_.append(data.substr(0, std::min(taken, kKeptBody - body_.size())));
  remaining_ -= taken;
  if (remaining_ == 0) state_ = next;
  return taken;
}

void ResponseParser::finish_line() {
  std::string_view line = line_;
  if (!line.ends_with("\r\n")) {
    state_ = State::malformed;
    return;
  }
  line.remove_suffix(2);
  if (state_ == State::chunk_head) {
    const std::string_view size = line.substr(0, line.find(';'));
    if (!parse_number(size, 16, remaining_)) {
      state_ = State::malformed;
    } else {
      state_ = remaining_ == 0 ? State::trailers : State::chunk_data;
    }
  } else if (state_ == State::chunk_end) {
    state_ = line.empty() ? State::chunk_head : State::malformed;
  } else if (state_ == State::trailers) {
    if (line.empty()) state_ = State::complete;
  } else if (!status_seen_) {
    take_status_line(line);
  } else if (line.empty()) {
    finish_head();
  } else {
    take_field(line);
  }
}

void ResponseParser::take_status_line(std::string_view line) {
  std::uint64_t status = 0;
  if (!line.starts_with("HTTP/1.") || line.size() < 12 || line[8] != ' ' ||
      !parse_number(line.substr(9, 3), 10, status)) {
    state_ = State::malformed;
    return;
  }
  http10_ = line[7] == '0';
  closes_ = http10_;
  status_ = static_cast<int>(status);
  status_seen_ = true;
}

void ResponseParser::take_field(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) {
    state_ = State::malformed;
    return;
  }
  const std::string name = lower(line.substr(0, colon));
  const std::string value = lower(trim(line.substr(colon + 1)));
  if (name == "content-length") {
    has_length_ = parse_number(value, 10, remaining_);
    if (!has_length_) state_ = State::malformed;
  } else if (name == "transfer-encoding") {
    chunked_ = value == "chunked";
  } else if (name == "connection") {
    if (value.find("close") != std::string::npos) closes_ = true;
    if (value.find("keep-alive") != std::string::npos) closes_ = false;
  }
}

void ResponseParser::finish_head() {
  if (status_ >= 100 && status_ < 200) {
    const std::uint64_t seen = bytes_seen_;
    reset();
    bytes_seen_ = seen;
  } else if (status_ == 204 || status_ == 304) {
    state_ = State::complete;
  } else if (chunked_) {
    state_ = State::chunk_head;
  } else if (has_length_) {
    state_ = remaining_ == 0 ? State::complete : State::fixed_body;
  } else {
    closes_ = true;
    state_ = State::body_until_eof;
  }
}

}  // namespace mgr::load

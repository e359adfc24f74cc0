#pragma once

namespace mgr::ipc {

// The descriptors that the supervisor gives to a mold across exec, by number. Standard output and
// standard error are the supervisor's own (1 and 2).
inline constexpr int kChannelFd = 3;     // SEQPACKET channel to the supervisor
inline constexpr int kSettingsFd = 4;    // sealed memfd: one JSON document, MoldOrder
inline constexpr int kScoreboardFd = 5;  // memfd of the scoreboard, sealed against resizing
inline constexpr int kLogFd = 6;         // where log records go (a duplicate of 2 without log_file)
inline constexpr int kAccessLogFd = 7;   // where access log lines go; closed when access_log is off
inline constexpr int kFirstFreeFd = 8;

}  // namespace mgr::ipc

#pragma once

namespace mgr::worker {

// TERM, INT and HUP, which service managers and terminals send to whole groups, are the
// supervisor's to obey: mold and worker hear of a stop by their channel. They are caught by an
// empty handler and not ignored, since an ignored signal would stay ignored in the programs that
// the application runs.
void disregard_group_signals();
// Default actions again: the supervisor is gone, or this is a process that the application forked.
void regard_group_signals();

// Keeps them pending in this thread, and undoes that. Not nested.
void block_group_signals();
void unblock_group_signals();

// Dispositions of the signals on which a worker's life depends, to put them back after foreign code
// ran.
class SignalDispositions {
 public:
  SignalDispositions();
  ~SignalDispositions();
  SignalDispositions(const SignalDispositions&) = delete;
  void restore() const;

 private:
  struct Saved;
  Saved* saved_;
};

}  // namespace mgr::worker

/* The boundary between mgr's worker and a library with an application: plain C, so that the two may
 * be built by different compilers. Applications are written against <mgr/application.h>.
 *
 * The library exports one object, `mgr_application` unless it is given another name. The worker
 * looks at `magic` and `abi` before anything else, and refuses a library of another version: every
 * change of this file that an older reader would misunderstand counts MGR_ABI_VERSION up.
 *
 * All functions of both tables are called on the thread of the worker's loop, between two turns of
 * it, but mgr_job::run. None may let an exception out. Texts are not terminated.
 */
#ifndef MGR_ABI_H
#define MGR_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MGR_ABI_MAGIC UINT32_C(0x4152474d)
#define MGR_ABI_VERSION UINT32_C(1)

typedef struct mgr_text {
  const char* data;
  size_t size;
} mgr_text;

typedef struct mgr_field {
  mgr_text name; /* lower-case in requests */
  mgr_text value;
} mgr_field;

typedef struct mgr_endpoint {
  mgr_text host; /* numeric address, or a Unix socket's path; data is null where it is unknown */
  int32_t port;  /* -1: a Unix socket */
} mgr_endpoint;

enum { MGR_SCOPE_HTTP = 1, MGR_SCOPE_LIFESPAN = 2 };

/* ASGI's scope. Everything stays valid until the call has finished; a lifespan has `type` alone. */
typedef struct mgr_scope {
  uint32_t type;
  mgr_text http_version; /* 1.0, 1.1 */
  mgr_text method;
  mgr_text scheme;
  mgr_text path; /* percent-decoded, after root_path */
  mgr_text raw_path;
  mgr_text query_string;
  mgr_text root_path;
  mgr_endpoint client;
  mgr_endpoint server;
} mgr_scope;

/* One call of the application: a request, or the lifespan. The worker's, from call() until the
 * library says finished(), or until cancel() returns. */
typedef struct mgr_call {
  mgr_scope scope;
  void* task; /* the library's own */
} mgr_call;

enum {
  MGR_MESSAGE_REQUEST = 1, /* a part of the body */
  MGR_MESSAGE_DISCONNECT = 2,
  MGR_MESSAGE_STARTUP = 3,
  MGR_MESSAGE_SHUTDOWN = 4
};

typedef struct mgr_message {
  uint32_t type;
  uint32_t more_body;
  mgr_text body; /* valid until the next receive() of the same call */
} mgr_message;

enum {
  MGR_SENT = 0,
  MGR_SENT_FULL = 1,   /* taken; wait until flow() says otherwise */
  MGR_SENT_CLOSED = 2, /* the client is gone */
  MGR_SENT_TOO_LONG = 3,
  MGR_SENT_TOO_SHORT = 4,
  MGR_SENT_BAD_HEAD = 5,
  MGR_SENT_WRONG_ORDER = 6,
  MGR_SENT_WRONG_SCOPE = 7 /* not a message of this type of scope */
};

enum { MGR_FLOW_OPEN = 0, MGR_FLOW_FULL = 1, MGR_FLOW_GONE = 2 };

enum {
  MGR_STARTUP_COMPLETE = 1,
  MGR_STARTUP_FAILED = 2,
  MGR_SHUTDOWN_COMPLETE = 3,
  MGR_SHUTDOWN_FAILED = 4
};

enum { MGR_RETURNED = 0, MGR_RAISED = 1, MGR_DISCONNECTED = 2 };

/* Work for the worker's thread pool. The library owns it; the worker uses `next` and `previous`
 * between submit() and done(). */
typedef struct mgr_job {
  void (*run)(struct mgr_job* job);  /* on a thread of the pool */
  void (*done)(struct mgr_job* job); /* afterwards, on the loop's thread */
  struct mgr_job* next;
  struct mgr_job* previous;
} mgr_job;

/* What the worker offers. */
typedef struct mgr_host_table {
  uint32_t abi;
  uint32_t size; /* of this table */

  const mgr_field* (*headers)(mgr_call* call, size_t* count);
  /* 1: `message` is filled; 0: there is none yet, wake() follows. */
  int (*receive)(mgr_call* call, mgr_message* message);
  int (*send_head)(mgr_call* call, int status, const mgr_field* headers, size_t count);
  int (*send_body)(mgr_call* call, mgr_text body, int more_body);
  int (*send_lifespan)(mgr_call* call, int message, mgr_text text);
  /* After MGR_SENT_FULL; wake() follows when it is no longer full. */
  int (*flow)(mgr_call* call);
  /* The application's last word on this call, which the library may not touch any more. `type` and
   * `what` describe what it raised. */
  void (*finished)(mgr_call* call, int outcome, mgr_text type, mgr_text what);

  /* run_timers() in so many nanoseconds (instead of what was asked for before); below 0: never. */
  void (*set_timer)(void* worker, int64_t nanoseconds);
  void (*submit)(void* worker, mgr_job* job);
  /* 1: the job had not begun, and will not; 0: it runs or has run, done() follows. */
  int (*withdraw)(void* worker, mgr_job* job);
} mgr_host_table;

/* What the library exports. */
typedef struct mgr_application_table {
  uint32_t magic;
  uint32_t abi;
  uint32_t size; /* of this table */

  /* Once in each worker process, before anything else; null: it failed. */
  void* (*open)(const mgr_host_table* host, void* worker);
  void (*call)(void* application, mgr_call* call);
  /* What receive() or flow() waited for may have come. */
  void (*wake)(void* application, mgr_call* call);
  /* Ends the call where it stands: its destructors run. finished() does not follow. */
  void (*cancel)(void* application, mgr_call* call);
  void (*run_timers)(void* application);
  /* No call is left. */
  void (*close)(void* application);
} mgr_application_table;

#ifdef __cplusplus
}
#endif

#endif

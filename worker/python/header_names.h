#pragma once

#include <cstdint>
#include <string_view>

namespace mgr::python {

// Names that header fields of requests usually have, for which objects are made beforehand.
inline constexpr std::string_view kCommonHeaderNames[] = {"accept",
                                                          "accept-charset",
                                                          "accept-encoding",
                                                          "accept-language",
                                                          "authorization",
                                                          "cache-control",
                                                          "connection",
                                                          "content-encoding",
                                                          "content-length",
                                                          "content-type",
                                                          "cookie",
                                                          "date",
                                                          "dnt",
                                                          "expect",
                                                          "forwarded",
                                                          "from",
                                                          "host",
                                                          "if-match",
                                                          "if-modified-since",
                                                          "if-none-match",
                                                          "if-range",
                                                          "if-unmodified-since",
                                                          "keep-alive",
                                                          "origin",
                                                          "pragma",
                                                          "priority",
                                                          "proxy-authorization",
                                                          "range",
                                                          "referer",
                                                          "sec-ch-ua",
                                                          "sec-ch-ua-mobile",
                                                          "sec-ch-ua-platform",
                                                          "sec-fetch-dest",
                                                          "sec-fetch-mode",
                                                          "sec-fetch-site",
                                                          "sec-fetch-user",
                                                          "te",
                                                          "traceparent",
                                                          "tracestate",
                                                          "trailer",
                                                          "transfer-encoding",
                                                          "upgrade",
                                                          "upgrade-insecure-requests",
                                                          "user-agent",
                                                          "via",
                                                          "x-api-key",
                                                          "x-correlation-id",
                                                          "x-csrf-token",
                                                          "x-forwarded-for",
                                                          "x-forwarded-host",
                                                          "x-forwarded-port",
                                                          "x-forwarded-proto",
                                                          "x-real-ip",
                                                          "x-request-id",
                                                          "x-requested-with"};

inline std::size_t hash_of_name(std::string_view name) {
  std::uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash ^ (hash >> 16);
}

}  // namespace mgr::python

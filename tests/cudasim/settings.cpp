#include "settings.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cudasim {

namespace {

[[noreturn]] void senseless(const char* name, const char* value, const char* wanted) {
  std::fprintf(stderr, "cudasim: %s=%s: it takes %s\n", name, value, wanted);
  std::exit(1);
}

uint64_t number(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  if (!value || !*value) return otherwise;
  char* end;
  uint64_t x = std::strtoull(value, &end, 0);
  if (*end) senseless(name, value, "a number");
  return x;
}

// launch:17,alloc:3
void read_faults(Settings& s) {
  const char* value = std::getenv("CUDASIM_FAIL");
  if (!value || !*value) return;
  std::string text = value;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find(',', at), colon = text.find(':', at);
    if (end == std::string::npos) end = text.size();
    std::string kind = text.substr(at, (colon < end ? colon : end) - at);
    uint64_t count = colon < end ? std::strtoull(text.c_str() + colon + 1, nullptr, 10) : 1;
    uint64_t* which = kind == "launch"  ? &s.fail_launch
                      : kind == "graph" ? &s.fail_graph
                      : kind == "alloc" ? &s.fail_alloc
                      : kind == "load"  ? &s.fail_load
                      : kind == "lost"  ? &s.lost_after
                                        : nullptr;
    if (!which || count == 0)
      senseless("CUDASIM_FAIL", value, "launch:N, graph:N, alloc:N, load:N and lost:N, with commas between");
    *which = count;
    at = end + 1;
  }
}

}  // namespace

const Settings& settings() {
  static const Settings read = [] {
    Settings s;
    s.arch = int(number("CUDASIM_ARCH", 80));
    if (s.arch != 80 && s.arch != 86 && s.arch != 89 && s.arch != 90 && s.arch != 100 && s.arch != 120)
      senseless("CUDASIM_ARCH", std::getenv("CUDASIM_ARCH"), "80, 86, 89, 90, 100 or 120");
    s.driver_version = int(number("CUDASIM_DRIVER", uint64_t(s.driver_version)));
    s.devices = int(number("CUDASIM_DEVICES", 1));
    s.memory = number("CUDASIM_MEMORY", s.memory);
    s.check = number("CUDASIM_CHECK", 1) != 0;
    s.manages_virtual_memory = number("CUDASIM_VMM", 1) != 0;
    s.poison = static_cast<unsigned char>(number("CUDASIM_POISON", 0xff));
    s.seed = number("CUDASIM_SEED", 1);
    s.leaks = number("CUDASIM_LEAKS", 0) != 0;
    const char* cache = std::getenv("CUDASIM_CACHE");
    s.cache = cache && *cache ? cache : CUDASIM_SOURCES "/../../build/cudasim/kernels";
    const char* launches = std::getenv("CUDASIM_LAUNCHES");
    s.launches = launches ? launches : "";
    read_faults(s);
    return s;
  }();
  return read;
}

}  // namespace cudasim

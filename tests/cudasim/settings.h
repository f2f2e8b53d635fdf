// What the environment says of the simulated card: see README.md.
#pragma once
#include <cstdint>
#include <string>

namespace cudasim {

struct Settings {
  int arch = 80;
  int driver_version = 12080;
  int devices = 1;
  uint64_t memory = uint64_t(8) << 30;
  bool check = true;
  bool manages_virtual_memory = true;
  unsigned char poison = 0xff;
  uint64_t seed = 1;
  bool leaks = false;
  std::string cache;
  std::string launches;  // a file; empty: none
  // The call of its kind that fails, counted from 1; 0: none.
  uint64_t fail_launch = 0, fail_graph = 0, fail_alloc = 0, fail_load = 0, lost_after = 0;
};

// Read at the first call. Ends the process when a value makes no sense.
const Settings& settings();

// xorshift64*.
struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull) {
    if (state == 0) state = 1;
  }
  uint64_t next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
  }
  uint32_t below(uint32_t n) { return uint32_t((next() >> 32) * n >> 32); }
};

}  // namespace cudasim

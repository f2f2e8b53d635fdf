// PTX to C++: a module's text becomes one C++ source a kernel, written with ptx.h.
#pragma once
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cudasim {

// A PTX instruction, as a message names it.
struct Site {
  int line;
  std::string text;
};

struct SharedVariable {
  std::string name;
  unsigned offset, bytes;
};

struct Parameter {
  unsigned offset, bytes;
};

struct KernelCode {
  std::string name, code;
  std::vector<Parameter> parameters;
  unsigned parameter_bytes = 0;
  std::vector<Site> sites;
  std::vector<SharedVariable> shared;  // of fixed size; gaps between them belong to none
  unsigned shared_bytes = 0;           // what a card needs for these
  unsigned dynamic_start = 0;          // where dynamic shared memory begins
  unsigned most_threads = 1024;        // of a block
  bool meets = false;                  // its threads wait for each other somewhere
  std::vector<std::string> globals;    // whose addresses it wants, in the order of cudasim_globals
};

struct GlobalVariable {
  uint64_t align = 1;
  std::vector<unsigned char> data;
  bool initialised = false;
  std::vector<std::pair<uint64_t, std::string>> addresses;  // of other variables, at these offsets
};

struct Program {
  int version = 0;  // 80: PTX 8.0
  int target = 0;   // 90: sm_90
  std::map<std::string, GlobalVariable> globals;
  std::map<std::string, KernelCode> kernels;
};

// The text is no PTX.
struct BadPtx : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Version and target alone.
Program head_of(const std::string& ptx);

// Ends the process when an instruction is not known: it must be taught first. Checks are part of the code when wanted.
Program translate(const std::string& ptx, bool checks);

}  // namespace cudasim

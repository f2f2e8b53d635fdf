// A module on the simulated card: its variables, and its kernels as code of this machine.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "ptx.h"
#include "translate.h"

namespace cudasim {

struct Module;

struct Kernel {
  KernelCode code;
  Module* module = nullptr;
  unsigned most_dynamic = 48 << 10;  // bytes of dynamic shared memory that a launch may ask for
  // Once it has been compiled:
  void (*run)(Thread*) = nullptr;
  Range* ranges = nullptr;
  u64 deaths = 0;  // of memory when the ranges were last empty
};

struct Module {
  std::map<std::string, std::unique_ptr<Kernel>> kernels;
  std::map<std::string, u64> variables;
};

// Throws BadPtx.
std::unique_ptr<Module> load_module(const std::string& ptx);

// Compiles it if that has not been done, or takes it from the cache.
void compile(Kernel& kernel, const Runtime& runtime);

// A kernel's name as C++ has it.
std::string readable(const std::string& name);

}  // namespace cudasim

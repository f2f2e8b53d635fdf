#include "module.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "memory.h"
#include "settings.h"

namespace cudasim {

namespace {

// -ffp-contract=off: PTX says which products are fused.
const char* flags() {
  return __builtin_cpu_supports("fma")
             ? "-std=c++17 -O1 -w -fPIC -shared -ffp-contract=off -fwrapv -fno-strict-aliasing -fno-math-errno "
               "-march=x86-64-v3"
             : "-std=c++17 -O1 -w -fPIC -shared -ffp-contract=off -fwrapv -fno-strict-aliasing -fno-math-errno";
}

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// FNV-1a in 64 bits, twice: names of files, no secrets.
std::string hash_of(const std::string& text) {
  uint64_t a = 0xcbf29ce484222325ull, b = 0x9ae16a3b2f90404full;
  for (unsigned char c : text) {
    a = (a ^ c) * 0x100000001b3ull;
    b = (b ^ c) * 0x100000001b3ull + (b >> 29);
  }
  char hex[40];
  std::snprintf(hex, sizeof hex, "%016llx%016llx", static_cast<unsigned long long>(a),
                static_cast<unsigned long long>(b));
  return hex;
}

[[noreturn]] void stop(const std::string& what) {
  std::fprintf(stderr, "cudasim: %s\n", what.c_str());
  std::abort();
}

void make_folders(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    mkdir(path.substr(0, at).c_str(), 0777);
  mkdir(path.c_str(), 0777);
}

std::string quoted(const std::string& s) { return "'" + s + "'"; }

}  // namespace

std::string readable(const std::string& name) {
  int status;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string s = status == 0 ? text : name;
  std::free(text);
  // void swiglu_forward<float>(float*, …)
  if (s.compare(0, 5, "void ") == 0) s = s.substr(5);
  int depth = 0;
  for (size_t i = 0; i < s.size(); i++) {
    depth += (s[i] == '<') - (s[i] == '>');
    if (s[i] == '(' && depth == 0) return s.substr(0, i);
  }
  return s;
}

std::unique_ptr<Module> load_module(const std::string& ptx) {
  Program program = translate(ptx, settings().check);
  auto module = std::make_unique<Module>();
  for (auto& [name, g] : program.globals) {
    if (g.data.empty()) continue;
    u64 start;
    if (allocate(&start, g.data.size(), "a module's variable") != 0) throw BadPtx("no memory for " + name);
    // The PTX manual: what is not initialised is zero.
    std::memcpy(reinterpret_cast<void*>(start), g.data.data(), g.data.size());
    module->variables[name] = start;
  }
  for (auto& [name, g] : program.globals) {
    for (auto& [offset, of] : g.addresses) {
      auto at = module->variables.find(of);
      if (at == module->variables.end()) throw BadPtx(name + " has the address of " + of + ", which is no variable");
      std::memcpy(reinterpret_cast<char*>(module->variables[name]) + offset, &at->second, 8);
    }
  }
  for (auto& [name, code] : program.kernels) {
    auto kernel = std::make_unique<Kernel>();
    kernel->code = std::move(code);
    kernel->module = module.get();
    module->kernels[name] = std::move(kernel);
  }
  return module;
}

void compile(Kernel& kernel, const Runtime& runtime) {
  if (kernel.run) return;
  static const std::string header = text_of(CUDASIM_SOURCES "/ptx.h");
  const char* compiler = std::getenv("CXX");
  if (!compiler || !*compiler) compiler = "g++";
  std::string stem = settings().cache + "/" + hash_of(kernel.code.code + header + flags() + compiler);
  std::string library = stem + ".so";
  if (access(library.c_str(), R_OK) != 0) {
    make_folders(settings().cache);
    // Other processes may be at the same kernel.
    std::string mine = stem + "." + std::to_string(getpid()), source = mine + ".cpp";
    std::ofstream(source) << kernel.code.code;
    std::string command = std::string(compiler) + " " + flags() + " -I" + quoted(CUDASIM_SOURCES) + " -o " +
                          quoted(mine) + " " + quoted(source);
    if (std::system(command.c_str()) != 0)
      stop("the translation of kernel " + readable(kernel.code.name) + " does not compile: " + source);
    std::rename(source.c_str(), (stem + ".cpp").c_str());
    std::rename(mine.c_str(), library.c_str());
  }
  void* code = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!code) stop(dlerror());
  *static_cast<const Runtime**>(dlsym(code, "cudasim_runtime")) = &runtime;
  kernel.ranges = static_cast<Range*>(dlsym(code, "cudasim_ranges"));
  auto* globals = static_cast<u64*>(dlsym(code, "cudasim_globals"));
  for (auto& name : kernel.code.globals) *globals++ = kernel.module->variables[name];
  kernel.run = reinterpret_cast<void (*)(Thread*)>(dlsym(code, "cudasim_kernel"));
}

}  // namespace cudasim

#include "nvrtc.h"

#include <algorithm>
#include <sstream>

#include "../tensor.h"
#include "driver.h"
#include "libraries.h"

namespace tstrain::cuda {

namespace {

using Program = struct _nvrtcProgram*;

// FUNCTION(name, parameters), all of which return 0 for success.
#define TSTRAIN_NVRTC_FUNCTIONS(FUNCTION)                                                             \
  FUNCTION(nvrtcVersion, (int* major, int* minor))                                                    \
  FUNCTION(nvrtcGetNumSupportedArchs, (int* count))                                                   \
  FUNCTION(nvrtcGetSupportedArchs, (int* architectures))                                              \
  FUNCTION(nvrtcCreateProgram, (Program * program, const char* source, const char* name, int headers, \
                                const char* const* header_texts, const char* const* header_names))    \
  FUNCTION(nvrtcDestroyProgram, (Program * program))                                                  \
  FUNCTION(nvrtcAddNameExpression, (Program program, const char* expression))                         \
  FUNCTION(nvrtcCompileProgram, (Program program, int count, const char* const* options))             \
  FUNCTION(nvrtcGetLoweredName, (Program program, const char* expression, const char** name))         \
  FUNCTION(nvrtcGetProgramLogSize, (Program program, size_t* bytes))                                  \
  FUNCTION(nvrtcGetProgramLog, (Program program, char* log))                                          \
  FUNCTION(nvrtcGetPTXSize, (Program program, size_t* bytes))                                         \
  FUNCTION(nvrtcGetPTX, (Program program, char* ptx))                                                 \
  FUNCTION(nvrtcGetCUBINSize, (Program program, size_t* bytes))                                       \
  FUNCTION(nvrtcGetCUBIN, (Program program, char* code))

struct Api : Nvrtc {
#define TSTRAIN_MEMBER(name, parameters) int(*name) parameters;
  TSTRAIN_NVRTC_FUNCTIONS(TSTRAIN_MEMBER)
#undef TSTRAIN_MEMBER
};

const Api& api() {
  static const Api instance = [] {
    Api a{};
    Library library = open_library(sonames("libnvrtc", driver().version));
#define TSTRAIN_LOAD(name, parameters) a.name = reinterpret_cast<int(*) parameters>(library.function(#name));
    TSTRAIN_NVRTC_FUNCTIONS(TSTRAIN_LOAD)
#undef TSTRAIN_LOAD
    a.path = library.path;
    a.missing = library.missing;
    if (!a.missing.empty()) return a;
    int count = 0;
    a.nvrtcVersion(&a.major, &a.minor);
    if (a.nvrtcGetNumSupportedArchs(&count) == 0) {
      a.architectures.resize(size_t(count));
      a.nvrtcGetSupportedArchs(a.architectures.data());
    }
    return a;
  }();
  return instance;
}

struct OwnProgram {
  const Api& a;
  Program program = nullptr;
  explicit OwnProgram(const Api& a) : a(a) {}
  ~OwnProgram() {
    if (program) a.nvrtcDestroyProgram(&program);
  }
  OwnProgram(const OwnProgram&) = delete;
  OwnProgram& operator=(const OwnProgram&) = delete;

  std::string text(int (*size)(Program, size_t*), int (*get)(Program, char*)) const {
    size_t bytes = 0;
    if (size(program, &bytes) != 0 || bytes == 0) return "";
    std::string text(bytes, '\0');
    get(program, text.data());
    return text;
  }
};

const std::vector<std::string>& common_options() {
  // Generic lambdas are kernels' code too, which only the last one says.
  static const std::vector<std::string> options = {"--std=c++17", "--no-source-include",
                                                   "--device-as-default-execution-space"};
  return options;
}

// A text that ends at its first zero, as NVRTC's do.
std::string trimmed(const std::string& text) { return text.c_str(); }

// Without the constants of a header of NVRTC's own, which no kernel uses: their names hold the number of the process.
std::string reproducible(const std::string& ptx) {
  std::string kept, line;
  for (std::istringstream lines(ptx); std::getline(lines, line);)
    if (line.compare(0, 8, ".global ") != 0 || line.find("_INTERNAL_") == std::string::npos) kept += line + "\n";
  return kept;
}

constexpr char kNamePrefix[] = "//kernel ";

}  // namespace

const Nvrtc& nvrtc() { return api(); }

std::vector<std::string> Source::kernels() const {
  std::vector<std::string> list;
  static const std::string mark = "\nKERNELS(";
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
    size_t end = text.find(")\n", at);
    std::string name;
    int depth = 0;
    // Commas between angle brackets belong to a name.
    for (char c : text.substr(at + mark.size(), end - at - mark.size()) + ",") {
      depth += (c == '<') - (c == '>');
      if (c == ',' && depth == 0) {
        list.push_back(name);
        name.clear();
      } else if (c != ' ' && c != '\n') {
        name += c;
      }
    }
  }
  return list;
}

Compiled compile(const Source& source, const std::string& architecture, const std::vector<std::string>& more,
                 std::string* log) {
  auto& a = api();
  if (!a.missing.empty()) throw OpError("NVRTC " + a.missing);
  OwnProgram own(a);
  std::string file = source.name + ".cu";
  const char *header = source.header.c_str(), *header_name = "on_card.h";
  if (a.nvrtcCreateProgram(&own.program, source.text.c_str(), file.c_str(), 1, &header, &header_name) != 0)
    throw OpError("NVRTC takes no program");
  auto kernels = source.kernels();
  for (auto& kernel : kernels)
    if (a.nvrtcAddNameExpression(own.program, kernel.c_str()) != 0) throw OpError("NVRTC takes no kernel " + kernel);
  std::vector<std::string> options = common_options();
  options.push_back("--gpu-architecture=" + architecture);
  options.insert(options.end(), more.begin(), more.end());
  std::vector<const char*> pointers;
  for (auto& option : options) pointers.push_back(option.c_str());
  int result = a.nvrtcCompileProgram(own.program, int(pointers.size()), pointers.data());
  std::string said = trimmed(own.text(a.nvrtcGetProgramLogSize, a.nvrtcGetProgramLog));
  if (log) *log = said;
  if (result != 0) throw OpError("NVRTC does not compile " + file + " for " + architecture + ": " + said);
  Compiled compiled;
  compiled.ptx = reproducible(trimmed(own.text(a.nvrtcGetPTXSize, a.nvrtcGetPTX)));
  compiled.machine_code = own.text(a.nvrtcGetCUBINSize, a.nvrtcGetCUBIN);
  for (auto& kernel : kernels) {
    const char* name;
    if (a.nvrtcGetLoweredName(own.program, kernel.c_str(), &name) != 0) throw OpError("NVRTC lost " + kernel);
    compiled.names[kernel] = name;
  }
  return compiled;
}

std::string compiler_options() {
  std::string all;
  for (auto& option : common_options()) all += option + " ";
  return all;
}

std::string with_names(const Compiled& compiled) {
  std::string text;
  for (auto& [kernel, name] : compiled.names) text += kNamePrefix + kernel + " " + name + "\n";
  return text + compiled.ptx;
}

Compiled from_file(const std::string& ptx) {
  Compiled compiled;
  compiled.ptx = ptx;
  std::istringstream lines(ptx);
  std::string line;
  const size_t prefix = sizeof kNamePrefix - 1;
  while (std::getline(lines, line) && line.compare(0, prefix, kNamePrefix) == 0) {
    // A name of a kernel may hold no space: KERNELS lists are read without them.
    size_t space = line.find(' ', prefix);
    if (space == std::string::npos) throw OpError("a name of the committed PTX is broken: " + line);
    compiled.names[line.substr(prefix, space - prefix)] = line.substr(space + 1);
  }
  return compiled;
}

}  // namespace tstrain::cuda
